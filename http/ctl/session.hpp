#pragma once

#include <functional>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "http/client/client.hpp"

namespace coordinator::ctl {

/// What `coordctl` exits with; docs/operations.md lists them for users.
enum class exit_status {
  ok = 0,
  failed = 1,       ///< The thing asked for did not succeed: a test failed, a request was refused.
  usage = 2,        ///< The command line, or a file it names, is wrong.
  not_found = 3,    ///< No such task, worker, key or node.
  unavailable = 4,  ///< No node answered, or the cluster has no quorum; or time ran out.
  conflict = 5,     ///< The present state or a version stands in the way.
};

/// Ends a command with one line on stderr.
class ctl_error : public std::runtime_error {
 public:
  ctl_error(exit_status status, const std::string& what) : std::runtime_error(what), status_(status) {}
  exit_status status() const { return status_; }

 private:
  exit_status status_;
};

/// What every command works with: the cluster, and where and how to write.
struct session {
  client& cluster;
  std::ostream& out;
  std::ostream& err;
  bool as_json = false;
  bool terminal = false;  ///< `err` is a terminal: progress may overwrite its line.
};

/// Sends and returns the answer's JSON (null where the body is empty). Anything but a 2xx throws ctl_error, with the
/// exit status that fits and what the problem document says.
nlohmann::json ask(session& s, const client_request& request);
nlohmann::json get(session& s, const std::string& path);
nlohmann::json post(session& s, const std::string& path, const nlohmann::json& body);

/// The reply's ctl_error: what `ask` throws.
ctl_error error_of(const client_reply& reply, const client_request& request);

/// Follows `next_cursor` to the end, or until `limit` elements were seen (0: no limit), and hands over each element
/// of the pages' array `field`. `path` may have a query.
void for_each(session& s, const std::string& path, const char* field, std::size_t limit,
              const std::function<void(nlohmann::json&)>& use);

/// JSON that was not made here may hold any bytes; writing it never throws.
std::string to_text(const nlohmann::json& value, int indent = -1);

/// A member of an object as text, however it is typed; empty where it is missing or null.
std::string text_at(const nlohmann::json& object, const char* field);

/// Milliseconds since the epoch as UTC, `2024-05-01 12:00:00`; empty for a missing or zero time.
std::string time_at(const nlohmann::json& object, const char* field);

}  // namespace coordinator::ctl
