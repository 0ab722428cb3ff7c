#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "actors/link_socket.hpp"
#include "actors/link_tls.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// What one node says to another to be seen, and nothing more.
struct probe_datagram {
  node_id from;
  node_id to;
  std::uint64_t boot_id = 0;
  std::uint64_t number = 0;  ///< Rises with each that a process sends.
};

/// Bytes that only a holder of the key can make.
std::string seal(const probe_datagram&, const std::array<unsigned char, 32>& key);
/// Nothing for bytes that no holder of the key has made, whatever their length.
std::optional<probe_datagram> unseal(std::string_view, const std::array<unsigned char, 32>& key);

/// Tells which direction of a path between two nodes carries packets. Over TCP a node cannot know: where one direction
/// fails, acknowledgements stop, and both ends fall silent alike. So each node sends a small datagram to each peer
/// twice a second, which nobody answers, and notes whose arrive. It is for people who look for a fault: nothing decides
/// by it, and where datagrams are not let through, only the direction of a fault stays unknown.
///
/// Datagrams carry a proof of the cluster secret; one that comes again is worth nothing. One thread does all, because
/// the look-up of a peer's name may take long; strangers' datagrams cost it a bounded share of a processor.
class path_probe {
 public:
  struct target {
    node_id id;
    std::string address;  ///< host:port

    friend bool operator==(const target&, const target&) = default;
  };
  /// Called on the probe's thread for each datagram of a peer that is aimed at; must not block.
  using arrived_function = std::function<void(const node_id&)>;

  /// `socket` comes from datagrams_on. Throws std::system_error if the system gives no thread or descriptor.
  path_probe(file_descriptor socket, const cluster_secret&, node_id self, std::uint64_t boot_id, arrived_function);
  path_probe(const path_probe&) = delete;
  path_probe& operator=(const path_probe&) = delete;
  /// Waits for the thread, no longer than a look-up of a name takes.
  ~path_probe();

  /// Whom to send to and to listen to from now on.
  void aim(std::vector<target>);

 private:
  using steady = std::chrono::steady_clock;
  struct peer {
    std::string address;
    std::optional<socket_address> where;
    steady::time_point look_up_at{};
    std::uint64_t boot_id = 0;  ///< Of the process whose datagram came last, and the highest number of it.
    std::uint64_t number = 0;
  };

  void run();
  void take_aim();
  void send_all();
  void receive_some();
  void receive(std::string_view bytes);

  file_descriptor socket_;
  file_descriptor stop_;
  std::array<unsigned char, 32> key_;
  node_id self_;
  std::uint64_t boot_id_;
  arrived_function arrived_;
  std::uint64_t sent_ = 0;
  std::map<node_id, peer> peers_;

  std::mutex mutex_;
  std::vector<target> targets_;
  std::thread thread_;
};

}  // namespace coordinator
