#include <arpa/inet.h>
#include <gnu/libc-version.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <unistd.h>
#include <valgrind/callgrind.h>
#include <caf/config.hpp>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "http/api.hpp"
#include "http/http_server.hpp"
#include "tests/benchmark/cost_cluster.hpp"
#include "tests/benchmark/cost_counters.hpp"
#include "tests/support/fake_port.hpp"
#include "tests/support/temporary_directory.hpp"

// Prints what a write costs, counted and not timed, as JSON. Under callgrind, each part's instructions are dumped under
// the part's name. write_cost.sh runs it.

namespace coordinator::bench {
namespace {

using nlohmann::ordered_json;

const std::string value(256, 'x');

/// What happens between two calls, for each operation. `more` may add to it.
template <class Run>
ordered_json count(const char* part, unsigned operations, Run&& run) {
  CALLGRIND_START_INSTRUMENTATION;
  auto before = cost_counts::now();
  run();
  auto after = cost_counts::now();
  CALLGRIND_STOP_INSTRUMENTATION;
  CALLGRIND_DUMP_STATS_AT(part);
  ordered_json figures;
  auto each = [&](const char* name, std::uint64_t from, std::uint64_t to) {
    figures[name] = static_cast<double>(to - from) / operations;
  };
  figures["operations"] = operations;
  each("allocations", before.allocations, after.allocations);
  each("syncs", before.syncs, after.syncs);
  each("file writes", before.file_writes, after.file_writes);
  each("bytes written to files", before.written_bytes, after.written_bytes);
  return figures;
}

/// Work of a cluster in rounds: so many requests at once, all answered, then some time.
struct rounds {
  unsigned node;
  unsigned at_once;
  unsigned warm_up;
  unsigned counted;
  milliseconds pause;
};

void write_once(cost_cluster& cluster, const rounds& x) {
  unsigned answered = 0;
  for (unsigned i = 0; i < x.at_once; ++i)
    cluster.port(x.node).write(
        {put_key{"bench-" + std::to_string(i), value, {}, false, false}, {}, 0, milliseconds{5000}},
        [&](write_result result) {
          if (result.outcome != write_result::outcome::applied || !result.result.ok())
            throw std::runtime_error("a write was refused: " + result.reason);
          ++answered;
        });
  cluster.run_until([&] { return answered == x.at_once; });
}

void read_once(cost_cluster& cluster, const rounds& x) {
  unsigned answered = 0;
  for (unsigned i = 0; i < x.at_once; ++i)
    cluster.port(x.node).read({get_key{"bench-" + std::to_string(i)}, true, milliseconds{5000}, -1},
                              [&](read_result result) {
                                auto* found = std::get_if<key_view>(&result.result);
                                if (!result.ok || !found || found->value != value)
                                  throw std::runtime_error("a read was refused: " + result.reason);
                                ++answered;
                              });
  cluster.run_until([&] { return answered == x.at_once; });
}

ordered_json count_rounds(const char* part, cost_cluster& cluster, const rounds& x,
                          void (*once)(cost_cluster&, const rounds&)) {
  auto play = [&](unsigned number) {
    for (unsigned i = 0; i < number; ++i) {
      once(cluster, x);
      cluster.pass(x.pause);
    }
  };
  play(x.warm_up);
  auto messages = cluster.messages();
  auto bytes = cluster.wire_bytes();
  auto operations = x.at_once * x.counted;
  auto figures = count(part, operations, [&] { play(x.counted); });
  figures["messages"] = static_cast<double>(cluster.messages() - messages) / operations;
  figures["bytes between nodes"] = static_cast<double>(cluster.wire_bytes() - bytes) / operations;
  return figures;
}

/// One kept connection, which knows how long the answer to its only request is.
class http_client {
 public:
  http_client(int port, std::string request) : request_(std::move(request)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("cannot connect to the server");
    send();
    auto n = ::recv(socket_, answer_, sizeof answer_, 0);
    if (n <= 0 || std::string_view{answer_, 12} != "HTTP/1.1 200")
      throw std::runtime_error("the server refuses: " +
                               std::string{answer_, static_cast<std::size_t>(std::max<ssize_t>(n, 0))});
    size_ = static_cast<std::size_t>(n);
  }
  ~http_client() { ::close(socket_); }
  http_client(const http_client&) = delete;
  http_client& operator=(const http_client&) = delete;

  void ask() {
    send();
    if (::recv(socket_, answer_, size_, MSG_WAITALL) != static_cast<ssize_t>(size_))
      throw std::runtime_error("an answer is shorter than the one before");
  }

 private:
  void send() {
    if (::send(socket_, request_.data(), request_.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request_.size()))
      throw std::runtime_error("a request was not sent");
  }

  std::string request_;
  int socket_ = -1;
  std::size_t size_ = 0;
  char answer_[16 * 1024];
};

ordered_json count_requests(const char* part, const std::string& request) {
  test::fake_port port;
  port.writes.reserve(1);
  port.reads.reserve(1);
  key_view found;
  found.key = "bench-0";
  found.value = value;
  found.version = 123'456;
  port.read_answer.result = found;
  port.write_answer.result.version = 123'456;
  api routes{port, {}};
  http_server_options options;
  options.port = 0;
  http_server server{options, routes};
  if (auto error = server.start(); !error.empty())
    throw std::runtime_error(error);
  http_client client{server.port(), request};
  auto play = [&](unsigned number) {
    for (unsigned i = 0; i < number; ++i) {
      client.ask();
      port.writes.clear();
      port.reads.clear();
    }
  };
  play(200);
  constexpr unsigned counted = 2000;
  return count(part, counted, [&] { play(counted); });
}

/// `times` as many as are enough for instructions: what happens now and then, such as a checkpoint, is to happen often.
ordered_json count_all(unsigned times) {
  ordered_json parts;
  temporary_directory directory;
  {
    cost_cluster cluster{directory.path()};
    auto of_cluster = [&](const char* part, const rounds& x, auto once) {
      parts[part] = count_rounds(part, cluster, x, once);
    };
    // The log has reached the length at which it stays.
    for (int i = 0; i < 200; ++i)
      write_once(cluster, {cluster.leader(), 64, 0, 0, {}});
    // It is compacted each time that it has grown by 2,500 entries: each part holds a whole number of those times.
    of_cluster("one write", {cluster.leader(), 1, 100, 2500 * times, milliseconds{1}}, write_once);
    of_cluster("64 writes at once", {cluster.leader(), 64, 10, 118 * times, milliseconds{8}}, write_once);
    of_cluster("64 writes at once, at a follower", {cluster.follower(), 64, 10, 118 * times, milliseconds{8}},
               write_once);
    of_cluster("64 reads at once", {cluster.leader(), 64, 10, 100, milliseconds{4}}, read_once);
    // What is written meanwhile is not theirs.
    for (auto* of_writes : {"syncs", "file writes", "bytes written to files"})
      parts["64 reads at once"].erase(of_writes);
  }
  const auto head = std::string{" /api/kv/bench-0 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"};
  parts["HTTP, a write's request"] =
      count_requests("HTTP, a write's request", "PUT" + head + "Content-Length: 256\r\n\r\n" + value);
  parts["HTTP, a read's request"] = count_requests("HTTP, a read's request", "GET" + head + "\r\n");
  return parts;
}

/// What else decides how many instructions there are.
std::string built_with() {
  return "g++ " + std::string{__VERSION__} + ", glibc " + ::gnu_get_libc_version() + ", SQLite " +
         ::sqlite3_libversion() + ", CAF " + std::to_string(CAF_VERSION);
}

}  // namespace
}  // namespace coordinator::bench

int main(int argc, char** argv) try {
  const auto times = argc > 1 ? std::stoul(argv[1]) : 1;
  spdlog::set_level(spdlog::level::off);
  nlohmann::ordered_json all;
  all["built with"] = coordinator::bench::built_with();
  all["figures"] = coordinator::bench::count_all(static_cast<unsigned>(times));
  std::cout << all.dump(2) << '\n';
} catch (const std::exception& e) {
  std::cerr << "write_cost: " << e.what() << '\n';
  return 1;
}
