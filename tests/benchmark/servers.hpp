#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/benchmark/workloads.hpp"
#include "tests/cluster/child_process.hpp"

namespace coordinator::bench {

struct server_settings {
  std::size_t size = 3;
  std::filesystem::path directory;  ///< For data and logs; made anew.
  std::string program;              ///< The coordinator's; etcd's is looked up in PATH.
  std::vector<std::string> flags;   ///< Added to each node's command line.
};

/// Servers of one kind on loopback, as processes, that are killed at the end. All calls throw std::runtime_error that
/// names the log where a server does not do as it should.
class servers {
 public:
  explicit servers(const server_settings& settings);
  virtual ~servers() = default;
  servers(const servers&) = delete;
  servers& operator=(const servers&) = delete;
  static std::unique_ptr<servers> make(peer_kind peer, const server_settings& settings);

  std::size_t size() const { return settings_.size; }
  const host_port& address(std::size_t i) const { return members_.at(i).client; }
  std::vector<host_port> addresses() const;
  /// All but one.
  std::vector<host_port> others(std::size_t i) const;

  void start(std::size_t i);
  void start_all();
  /// SIGKILL, and waits until it is gone.
  void kill(std::size_t i);
  bool runs(std::size_t i) const { return members_.at(i).process != nullptr; }
  void wipe(std::size_t i);

  /// The one that leads, once all that run agree on it.
  std::size_t wait_for_leader();
  /// Hands leadership to another one.
  virtual void transfer(std::size_t from, std::size_t to) = 0;
  /// Waits until it has applied what the leader has committed by now.
  void wait_for(std::size_t i);

  double resident_mb(std::size_t i) const;
  /// Processor time used so far.
  double cpu_seconds(std::size_t i) const;

 protected:
  struct member {
    host_port client;
    host_port peer;
    file_descriptor reserved_client;
    file_descriptor reserved_peer;
    std::unique_ptr<child_process> process;
  };

  std::string name(std::size_t i) const { return "node-" + std::to_string(i); }
  std::string data(std::size_t i) const { return settings_.directory / name(i); }

  virtual std::string program() const = 0;
  virtual std::vector<std::string> command_line(std::size_t i) const = 0;
  /// The leader that it knows of; none if it knows none or does not answer.
  virtual std::optional<std::size_t> leader_of(std::size_t i) const = 0;
  virtual std::uint64_t applied_by(std::size_t i) const = 0;

  server_settings settings_;
  std::vector<member> members_;
};

/// One request to a server, outside of any load.
struct reply {
  int status = 0;  ///< 0: none came.
  std::string body;
};
reply ask(const host_port& server, const std::string& method, const std::string& path, const std::string& body = {},
          std::chrono::milliseconds patience = std::chrono::milliseconds{2000});
/// The same, and throws if it does not succeed.
nlohmann::json must_ask(const host_port& server, const std::string& method, const std::string& path,
                        const std::string& body = {},
                        std::chrono::milliseconds patience = std::chrono::milliseconds{60'000});

/// Polls; throws std::runtime_error that names what was waited for.
void wait_until(const std::string& what, std::chrono::milliseconds patience, const std::function<bool()>& condition);

}  // namespace coordinator::bench
