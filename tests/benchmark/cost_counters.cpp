#include "tests/benchmark/cost_counters.hpp"

#include <dlfcn.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

namespace {

std::atomic<std::uint64_t> allocations;
std::atomic<std::uint64_t> syncs;
std::atomic<std::uint64_t> file_writes;
std::atomic<std::uint64_t> written_bytes;

void count(std::atomic<std::uint64_t>& what, std::uint64_t by = 1) {
  what.fetch_add(by, std::memory_order_relaxed);
}

}  // namespace

// The names under which glibc keeps its own allocator for programs that replace it.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) noexcept {
  count(allocations);
  return __libc_malloc(size);
}

void* calloc(std::size_t n, std::size_t size) noexcept {
  count(allocations);
  return __libc_calloc(n, size);
}

void* realloc(void* old, std::size_t size) noexcept {
  count(allocations);
  return __libc_realloc(old, size);
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
  count(allocations);
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  count(allocations);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** to, std::size_t alignment, std::size_t size) noexcept {
  count(allocations);
  *to = __libc_memalign(alignment, size);
  return *to ? 0 : ENOMEM;
}

void free(void* what) noexcept {
  __libc_free(what);
}

int fsync(int) {
  count(syncs);
  return 0;
}

int fdatasync(int) {
  count(syncs);
  return 0;
}

ssize_t pwrite(int file, const void* from, std::size_t size, off_t at) {
  using function = ssize_t (*)(int, const void*, std::size_t, off_t);
  static const auto real = reinterpret_cast<function>(::dlsym(RTLD_NEXT, "pwrite"));
  count(file_writes);
  count(written_bytes, size);
  return real(file, from, size, at);
}

ssize_t pwrite64(int file, const void* from, std::size_t size, off64_t at) {
  return pwrite(file, from, size, at);
}
}

namespace coordinator::bench {

cost_counts cost_counts::now() {
  return {::allocations, ::syncs, ::file_writes, ::written_bytes};
}

}  // namespace coordinator::bench
