#pragma once

#include <memory>
#include <stdexcept>

#include "actors/options.hpp"

namespace coordinator {

/// Why a node cannot run here: one line that names what is in the way and what would do.
class startup_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Sends this program's log to standard error, a line each: time in UTC, level, message.
void set_up_logging(log_level);

/// One whole node: its data directory, its actors, and the HTTP front before them. The one place where these meet, for
/// the coordinator and for the tests that run nodes in processes of their own.
class program {
 public:
  /// Judges what can keep the node from running, in this order: the files that options name, the ports, the data
  /// directory. Nothing but the directory itself and its lock is made before all of that is well.
  ///
  /// Throws options_error for a file that an option names and that does not hold what it should, and startup_error or
  /// data_directory_error for the rest.
  explicit program(const node_options& options);
  /// Stops, if that was not done, without grace.
  ~program();
  program(const program&) = delete;
  program& operator=(const program&) = delete;

  /// Starts the actors, and then the HTTP front. Throws startup_error. A node that is taken out of its cluster later
  /// notes that in its data directory and sends this process SIGTERM.
  void start();

  /// Hands leadership over, answers what is in flight, and closes the stores, in this order. Takes some seconds at
  /// most, and tells clients and peers as much as it can; all that was acknowledged is durable in any case. Does
  /// nothing the second time.
  void stop();

 private:
  class parts;
  std::unique_ptr<parts> parts_;
};

}  // namespace coordinator
