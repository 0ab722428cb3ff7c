#pragma once

#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace coordinator {

/// What this worker did, as JSON lines that are on the disk before `record` returns: the worker's own account, to be
/// held against the cluster's. Each line has `event`, `time_ms` and `worker_id`. Appends to what is there; a last line
/// that a crash cut short is left as it is, and readers skip it. Safe for several threads.
class journal {
 public:
  /// An empty path records nothing. Throws std::runtime_error if the file cannot be opened.
  journal(const std::string& path, std::string worker_id);
  ~journal();
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;

  /// Throws std::runtime_error if the line cannot be made durable: what is not in the journal must not happen.
  void record(const char* event, nlohmann::json fields);

 private:
  std::string path_;
  std::string worker_id_;
  std::mutex mutex_;
  int file_ = -1;
};

}  // namespace coordinator
