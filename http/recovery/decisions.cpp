#include "http/recovery/decisions.hpp"

#include <algorithm>

namespace coordinator::recovery {

namespace {

/// Those that end or begin a process, and are counted against the limit.
bool renews_process(verb act) {
  return act == verb::start || act == verb::restart || act == verb::rebuild || act == verb::replace ||
         act == verb::demote;
}

bool changes_nothing(verb act) {
  return act == verb::report || act == verb::keep_evidence;
}

/// A node that takes part is missing while it is done.
bool takes_away(verb act) {
  return act == verb::restart || act == verb::rebuild || act == verb::replace || act == verb::demote;
}

std::string text(std::int64_t x) {
  return std::to_string(x);
}

/// Of two nodes between which there is a partition, one says nothing at present.
bool one_is_silent(const observation& seen, const std::string& pair) {
  for (auto& a : seen.nodes)
    for (auto& b : seen.nodes)
      if (a.name < b.name && a.name + "-" + b.name == pair)
        return !a.live || !b.live;
  return false;
}

/// Whether a majority of the voters takes part without this node.
bool can_do_without(const observation& seen, const recovery_config& config, const std::string& name) {
  std::set<std::string> voters;
  for (auto& member : seen.members)
    if (member.voter)
      voters.insert(member.name);
  if (seen.members.empty())
    for (auto& node : config.nodes)
      voters.insert(node.name);
  std::size_t others = 0;
  for (auto& node : seen.nodes)
    others += node.name != name && voters.contains(node.name) && takes_part(node) ? 1 : 0;
  return others >= voters.size() / 2 + 1;
}

}  // namespace

std::size_t decisions::open() const {
  return static_cast<std::size_t>(
      std::count_if(incidents_.begin(), incidents_.end(), [](auto& each) { return each.second.noticed; }));
}

verdict decisions::look(const observation& seen, milliseconds now) {
  verdict out;
  watch_nodes(seen, now);
  auto symptoms = detector_.look(seen, now);
  std::set<key> present;
  for (auto& s : symptoms) {
    present.insert({s.what, s.node});
    update(s, now, out);
  }
  close(seen, present, now, out);
  for (auto& s : symptoms)
    if (s.what == strategy::split_brain && !frozen_) {
      out.intents = {{s.what, s.node, verb::keep_evidence, s.seen, lease_need::none, {}}};
      frozen_ = true;
    }
  // Whatever was decided before the split brain was seen is not done any more.
  if (frozen_)
    return out;
  // What does not run at all is started before anything that runs is touched again.
  std::stable_partition(symptoms.begin(), symptoms.end(),
                        [](const symptom& s) { return s.what == strategy::process_crash; });
  for (auto& s : symptoms)
    choose(s, seen, now, out);
  undo_shedding(out);
  return out;
}

void decisions::update(const symptom& s, milliseconds now, verdict& out) {
  auto [at, is_new] = incidents_.try_emplace({s.what, s.node});
  auto& x = at->second;
  if (is_new) {
    x.since = now;
    x.progress = s.progress;
  }
  ++x.looks;
  x.clear_looks = 0;
  if (x.noticed && x.progress != s.progress)
    x.waiting_since = now;
  x.progress = s.progress;
  if (x.noticed || (!s.at_once && (x.looks < config_.when.confirm_looks || now - x.since < s.hold)))
    return;
  x.noticed = true;
  x.waiting_since = now;
  out.notices.push_back({notice::kind::noticed, s.what, s.node, s.seen, {}});
}

void decisions::close(const observation& seen, const std::set<key>& present, milliseconds now, verdict& out) {
  for (auto at = incidents_.begin(); at != incidents_.end();) {
    auto& [id, x] = *at;
    if (present.contains(id)) {
      ++at;
      continue;
    }
    auto node = find(seen, id.second);
    auto left_alone = node && (node->process.held || node->process.removed || !node->stranger.empty());
    // What was never confirmed was a moment's weakness.
    if (!x.noticed || left_alone || id.first == strategy::split_brain) {
      at = incidents_.erase(at);
      continue;
    }
    // A symptom is also gone where a worse one covers it.
    if ((node && !is_well(*node) && id.first != strategy::resource_exhaustion) || one_is_silent(seen, id.second)) {
      x.clear_looks = 0;
      ++at;
      continue;
    }
    if (x.clear_looks++ == 0)
      x.clear_since = now;
    if (x.clear_looks < config_.when.confirm_looks) {
      ++at;
      continue;
    }
    out.notices.push_back({notice::kind::mended, id.first, id.second, {}, x.clear_since - x.since});
    at = incidents_.erase(at);
  }
}

void decisions::watch_nodes(const observation& seen, milliseconds now) {
  for (auto& node : seen.nodes) {
    auto& a = attempts_[node.name];
    if (!is_well(node))
      a.well_since.reset();
    else if (!a.well_since)
      a.well_since = now;
    if (a.well_since && now - *a.well_since >= config_.limits.forgive_after)
      a.times.clear();
  }
  if (!unsettled_)
    return;
  auto node = find(seen, unsettled_->node);
  // A node that was started may have to wait for others that do not run yet.
  auto settled = !node || (unsettled_->act == verb::start ? node->live : is_well(*node));
  if (settled || now - unsettled_->since >= config_.limits.settle)
    unsettled_.reset();
}

void decisions::choose(const symptom& s, const observation& seen, milliseconds now, verdict& out) {
  auto& x = incidents_.at({s.what, s.node});
  if (!x.noticed)
    return;
  for (auto& r : s.remedies) {
    if (x.done.contains(r.act) && !renews_process(r.act))
      continue;
    if (now - x.waiting_since < r.after)
      return;
    if (!r.allowed) {
      if (!x.withheld.contains(std::string{r.permission}))
        out.intents.push_back(
            {s.what, s.node, verb::report,
             s.seen + "; allow." + std::string{r.permission} + " would let it be mended by " + std::string{word(r.act)},
             lease_need::where_possible, r.permission});
      continue;
    }
    if (changes_nothing(r.act)) {
      out.intents.push_back({s.what, s.node, r.act, s.seen, r.lease, {}});
      // The next remedy waits until this one is known to be done.
      return;
    }
    bool tell = false;
    auto reason = why_not(s, r, seen, now, tell);
    if (reason.empty()) {
      auto touching = std::any_of(out.intents.begin(), out.intents.end(),
                                  [](const intent& other) { return !changes_nothing(other.act); });
      if (!touching)
        out.intents.push_back({s.what, s.node, r.act, s.seen, r.lease, {}});
    } else if (tell && x.withheld.insert(reason).second) {
      out.notices.push_back({notice::kind::withheld, s.what, s.node, std::string{word(r.act)} + ": " + reason, {}});
    }
    return;
  }
}

std::string decisions::why_not(const symptom& s, const remedy& r, const observation& seen, milliseconds now,
                               bool& tell) const {
  auto done = last_done_.find({{s.what, s.node}, r.act});
  if (!renews_process(r.act) && done != last_done_.end() && now - done->second < config_.limits.action_pause)
    return "it was done a moment ago";
  if (unsettled_ && unsettled_->node != s.node)
    return unsettled_->node + " has to be well first";
  auto node = find(seen, s.node);
  tell = true;
  if (takes_away(r.act) && node && takes_part(*node) && !can_do_without(seen, config_, s.node))
    return "the others that take part are no majority without " + s.node;
  tell = false;
  return renews_process(r.act) ? why_no_restart(s.node, now, tell) : std::string{};
}

std::string decisions::why_no_restart(const std::string& node, milliseconds now, bool& tell) const {
  auto found = attempts_.find(node);
  auto tries = found == attempts_.end() ? 0 : static_cast<int>(found->second.times.size());
  if (tries >= config_.limits.restarts) {
    tell = true;
    return "given up after " + text(tries) + " tries; an operator has to look at " + node;
  }
  if (tries > 0 && now - found->second.times.back() < config_.limits.restart_pause)
    return "the last try was less than " + text(config_.limits.restart_pause.count()) + " ms ago";
  return {};
}

void decisions::undo_shedding(verdict& out) {
  if (!shed_for_)
    return;
  for (auto& [id, x] : incidents_)
    if (id.first == strategy::resource_exhaustion && (x.noticed || id.second == *shed_for_))
      return;
  out.intents.push_back(
      {strategy::resource_exhaustion, *shed_for_, verb::unshed, "there is room again", lease_need::always, {}});
}

void decisions::acted(strategy what, const std::string& node, verb act, milliseconds when,
                      std::string_view permission) {
  last_done_[{{what, node}, act}] = when;
  if (act == verb::shed)
    shed_for_ = node;
  if (act == verb::unshed)
    shed_for_.reset();
  if (what == strategy::split_brain)
    return;
  if (renews_process(act)) {
    auto& times = attempts_[node].times;
    times.insert(std::upper_bound(times.begin(), times.end(), when), when);
    if (!unsettled_ || unsettled_->since < when)
      unsettled_ = unsettled{node, act, when};
  }
  auto found = incidents_.find({what, node});
  if (found == incidents_.end())
    return;
  if (permission.empty())
    found->second.done.insert(act);
  else
    found->second.withheld.insert(std::string{permission});
  found->second.waiting_since = std::max(found->second.waiting_since, when);
}

}  // namespace coordinator::recovery
