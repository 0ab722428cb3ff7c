#include "http/recovery/detection.hpp"

#include <algorithm>

namespace coordinator::recovery {

namespace {

std::string text(std::int64_t x) {
  return std::to_string(x);
}

/// The only node that says it leads, in the highest term of those who do.
const node_look* leader_of(const observation& seen) {
  const node_look* leader = nullptr;
  for (auto& node : seen.nodes)
    if (node.status && node.status->role == "LEADER" && (!leader || node.status->term > leader->status->term))
      leader = &node;
  return leader;
}

bool is_member(const observation& seen, const std::string& name) {
  return std::any_of(seen.members.begin(), seen.members.end(), [&](auto& m) { return m.name == name; });
}

bool is_watched(const node_look& node) {
  return !node.process.held && node.stranger.empty() && !node.process.removed;
}

bool is_formed(const node_look& node) {
  return node.status && node.status->role != "UNFORMED";
}

}  // namespace

bool is_well(const node_look& node) {
  return node.answers && node.live && node.ready;
}

bool takes_part(const node_look& node) {
  return node.answers && node.live && is_formed(node) && node.status->role != "LEARNER" &&
         node.status->disk_error.empty();
}

const node_look* find(const observation& seen, const std::string& name) {
  auto found = std::find_if(seen.nodes.begin(), seen.nodes.end(), [&](auto& node) { return node.name == name; });
  return found == seen.nodes.end() ? nullptr : &*found;
}

std::vector<symptom> detector::look(const observation& seen, milliseconds now) {
  remember(seen, now);
  std::vector<symptom> found;
  find_split_brain(seen, found);
  std::set<std::string> cut_off;
  find_partitions(seen, found, cut_off);
  for (auto& node : seen.nodes) {
    if (!is_watched(node))
      continue;
    // A node that is away or has lost its memory is not slow, and one whose disk is full not hung.
    if (find_absence(node, found) || find_lost_log(seen, node, found) || find_damage(node, found) ||
        find_exhaustion(seen, node, found))
      continue;
    // What a node that others do not reach fails to do is explained by that.
    if (!cut_off.contains(node.name) &&
        (find_standstill(seen, node, found) || find_term(seen, node, found) || find_slowness(seen, node, found)))
      continue;
  }
  for (auto& node : seen.nodes)
    if (node.status) {
      memory_[node.name].applied = node.status->last_applied;
      memory_[node.name].commit = node.status->commit_index;
    }
  return found;
}

void detector::remember(const observation& seen, milliseconds now) {
  for (auto& node : seen.nodes) {
    auto& m = memory_[node.name];
    if (node.live)
      m.answered_pid = node.process.pid;
    if (node.status && node.status->state_error.find("differs from that of the other nodes") != std::string::npos)
      m.diverged = true;
    if (!node.process.here)
      continue;
    if (!m.knows_set_aside)
      m.set_aside = {node.process.set_aside.begin(), node.process.set_aside.end()};
    m.knows_set_aside = true;
    for (auto& file : node.process.set_aside)
      if (m.set_aside.insert(file).second) {
        m.rebuild_looks = 1;
        m.rebuild_by_divergence = m.diverged;
      }
    if (m.rebuild_looks > 0 && (++m.rebuild_looks <= config_.when.confirm_looks + 1 || !is_well(node)))
      continue;
    m.rebuild_looks = 0;
  }
  compare_checksums(seen);
  follow_terms(seen, now);
}

void detector::compare_checksums(const observation& seen) {
  std::map<std::int64_t, std::map<std::string, std::vector<std::string>>> by_index;
  for (auto& node : seen.nodes)
    if (node.checksum && node.checksum->index > 0)
      by_index[node.checksum->index][node.checksum->value].push_back(node.name);
  for (auto& [index, values] : by_index) {
    std::size_t all = 0;
    for (auto& [value, names] : values)
      all += names.size();
    for (auto& [value, names] : values)
      for (auto& name : names)
        // Of two that differ nobody knows who is right: both are named, and neither is touched for it alone.
        if (all > 1)
          memory_[name].diverged = names.size() * 2 <= all;
  }
}

void detector::follow_terms(const observation& seen, milliseconds now) {
  std::int64_t highest = 0;
  std::string where;
  for (auto& node : seen.nodes)
    if (node.status && node.status->term > highest) {
      highest = node.status->term;
      where = node.name;
    }
  auto terms_differ = false;
  for (auto& node : seen.nodes)
    terms_differ = terms_differ || (is_formed(node) && node.status->term != highest);
  for (auto& [name, m] : memory_)
    if (m.term_jump_looks > 0 &&
        (++m.term_jump_looks <= config_.when.confirm_looks + 1 || terms_differ || !leader_of(seen)))
      continue;
    else
      m.term_jump_looks = 0;
  if (highest == 0)
    return;
  while (!terms_.empty() && now - terms_.front().first > config_.when.term_window)
    terms_.pop_front();
  if (!terms_.empty() && highest - terms_.front().second >= config_.when.term_jump) {
    auto& m = memory_[where];
    m.term_jump_looks = 1;
    m.term_jump = "the term rose from " + text(terms_.front().second) + " to " + text(highest) + " within " +
                  text((now - terms_.front().first).count()) + " ms; " + where + " has the highest";
    // The same rise is not counted twice.
    terms_.clear();
  }
  if (terms_.empty() || terms_.back().second != highest || now - terms_.back().first > config_.when.interval)
    terms_.emplace_back(now, highest);
}

void detector::find_split_brain(const observation& seen, std::vector<symptom>& out) {
  std::map<std::int64_t, std::set<std::string>> now_leading;
  for (auto& node : seen.nodes)
    if (node.status && node.status->role == "LEADER" && node.stranger.empty()) {
      // A term has one leader for ever, so that looks at different moments count, too; but only within one cluster.
      claims_[{node.status->cluster_id, node.status->term}].insert(node.name);
      now_leading[node.status->term].insert(node.name);
    }
  auto alarm = [&](std::int64_t term, const std::set<std::string>& names) {
    symptom s;
    s.what = strategy::split_brain;
    for (auto& name : names)
      s.node += (s.node.empty() ? "" : "-") + name;
    s.seen = "more than one leader in term " + text(term) + ": " + s.node;
    s.at_once = true;
    s.remedies = {{.act = verb::keep_evidence, .lease = lease_need::none}};
    out.push_back(std::move(s));
  };
  for (auto& [term, names] : now_leading)
    if (names.size() > 1)
      alarm(term, names);
  for (auto& [claim, names] : claims_)
    if (names.size() > 1 && now_leading[claim.second].size() < 2)
      alarm(claim.second, names);
  constexpr std::size_t most_claims = 1'000;
  while (claims_.size() > most_claims)
    claims_.erase(claims_.begin());
}

void detector::find_partitions(const observation& seen, std::vector<symptom>& out,
                               std::set<std::string>& cut_off) const {
  auto reaches = [](const node_look& from, const node_look& to) {
    auto link = from.links.find(to.name);
    // A peer that it does not know of yet is not one that it has lost.
    return link == from.links.end() || link->second;
  };
  auto judged = [](const node_look& node) { return node.live && is_watched(node) && is_formed(node); };
  for (auto& a : seen.nodes)
    for (auto& b : seen.nodes) {
      // An answer to a ping takes both directions: where one of the two gets its answers, the network lets them pass,
      // and the other is only too slow to see it.
      if (a.name >= b.name || !judged(a) || !judged(b) || reaches(a, b) || reaches(b, a))
        continue;
      cut_off.insert({a.name, b.name});
      out.push_back({.what = strategy::network_partition,
                     .node = a.name + "-" + b.name,
                     .seen = a.name + " and " + b.name + " do not reach each other, though both answer from here",
                     .remedies = {{}}});
    }
  for (auto& node : seen.nodes)
    if (!node.process.here && !node.answers && is_watched(node))
      out.push_back({.what = strategy::network_partition,
                     .node = node.name,
                     .seen = node.name + " cannot be reached from here: " + node.failure,
                     .remedies = {{}}});
}

bool detector::find_absence(const node_look& node, std::vector<symptom>& out) {
  auto& process = node.process;
  if (!process.here || (node.answers && node.live))
    return false;
  if (process.pid == 0) {
    if (node.answers)
      return false;
    out.push_back(
        {.what = strategy::process_crash,
         .node = node.name,
         .seen = "no process of " + node.name + " runs",
         .remedies = {{.act = verb::start, .allowed = config_.allow.start_crashed, .permission = "start_crashed"}}});
    return true;
  }
  // One that has just been started reads its files before it answers.
  if (memory_[node.name].answered_pid != process.pid && process.age < config_.when.start_patience)
    return true;
  std::string state = process.state == 'T'   ? ", which is stopped,"
                      : process.state == 'D' ? ", which waits for a disk,"
                                             : "";
  out.push_back(
      {.what = strategy::deadlock,
       .node = node.name,
       .seen = "process " + text(process.pid) + state +
               " does not answer: " + (node.answers ? "its actors are silent" : node.failure),
       .hold = config_.when.hang_after,
       .remedies = {{.act = verb::keep_evidence},
                    {.act = verb::restart, .allowed = config_.allow.restart_stuck, .permission = "restart_stuck"}}});
  return true;
}

bool detector::find_lost_log(const observation& seen, const node_look& node, std::vector<symptom>& out) const {
  if (!node.status || node.status->role != "UNFORMED")
    return false;
  auto lost = node.status->waiting_for.find("raft.db") != std::string::npos;
  if (!lost && !is_member(seen, node.name))
    return true;
  symptom s;
  s.what = strategy::log_corruption;
  s.node = node.name;
  s.seen = node.name + " has lost its raft.db: " + node.status->waiting_for;
  // Only a cluster that works without it can let it join anew.
  if (leader_of(seen) && node.process.here)
    s.remedies.push_back({.act = verb::replace,
                          .allowed = config_.allow.replace_lost,
                          .permission = "replace_lost",
                          .lease = lease_need::always});
  else
    s.remedies.push_back({});
  out.push_back(std::move(s));
  return true;
}

bool detector::find_damage(const node_look& node, std::vector<symptom>& out) const {
  auto found = memory_.find(node.name);
  if (found == memory_.end())
    return false;
  auto& m = found->second;
  auto error = node.status ? node.status->state_error : std::string{};
  auto rebuilding = m.rebuild_looks > 0;
  if (error.empty() && !rebuilding && !m.diverged)
    return false;
  auto divergence = m.diverged || (rebuilding && m.rebuild_by_divergence);
  symptom s;
  s.what = divergence ? strategy::state_divergence : strategy::database_corruption;
  s.node = node.name;
  s.seen = !error.empty() ? error
           : m.diverged   ? "the state of " + node.name + " differs from that of the others at the same index"
                          : node.name + " has set a damaged state aside and rebuilds it";
  s.progress = (node.status ? node.status->snapshot_received : -1) + static_cast<std::int64_t>(m.set_aside.size());
  // The node does it by itself. Where it does not, a restart makes it read its files anew; what differs without being
  // damaged has to be set aside for that.
  s.remedies = {{},
                {.act = divergence ? verb::rebuild : verb::restart,
                 .after = config_.when.rebuild_patience,
                 .allowed = config_.allow.restart_damaged,
                 .permission = "restart_damaged",
                 .lease = lease_need::always}};
  out.push_back(std::move(s));
  return true;
}

bool detector::find_exhaustion(const observation& seen, const node_look& node, std::vector<symptom>& out) const {
  auto& when = config_.when;
  auto either = [](std::int64_t a, std::int64_t b) { return a >= 0 ? a : b; };
  auto free = either(node.process.disk_free_bytes, node.disk_free_bytes);
  auto files = either(node.process.open_files, node.open_files);
  auto limit = either(node.process.open_files_limit, node.open_files_limit);
  auto memory = either(node.process.memory_bytes, node.memory_bytes);
  std::string why;
  auto add = [&](const std::string& text) { why += (why.empty() ? "" : "; ") + text; };
  if (node.status && !node.status->disk_error.empty())
    add("disk: " + node.status->disk_error);
  if (free >= 0 && free < when.disk_free_bytes)
    add("disk: " + text(free) + " bytes are free where " + text(when.disk_free_bytes) + " should be");
  if (node.status && node.status->storage_full)
    add("the quota of disk space is used up");
  // A restart gives back descriptors and memory; on a full disk it helps nobody.
  auto restart_helps = false;
  if (files >= 0 && limit > 0 && files * 100 >= limit * when.open_files_percent) {
    add("descriptors: " + text(files) + " of " + text(limit) + " are open");
    restart_helps = true;
  }
  if (when.memory_bytes > 0 && memory >= when.memory_bytes) {
    add("memory: " + text(memory) + " bytes where " + text(when.memory_bytes) + " are allowed");
    restart_helps = true;
  }
  if (why.empty())
    return false;
  symptom s;
  s.what = strategy::resource_exhaustion;
  s.node = node.name;
  s.seen = why;
  s.remedies = {{}};
  auto leads = leader_of(seen) == &node;
  auto others = std::count_if(seen.nodes.begin(), seen.nodes.end(),
                              [&](auto& other) { return other.name != node.name && is_well(other); });
  if (leads && others > 0)
    s.remedies.push_back({.act = verb::hand_over, .lease = lease_need::always});
  s.remedies.push_back(
      {.act = verb::shed, .allowed = config_.allow.shed_load, .permission = "shed_load", .lease = lease_need::always});
  if (restart_helps)
    s.remedies.push_back({.act = verb::restart,
                          .after = config_.limits.action_pause,
                          .allowed = config_.allow.restart_exhausted,
                          .permission = "restart_exhausted",
                          .lease = lease_need::always});
  out.push_back(std::move(s));
  return true;
}

bool detector::find_standstill(const observation& seen, const node_look& node, std::vector<symptom>& out) const {
  auto found = memory_.find(node.name);
  if (!node.live || !is_formed(node) || found == memory_.end())
    return false;
  auto& now = *node.status;
  auto& before = found->second;
  auto stands = now.snapshot_received < 0 && now.commit_index > now.last_applied && before.commit > before.applied &&
                now.last_applied == before.applied;
  std::string seen_text =
      "entries up to " + text(now.commit_index) + " are committed, and applying stands at " + text(now.last_applied);
  auto leads = leader_of(seen) == &node;
  symptom s;
  if (!stands && leads && now.last_log_index > now.commit_index && now.commit_index == before.commit) {
    // Without a majority nothing can commit, and nobody is to blame for it here.
    std::size_t others = 0;
    for (auto& other : seen.nodes)
      others += takes_part(other) ? 1 : 0;
    auto voters = std::count_if(seen.members.begin(), seen.members.end(), [](auto& m) { return m.voter; });
    stands = voters > 0 && others > static_cast<std::size_t>(voters) / 2;
    seen_text = "the log ends at " + text(now.last_log_index) + ", and committing stands at " + text(now.commit_index) +
                " though a majority is there";
  }
  if (!stands)
    return false;
  s.what = strategy::deadlock;
  s.node = node.name;
  s.seen = seen_text;
  s.hold = config_.when.hang_after;
  s.remedies = {{.act = verb::keep_evidence}};
  if (leads)
    s.remedies.push_back({.act = verb::hand_over, .lease = lease_need::always});
  s.remedies.push_back({.act = verb::restart,
                        .after = leads ? config_.when.hang_after : milliseconds{0},
                        .allowed = config_.allow.restart_stuck,
                        .permission = "restart_stuck",
                        .lease = lease_need::always});
  out.push_back(std::move(s));
  return true;
}

bool detector::find_term(const observation& seen, const node_look& node, std::vector<symptom>& out) const {
  auto found = memory_.find(node.name);
  auto jumped = found != memory_.end() && found->second.term_jump_looks > 0;
  auto leader = leader_of(seen);
  auto apart = leader && node.live && is_formed(node) && node.status->term != leader->status->term;
  if (!jumped && !apart)
    return false;
  symptom s;
  s.what = strategy::term_divergence;
  s.node = node.name;
  s.seen = jumped ? found->second.term_jump
                  : node.name + " is in term " + text(node.status->term) + ", and its leader " + leader->name + " in " +
                        text(leader->status->term);
  s.at_once = jumped;
  s.hold = jumped ? milliseconds{0} : config_.when.term_patience;
  s.remedies = {{}};
  if (apart)
    s.remedies.push_back({.act = verb::restart,
                          .after = config_.when.term_patience,
                          .allowed = config_.allow.restart_term,
                          .permission = "restart_term",
                          .lease = lease_need::always});
  out.push_back(std::move(s));
  return true;
}

bool detector::find_slowness(const observation& seen, const node_look& node, std::vector<symptom>& out) {
  auto leader = leader_of(seen);
  auto found = memory_.find(node.name);
  if (!leader || leader == &node || !node.live || !is_formed(node) || found == memory_.end())
    return false;
  auto lag = leader->status->commit_index - node.status->last_applied;
  auto& least = found->second.least_lag;
  if (lag < config_.when.slow_lag) {
    least = -1;
    return false;
  }
  // Whoever catches up is left to it, however far behind.
  least = least < 0 ? lag : std::min(least, lag);
  out.push_back({.what = strategy::slow_follower,
                 .node = node.name,
                 .seen = node.name + " is " + text(lag) + " entries behind",
                 .hold = config_.when.slow_after,
                 .progress = least * 2 + node.status->snapshot_received,
                 .remedies = {{},
                              {.act = verb::resync, .lease = lease_need::always},
                              {.act = verb::demote,
                               .after = config_.when.slow_after,
                               .allowed = config_.allow.demote_slow && node.process.here,
                               .permission = "demote_slow",
                               .lease = lease_need::always}}});
  return true;
}

}  // namespace coordinator::recovery
