#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/cluster/child_process.hpp"

namespace coordinator {

/// A network of its own for the machines of one test: the calling thread moves into a fresh network namespace, which
/// routes between one namespace for each machine and is where tests cut them apart. Threads that it starts meanwhile
/// are there, too. All of it is gone when this object is, and with the process at the latest.
class isolated_network {
 public:
  /// Throws std::runtime_error saying what this machine does not allow. Then nothing was changed.
  explicit isolated_network(int machines);
  /// Moves the calling thread, which must be the one that made it, back.
  ~isolated_network();
  isolated_network(const isolated_network&) = delete;
  isolated_network& operator=(const isolated_network&) = delete;

  /// The address of a machine, counted from 0.
  std::string address(int machine) const;
  /// A descriptor of its namespace, for a process that is to live there.
  int network_namespace(int machine) const;

  /// Drops every packet between two machines, in both directions and without a word to either. The test itself still
  /// reaches both.
  void cut(int a, int b);
  void heal(int a, int b);

 private:
  struct machine {
    std::unique_ptr<child_process> holder;  ///< Keeps the namespace while no other process is in it.
    file_descriptor space;
  };

  file_descriptor home_;
  std::vector<machine> machines_;
};

}  // namespace coordinator
