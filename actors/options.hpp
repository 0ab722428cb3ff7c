#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "actors/link_socket.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// One entry of `--peers`: another node, by the address that clients use.
struct peer_options {
  std::optional<node_id> id;  ///< None: it is learnt when the peer introduces itself.
  host_port http;
  host_port cluster;

  friend bool operator==(const peer_options&, const peer_options&) = default;
};

enum class log_level : std::uint8_t { trace, debug, info, warn, error, off };

/// How much of its files a node reads through after its start, in the background.
enum class verify_level : std::uint8_t {
  off,    ///< Nothing but what starting reads anyway.
  quick,  ///< SQLite's quick_check, and the checksums of the log's rows.
  full,   ///< The same, and every row of the state with its hash.
};

/// What an operator asked of one node, checked: every value is in its range and the values agree with each other.
/// Whether ports are free, names resolve and files can be read is for those to find out who use them.
struct node_options {
  node_id id;
  host_port http;         ///< Where the HTTP port binds.
  host_port cluster;      ///< Where the port for other nodes binds; the host is that of `http`.
  std::string advertise;  ///< The host by which clients and peers reach this node; never a wildcard.
  std::filesystem::path data_dir;
  bool redundancy = false;          ///< False: a cluster of one, and `peers` is empty.
  std::vector<peer_options> peers;  ///< The other nodes; never this one, none twice.
  std::chrono::milliseconds election_timeout_min{150};
  std::chrono::milliseconds election_timeout_max{300};
  std::chrono::milliseconds heartbeat_interval{50};
  std::optional<std::filesystem::path> cluster_secret_file;  ///< None: the user's own file, for loopback only.
  std::optional<std::filesystem::path> cluster_token_file;   ///< None: Raft over HTTP is for loopback only.
  log_level level = log_level::info;
  std::chrono::milliseconds retention = std::chrono::hours{14 * 24};  ///< Of finished tasks; 0: for ever.
  std::uint64_t quota_bytes = std::uint64_t{8} << 30;                 ///< Of the node's files; 0: none.
  std::uint64_t log_retention_entries = 10'000;  ///< Log entries kept behind compaction, for slow followers.
  verify_level verify = verify_level::quick;
  bool auto_promote = true;  ///< As leader: make voters of learners that keep up.

  /// host:port by which clients reach this node.
  std::string http_address() const { return to_string(host_port{advertise, http.port}); }
  /// host:port by which peers reach this node.
  std::string cluster_address() const { return to_string(host_port{advertise, cluster.port}); }
};

/// A value that cannot be used: one line that names the flag, the value, where it came from when that was not the
/// command line, and what would do.
class options_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a command line asks for: a node to be started, or, where `print` is not empty, only a text to be printed.
struct parsed_options {
  node_options node;
  std::string print;
};

/// Reads the command line without the program's name, the environment's COORDINATOR_… variables, and the JSON
/// file that `--config` names; the first of these that gives a value wins. Other variables are ignored.
/// Reads that file and this machine's name, and touches nothing else.
///
/// Throws options_error.
parsed_options parse_options(const std::vector<std::string>& arguments);

/// The text of `--help`: every option with its default.
std::string options_help();

}  // namespace coordinator
