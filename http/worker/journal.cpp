#include "http/worker/journal.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace coordinator {

namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw std::runtime_error("journal " + path + ": " + what + ": " + std::strerror(errno));
}

void write_all(int file, const std::string& path, std::string_view data) {
  while (!data.empty()) {
    auto written = ::write(file, data.data(), data.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      fail(path, "cannot write");
    data.remove_prefix(static_cast<std::size_t>(written));
  }
}

bool ends_in_the_middle_of_a_line(int file) {
  char last = '\n';
  auto size = ::lseek(file, 0, SEEK_END);
  return size > 0 && ::pread(file, &last, 1, size - 1) == 1 && last != '\n';
}

}  // namespace

journal::journal(const std::string& path, std::string worker_id) : path_(path), worker_id_(std::move(worker_id)) {
  if (path.empty())
    return;
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0)
    fail(path_, "cannot open");
  if (ends_in_the_middle_of_a_line(file_))
    write_all(file_, path_, "\n");
}

journal::~journal() {
  if (file_ >= 0)
    ::close(file_);
}

void journal::record(const char* event, nlohmann::json fields) {
  if (file_ < 0)
    return;
  using namespace std::chrono;
  fields["event"] = event;
  fields["worker_id"] = worker_id_;
  fields["time_ms"] = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  auto line = fields.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  std::lock_guard lock{mutex_};
  write_all(file_, path_, line);
  if (::fdatasync(file_) != 0)
    fail(path_, "cannot sync");
}

}  // namespace coordinator
