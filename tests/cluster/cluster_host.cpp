// A machine of the cluster tests, as a process: it knows how to run coordinator nodes and waits to be told to, through
// CAF. It ends when the test process does, which it learns from its standard input.

#include <signal.h>
#include <unistd.h>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/io/middleman.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>

#include "actors/options.hpp"
#include "http/program.hpp"
#include "tests/cluster/host_node.hpp"

namespace coordinator {

namespace {

class host_node_actor : public host_node::base {
 public:
  host_node_actor(caf::actor_config& config, const std::string& command_line)
      : host_node::base(config), command_line_(command_line) {}

  behavior_type make_behavior() override {
    // Blocking is fine here: nothing else happens in this process's own actor system.
    start();
    return {
        [this](status_atom) { return error_; },
        [this](stop_atom) -> std::string {
          if (program_)
            program_->stop();
          return error_;
        },
    };
  }

 private:
  void start() try {
    auto arguments = nlohmann::json::parse(command_line_).get<std::vector<std::string>>();
    auto options = parse_options(arguments).node;
    set_up_logging(options.level);
    program_ = std::make_unique<program>(options);
    program_->start();
  } catch (const std::exception& e) {
    error_ = *e.what() ? e.what() : "no reason given";
  }

  std::string command_line_;
  std::unique_ptr<program> program_;
  std::string error_;
};

struct host_config : caf::actor_system_config {
  host_config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 2);
    load<caf::io::middleman>();
    add_actor_type<host_node_actor, const std::string&>(host_node_type);
  }
};

int run(const char* address) {
  ::signal(SIGPIPE, SIG_IGN);
  host_config config;
  caf::actor_system system{config};
  auto port = system.middleman().open(0, address);
  if (!port) {
    std::fprintf(stderr, "cluster_host: cannot listen on %s\n", address);
    return 1;
  }
  std::printf("%u\n", unsigned{*port});
  std::fflush(stdout);
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  // Ended as a machine ends: without a word.
  ::_exit(0);
}

}  // namespace

}  // namespace coordinator

int main(int argc, char** argv) {
  return coordinator::run(argc > 1 ? argv[1] : "127.0.0.1");
}
