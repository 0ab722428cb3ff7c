#pragma once

#include <mutex>
#include <string>
#include <utility>

namespace coordinator {

/// The name, within the data directory, of the file that holds the node's state now, for those who open it beside its
/// writer: it changes when a state is installed, and when a failing disk makes the writer go on in a copy. Decides
/// nothing; thread-safe.
class present_state_file {
 public:
  explicit present_state_file(std::string name) : name_(std::move(name)) {}

  std::string get() const {
    std::lock_guard lock{mutex_};
    return name_;
  }
  void set(std::string name) {
    std::lock_guard lock{mutex_};
    name_ = std::move(name);
  }
  /// Unless another one has taken its place meanwhile.
  void replace(const std::string& from, std::string to) {
    std::lock_guard lock{mutex_};
    if (name_ == from)
      name_ = std::move(to);
  }

 private:
  mutable std::mutex mutex_;
  std::string name_;
};

}  // namespace coordinator
