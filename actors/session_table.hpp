#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/commands.hpp"
#include "actors/rules.hpp"
#include "actors/state_rows.hpp"

namespace coordinator {

/// The sessions of gateways, and the results of their commands until the gateway has them: what makes a command apply
/// once, however many copies of it reach the log (rule 10). Time never closes a session.
class session_table {
 public:
  session_table(state_rows& rows, const defect_set& defects) : rows_(rows), defects_(defects) {}

  /// See open_session. The numbers of the sessions that this closes are appended to `closed`.
  command_result open(const open_session& x, std::uint64_t index, std::int64_t now_ms,
                      std::vector<std::uint64_t>& closed);

  /// What is to be done with a command: apply it (nothing), or answer this. Moves the session's lowest unanswered
  /// sequence on, and drops the results below it.
  std::optional<command_result> admit(const command& x);

  /// Keeps the result of a command that `admit` let pass.
  void store(const command& x, const command_result& result);

  /// Closes the sessions of nodes that are no members any more, or not in that incarnation.
  void keep_only(const membership& members, std::vector<std::uint64_t>& closed);

  std::size_t size() const { return sessions_.size(); }
  std::size_t result_count() const;

  bool load_session(std::string_view id, std::string_view body);
  /// Results are loaded after all sessions.
  bool load_result(std::string_view id, std::string_view body);

 private:
  struct stored_result {
    std::string bytes;
    std::uint64_t hash = 0;
  };
  struct session {
    std::uint64_t number = 0;
    node_id node;
    incarnation_id incarnation;
    std::uint64_t boot_id = 0;
    std::int64_t opened_ms = 0;
    std::uint64_t lowest_unanswered = 0;
    std::uint64_t hash = 0;
    std::map<std::uint64_t, stored_result> results;

    template <class Inspector>
    friend typename Inspector::result_type inspect(Inspector& f, session& x) {
      return f(x.number, x.node, x.incarnation, x.boot_id, x.opened_ms, x.lowest_unanswered);
    }
  };
  using sessions = std::map<std::uint64_t, session>;

  static std::string result_id(std::uint64_t session, std::uint64_t sequence);
  void drop_results_below(session& x, std::uint64_t sequence);
  sessions::iterator close(sessions::iterator x, std::vector<std::uint64_t>& closed);

  state_rows& rows_;
  const defect_set& defects_;
  sessions sessions_;
};

}  // namespace coordinator
