#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "http/recovery/config.hpp"
#include "http/recovery/observation.hpp"
#include "http/recovery/strategy.hpp"

namespace coordinator::recovery {

/// A node that answers, is live and ready: nothing is missing.
bool is_well(const node_look& node);
/// A node whose vote and acknowledgements count now, as far as can be seen from outside.
bool takes_part(const node_look& node);
const node_look* find(const observation& seen, const std::string& name);

/// Tells failures from looks at the nodes. Remembers what it needs of earlier looks; no clock, no I/O.
class detector {
 public:
  explicit detector(const recovery_config& config) : config_(config) {}

  /// All that is wrong in this look, at most one symptom for a node; the others of a node that has several wait until
  /// the first is mended. Nodes on hold and strangers have none. `now` never goes back.
  std::vector<symptom> look(const observation& seen, milliseconds now);

 private:
  struct memory {
    int answered_pid = 0;       ///< The process that was seen to answer.
    std::int64_t applied = -1;  ///< In the look before.
    std::int64_t commit = -1;
    std::int64_t least_lag = -1;  ///< Since the follower was last near enough.
    bool diverged = false;        ///< By the last comparison of checksums.
    bool knows_set_aside = false;
    std::set<std::string> set_aside;
    int rebuild_looks = 0;  ///< Since a state was seen to be set aside; 0: none was.
    bool rebuild_by_divergence = false;
    int term_jump_looks = 0;
    std::string term_jump;
  };

  void remember(const observation& seen, milliseconds now);
  void compare_checksums(const observation& seen);
  void follow_terms(const observation& seen, milliseconds now);
  void find_split_brain(const observation& seen, std::vector<symptom>& out);
  void find_partitions(const observation& seen, std::vector<symptom>& out, std::set<std::string>& cut_off) const;
  bool find_absence(const node_look& node, std::vector<symptom>& out);
  bool find_lost_log(const observation& seen, const node_look& node, std::vector<symptom>& out) const;
  bool find_damage(const node_look& node, std::vector<symptom>& out) const;
  bool find_exhaustion(const observation& seen, const node_look& node, std::vector<symptom>& out) const;
  bool find_standstill(const observation& seen, const node_look& node, std::vector<symptom>& out) const;
  bool find_term(const observation& seen, const node_look& node, std::vector<symptom>& out) const;
  bool find_slowness(const observation& seen, const node_look& node, std::vector<symptom>& out);

  const recovery_config& config_;
  std::map<std::string, memory> memory_;
  std::map<std::pair<std::string, std::int64_t>, std::set<std::string>> claims_;  ///< By cluster and term.
  std::deque<std::pair<milliseconds, std::int64_t>> terms_;
};

}  // namespace coordinator::recovery
