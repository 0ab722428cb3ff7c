#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "http/recovery/detection.hpp"

namespace coordinator::recovery {

/// What is to be done now. Whoever does it says so by `decisions::acted`.
struct intent {
  strategy what = strategy::process_crash;
  std::string node{};
  verb act = verb::report;
  std::string seen{};
  lease_need lease = lease_need::where_possible;
  std::string_view permission{};  ///< Of a report of what is not allowed: the field of `allow` that would allow it.
};

/// What became known, for the log.
struct notice {
  enum class kind {
    noticed,   ///< A failure was confirmed.
    mended,    ///< It is over.
    withheld,  ///< Something would be done, but must not be; `text` says why.
  };
  kind what = kind::noticed;
  strategy about = strategy::process_crash;
  std::string node{};
  std::string text{};
  milliseconds took{0};  ///< Of a mended one: from the first look that showed it to the first that did not.
};

struct verdict {
  std::vector<notice> notices{};
  std::vector<intent> intents{};  ///< All reports, and at most one that changes something.
};

/// Decides what is done about failures: when, how often, and with how much at once. Pure: it has no clock and does
/// nothing itself.
///
/// - A failure counts when `confirm_looks` looks in a row have shown it, for as long as its symptom asks.
/// - Remedies follow each other from the least invasive on; one that the operator does not allow is reported instead.
/// - A node's process is started, restarted or replaced `limits.restarts` times at most, `restart_pause` apart; the
/// count
///   begins anew when the node has been well for `forgive_after`.
/// - Nothing is done to a node that takes part unless the others that take part are a majority of the voters without
///   it; and while one node that was acted on is not well yet, for `settle` at most, no other is touched.
/// - After a split brain was seen nothing is done at all any more.
class decisions {
 public:
  explicit decisions(const recovery_config& config) : config_(config), detector_(config) {}

  verdict look(const observation& seen, milliseconds now);

  /// That something was done at `when`, by whomever: by this daemon, or by one that held the lease before. Until it is
  /// said, the same intent comes with each look.
  void acted(strategy what, const std::string& node, verb act, milliseconds when, std::string_view permission = {});

  /// An operator's mark says that a split brain is not cleared yet.
  void freeze() { frozen_ = true; }
  /// It is cleared.
  void thaw() { frozen_ = false; }
  bool frozen() const { return frozen_; }

  /// Failures that are confirmed and not mended.
  std::size_t open() const;
  /// Failures that were seen and are neither confirmed nor over.
  std::size_t suspected() const { return incidents_.size() - open(); }

 private:
  using key = std::pair<strategy, std::string>;
  struct incident {
    milliseconds since{0};
    int looks = 0;
    int clear_looks = 0;
    milliseconds clear_since{0};
    bool noticed = false;
    milliseconds waiting_since{0};  ///< When it was noticed, something was done, or there was progress.
    std::int64_t progress = 0;
    std::set<verb> done;
    std::set<std::string> withheld;  ///< Reasons that were told already.
  };
  struct attempts {
    std::vector<milliseconds> times;
    std::optional<milliseconds> well_since;
  };
  struct unsettled {
    std::string node;
    verb act = verb::report;
    milliseconds since{0};
  };

  void update(const symptom& s, milliseconds now, verdict& out);
  void close(const observation& seen, const std::set<key>& present, milliseconds now, verdict& out);
  void watch_nodes(const observation& seen, milliseconds now);
  void choose(const symptom& s, const observation& seen, milliseconds now, verdict& out);
  void undo_shedding(verdict& out);
  /// Why it must not be done now; empty: it may. `tell` says whether that is worth a line in the log.
  std::string why_not(const symptom& s, const remedy& r, const observation& seen, milliseconds now, bool& tell) const;
  std::string why_no_restart(const std::string& node, milliseconds now, bool& tell) const;

  const recovery_config& config_;
  detector detector_;
  bool frozen_ = false;
  std::map<key, incident> incidents_{};
  std::map<std::string, attempts> attempts_{};
  std::map<std::pair<key, verb>, milliseconds> last_done_{};
  std::optional<unsettled> unsettled_{};
  std::optional<std::string> shed_for_{};
};

}  // namespace coordinator::recovery
