#include "http/program.hpp"

#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <vector>

#include "actors/link_socket.hpp"
#include "actors/link_tls.hpp"
#include "actors/node.hpp"
#include "actors/observer.hpp"
#include "http/api.hpp"
#include "http/http_server.hpp"
#include "persistence/data_directory.hpp"

namespace coordinator {

namespace {

/// For requests in flight; long polls end by themselves as soon as the server is being stopped.
constexpr milliseconds request_grace{6000};

/// The node reads the secret itself; here a file that an option names is judged as all options are.
void check_secret(const node_options& options) {
  if (!options.cluster_secret_file)
    return;
  auto loaded = load_cluster_secret(*options.cluster_secret_file);
  if (!loaded.secret)
    throw options_error("--cluster-secret-file: " + loaded.error);
}

std::string read_token(const node_options& options) {
  if (!options.cluster_token_file)
    return {};
  auto path = options.cluster_token_file->string();
  std::ifstream file{path};
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  if (!file)
    throw options_error("--cluster-token-file " + path + ": cannot be read; name a file that this user can read");
  constexpr auto white_space = " \t\r\n";
  auto first = text.find_first_not_of(white_space);
  auto last = text.find_last_not_of(white_space);
  if (first == std::string::npos || text.find_first_of(white_space, first) <= last)
    throw options_error("--cluster-token-file " + path + ": must hold one word, the token");
  return text.substr(first, last - first + 1);
}

/// Descriptors that clients' connections never take: those of files, of links, and of handshakes at their gate.
constexpr rlim_t own_descriptors = 400;
constexpr rlim_t most_descriptors = 65'536;

/// Raises the process's soft limit of descriptors as far as it may, and gives how many connections of clients leave the
/// node enough of them: without any, it could neither open a file nor answer a probe.
std::size_t connections_within_limits(std::size_t wanted) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0)
    return wanted;
  if (auto raised = files; files.rlim_cur < std::min(files.rlim_max, most_descriptors)) {
    raised.rlim_cur = std::min(files.rlim_max, most_descriptors);
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0)
      files = raised;
  }
  const rlim_t spare = files.rlim_cur > own_descriptors ? files.rlim_cur - own_descriptors : 0;
  const auto limit = std::min<std::size_t>(wanted, std::max<rlim_t>(spare, 32));
  if (limit < wanted)
    spdlog::warn("{} descriptors are allowed: {} connections of clients at once instead of {}; raise LimitNOFILE",
                 files.rlim_cur, limit, wanted);
  return limit;
}

/// A port that is taken is found before the data directory is made, although both ports are bound for good only later.
void check_port(const std::string& flag, const host_port& address) {
  auto probe = listen_on(address);
  if (probe.socket)
    return;
  bool taken = probe.error.find(std::strerror(EADDRINUSE)) != std::string::npos;
  throw startup_error(probe.error +
                      (taken ? "; end what uses it, or give another " : "; give another --host, or another ") + flag);
}

std::uint64_t draw_seed() {
  std::random_device source;
  return (std::uint64_t{source()} << 32) | source();
}

}  // namespace

class program::parts {
 public:
  explicit parts(const node_options& options) : options_(options) {
    check_secret(options_);
    token_ = read_token(options_);
    check_port("--port", options_.http);
    check_port("--cluster-port", options_.cluster);
    directory_.emplace(options_.data_dir, options_.id);
  }

  ~parts() {
    stop(milliseconds{0});
    front_.reset();
    api_.reset();
    if (!node_)
      return;
    node_.reset();
    // Tearing an actor system of CAF 0.17 down races with detached actors on their way out (CAF #1196, #1266), and may
    // hang. It holds nothing of value once the node's stores are closed, so it lives as long as the process.
    static auto& kept = *new std::vector<std::unique_ptr<caf::actor_system>>;
    kept.push_back(std::move(system_));
    static_cast<void>(config_.release());
  }

  void start() {
    config_ = std::make_unique<caf::actor_system_config>();
    configure_node(*config_);
    system_ = std::make_unique<caf::actor_system>(*config_);
    node_environment environment;
    environment.seed = draw_seed();
    watcher_ = std::make_shared<observer>(options_.id, draw_seed());
    environment.watcher = watcher_;
    environment.on_removed = [this] { leave_cluster(); };
    node_ = std::make_unique<node>(*system_, options_, *directory_, environment);
    api_options for_api;
    for_api.cluster_token = token_;
    for_api.data_dir = options_.data_dir.string();
    for_api.watcher = watcher_;
    for_api.connections = [this] { return front_ ? front_->connections() : 0; };
    api_ = std::make_unique<api>(node_->port(), for_api);
    http_server_options for_server;
    for_server.host = options_.http.host;
    for_server.port = options_.http.port;
    for_server.threads.limit = connections_within_limits(for_server.threads.limit);
    front_ = std::make_unique<http_server>(for_server, *api_);
    if (auto error = front_->start(); !error.empty())
      throw startup_error(error);
    spdlog::info("node {} of version {}: HTTP on {}, peers on {}, data in {}", options_.id.value, COORDINATOR_VERSION,
                 to_string(options_.http), to_string(options_.cluster), options_.data_dir.string());
    if (directory_->condition() == directory_condition::lost_disk)
      spdlog::error("the data directory is that of a node that lost its disk: {}", directory_->damage());
  }

  void stop(milliseconds grace) {
    if (stopped_ || !node_)
      return;
    stopped_ = true;
    // The front first: what is in flight is answered while this node can still commit it, and clients that come later
    // find a closed port, which sends them to another node at once. Then the node hands leadership over.
    if (front_)
      front_->stop(grace);
    if (api_)
      api_->close();
    node_->stop();
  }

 private:
  /// Ends the process as an operator would.
  void leave_cluster() try {
    directory_->mark_removed();
    ::kill(::getpid(), SIGTERM);
  } catch (const data_directory_error& e) {
    spdlog::error("{}", e.what());
    ::kill(::getpid(), SIGTERM);
  }

  const node_options options_;
  std::string token_;
  std::optional<data_directory> directory_;
  std::unique_ptr<caf::actor_system_config> config_;
  std::unique_ptr<caf::actor_system> system_;
  std::shared_ptr<observer> watcher_;
  std::unique_ptr<node> node_;
  std::unique_ptr<api> api_;
  std::unique_ptr<http_server> front_;
  bool stopped_ = false;
};

program::program(const node_options& options) : parts_(std::make_unique<parts>(options)) {}

program::~program() = default;

void program::start() {
  parts_->start();
}

void program::stop() {
  parts_->stop(request_grace);
}

void set_up_logging(log_level level) {
  auto logger = spdlog::get("coordinator");
  if (!logger) {
    logger = spdlog::stderr_logger_mt("coordinator");
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %-5l %v", spdlog::pattern_time_type::utc);
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(logger);
  }
  switch (level) {
    case log_level::trace:
      return spdlog::set_level(spdlog::level::trace);
    case log_level::debug:
      return spdlog::set_level(spdlog::level::debug);
    case log_level::info:
      return spdlog::set_level(spdlog::level::info);
    case log_level::warn:
      return spdlog::set_level(spdlog::level::warn);
    case log_level::error:
      return spdlog::set_level(spdlog::level::err);
    case log_level::off:
      return spdlog::set_level(spdlog::level::off);
  }
}

}  // namespace coordinator
