#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "actors/options.hpp"
#include "actors/present_state_file.hpp"
#include "persistence/node_files.hpp"

namespace coordinator {

struct file_check_settings {
  verify_level level = verify_level::quick;
  std::shared_ptr<node_files> files;
  std::shared_ptr<present_state_file> state_file;
  /// Each is called on the check's own thread and must only hand on what it is told.
  std::function<void(std::string)> log_damaged;
  std::function<void(std::string)> state_damaged;
  std::function<void()> done;  ///< Once, also when the check was stopped.
};

/// The check of a node's files after its start, beside the node that runs on them: through read-only connections, on a
/// thread that has the processor when nobody else wants it.
class file_check {
 public:
  /// Begins at once; a level of `off` is done at once.
  explicit file_check(file_check_settings settings);
  /// Stops it and waits for its thread: some milliseconds.
  ~file_check();
  file_check(const file_check&) = delete;
  file_check& operator=(const file_check&) = delete;

 private:
  void run() noexcept;
  void check_log() const;
  void check_state() const;

  const file_check_settings settings_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace coordinator
