#include "actors/formation.hpp"

#include <algorithm>

namespace coordinator {
namespace {

bool lists(const membership& members, const sender& who) {
  auto m = members.find(who.id);
  return m && m->incarnation == who.incarnation;
}

bool lists(const genesis& founding, const sender& who) {
  return lists(founding.founders, who);
}

}  // namespace

formation::formation(formation_config config, formation_state saved)
    : config_(std::move(config)), saved_(std::move(saved)) {}

// -- who is there ------------------------------------------------------------------

void formation::on_peer_up(const sender& who, const std::string& http_address) {
  peers_[who.id] = {who, http_address, std::nullopt};
}

void formation::on_peer_down(const node_id& id) {
  peers_.erase(id);
}

/// Everyone that --peers names, this node included, ascending; empty as long as somebody's id is not known.
std::vector<node_id> formation::expects() const {
  std::vector<node_id> ids{config_.self.id};
  for (auto& configured : config_.peers) {
    auto i = std::find_if(peers_.begin(), peers_.end(), [&](const auto& p) {
      return configured.id ? p.first == *configured.id : p.second.http_address == configured.http_address;
    });
    if (i != peers_.end())
      ids.push_back(i->first);
    else if (configured.id)
      ids.push_back(*configured.id);
    else
      return {};
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

const formation_status* formation::said_by(const node_id& id) const {
  auto i = peers_.find(id);
  return i == peers_.end() || !i->second.said ? nullptr : &*i->second.said;
}

/// Everyone is reachable, not formed, and expects the same nodes.
bool formation::everyone_agrees() const {
  auto ids = expects();
  std::size_t agree = 0;
  for (auto& id : ids) {
    auto said = said_by(id);
    agree += id == config_.self.id || (said && said->founded.cluster_id.empty() && said->expects == ids);
  }
  auto needed = config_.defects.has(defect::found_beside_formed) ? ids.size() / 2 + 1 : ids.size();
  return !ids.empty() && agree >= needed;
}

/// Whether that founder still has the disk that it had when the proposal was made.
bool formation::incarnation_is(const member& m) const {
  if (m.id == config_.self.id)
    return m.incarnation == config_.self.incarnation;
  auto i = peers_.find(m.id);
  return i != peers_.end() && i->second.who.incarnation == m.incarnation;
}

formation_status formation::status() const {
  // Only what is durable is said.
  return {config_.self, config_.http_address, config_.cluster_address, expects(),
          {},           saved_.proposal,      saved_.abandoned};
}

std::string formation::waiting_for() const {
  for (auto& [id, peer] : peers_)
    if (peer.said && !peer.said->founded.cluster_id.empty() && !lists(peer.said->founded, config_.self))
      return "node " + id.value + " belongs to cluster " + peer.said->founded.cluster_id +
             ", which this node's disk is no member of: an operator lets it join by coordctl cluster add " +
             config_.self.id.value;
  for (auto& configured : config_.peers) {
    auto name = configured.id ? configured.id->value + " at " + configured.http_address : configured.http_address;
    auto i = std::find_if(peers_.begin(), peers_.end(), [&](const auto& p) {
      return configured.id ? p.first == *configured.id : p.second.http_address == configured.http_address;
    });
    if (i == peers_.end() || !i->second.said)
      return "peer " + name + " has not been reached yet: a new cluster needs all of --peers";
    if (i->second.said->expects != expects() && i->second.said->founded.cluster_id.empty())
      return "peer " + name + " does not name the same nodes in its --peers";
  }
  return "the other founders to save the new cluster";
}

// -- messages ------------------------------------------------------------------------

formation_actions formation::on_tick(const std::string& cluster_id, std::int64_t wall_ms) {
  formation_actions actions;
  tell_all(actions);
  try_to_complete(actions);
  if (!actions.found && !saving_)
    lead(cluster_id, wall_ms, actions);
  return actions;
}

formation_actions formation::on_status(const formation_status& status) {
  formation_actions actions;
  auto i = peers_.find(status.from.id);
  // One that the link has not introduced, or an older incarnation of it, is not there.
  if (i == peers_.end() || i->second.who.incarnation != status.from.incarnation)
    return actions;
  i->second.said = status;
  try_to_complete(actions);
  return actions;
}

formation_actions formation::on_offer(const formation_offer& offer) {
  formation_actions actions;
  auto ids = expects();
  std::vector<node_id> founders;
  for (auto& m : offer.proposal.founders.members)
    founders.push_back(m.id);
  bool all = founders == ids || config_.defects.has(defect::found_beside_formed);
  bool mine = !ids.empty() && all && offer.from.id == ids.front() && lists(offer.proposal, config_.self);
  bool all_known = std::all_of(offer.proposal.founders.members.begin(), offer.proposal.founders.members.end(),
                               [&](const member& m) { return incarnation_is(m); });
  // One proposal at a time: it gives way only where this node has promised never to finish it.
  auto& old = saved_.proposal.cluster_id;
  bool free = old.empty() || saved_.abandoned == old;
  if (mine && all_known && free && !saving_ && saved_.abandoned != offer.proposal.cluster_id)
    save({offer.proposal, saved_.abandoned}, actions);
  return actions;
}

formation_actions formation::on_abandon(const formation_abandon& ask) {
  formation_actions actions;
  auto ids = expects();
  if (!ids.empty() && ask.from.id == ids.front() && !saving_ && saved_.abandoned != ask.cluster_id)
    promise(ask.cluster_id, actions);
  return actions;
}

void formation::save(formation_state state, formation_actions& actions) {
  saving_ = state;
  actions.save = std::move(state);
}

formation_actions formation::on_saved() {
  formation_actions actions;
  if (!saving_)
    return actions;
  saved_ = std::move(*saving_);
  saving_.reset();
  tell_all(actions);
  try_to_complete(actions);
  return actions;
}

/// Promises never to finish this proposal but from a formed peer. Room is for one promise: one that was given before
/// is kept by forgetting the proposal that it was about.
void formation::promise(const std::string& cluster_id, formation_actions& actions) {
  bool given_up = saved_.abandoned == saved_.proposal.cluster_id;
  save({given_up ? genesis{} : saved_.proposal, cluster_id}, actions);
}

void formation::tell_all(formation_actions& actions) const {
  for (auto& [id, peer] : peers_)
    actions.messages.emplace_back(id, status());
}

// -- decisions -------------------------------------------------------------------------

void formation::try_to_complete(formation_actions& actions) const {
  if (saving_)
    return;
  // A founder that missed the end completes from a formed peer that lists its incarnation, and so does a node that was
  // added since: the first entry is the same on all.
  for (auto& [id, peer] : peers_)
    if (peer.said && !peer.said->founded.cluster_id.empty() &&
        (lists(peer.said->founded, config_.self) || lists(peer.said->members, config_.self) ||
         (config_.defects.has(defect::ignore_incarnation) && peer.said->founded.founders.find(config_.self.id)))) {
      actions.found = peer.said->founded;
      return;
    }
  auto& proposal = saved_.proposal;
  if (proposal.cluster_id.empty() || saved_.abandoned == proposal.cluster_id)
    return;
  for (auto& m : proposal.founders.members) {
    if (m.id == config_.self.id)
      continue;
    auto said = said_by(m.id);
    bool saved = said && said->from.incarnation == m.incarnation && said->proposal.cluster_id == proposal.cluster_id &&
                 said->abandoned != proposal.cluster_id;
    if (!saved && !config_.defects.has(defect::form_with_missing_founder))
      return;
  }
  actions.found = proposal;
}

void formation::lead(const std::string& cluster_id, std::int64_t wall_ms, formation_actions& actions) {
  auto ids = expects();
  if (ids.empty() || ids.front() != config_.self.id || !everyone_agrees())
    return;
  auto& mine = saved_.proposal;
  if (!mine.cluster_id.empty() && saved_.abandoned != mine.cluster_id && is_intact(mine)) {
    for (auto& id : ids) {
      auto said = said_by(id);
      if (id != config_.self.id && said && said->proposal.cluster_id != mine.cluster_id)
        actions.messages.emplace_back(id, formation_offer{config_.self, mine});
    }
    return;
  }
  // A founder lost its disk before the end. What was proposed then must be out of the way first.
  if (!mine.cluster_id.empty() && !is_given_up(mine, actions))
    return;
  for (auto& id : ids)
    if (auto said = said_by(id); said && !said->proposal.cluster_id.empty() && !is_given_up(said->proposal, actions))
      return;
  if (!actions.save)
    save({propose(cluster_id, wall_ms), saved_.abandoned}, actions);
}

bool formation::is_intact(const genesis& proposal) const {
  return std::all_of(proposal.founders.members.begin(), proposal.founders.members.end(),
                     [&](const member& m) { return incarnation_is(m); });
}

/// Whether a majority of the founders survive and each of these has promised never to finish this proposal but from
/// a formed peer; asks those who have not. Without a majority an operator has to decide: the others
/// may have founded the cluster, and lost their disks since.
bool formation::is_given_up(const genesis& old, formation_actions& actions) {
  std::size_t survivors = 0;
  bool promised = true;
  for (auto& m : old.founders.members) {
    if (!incarnation_is(m))
      continue;
    ++survivors;
    if (m.id == config_.self.id) {
      if (saved_.abandoned == old.cluster_id)
        continue;
      promised = false;
      if (!saving_)
        promise(old.cluster_id, actions);
    } else if (auto said = said_by(m.id); !said || said->abandoned != old.cluster_id) {
      promised = false;
      actions.messages.emplace_back(m.id, formation_abandon{config_.self, old.cluster_id});
    }
  }
  return promised && survivors >= old.founders.members.size() / 2 + 1;
}

genesis formation::propose(const std::string& cluster_id, std::int64_t wall_ms) const {
  genesis proposal{cluster_id, {}, wall_ms};
  proposal.founders.members.push_back(
      {config_.self.id, config_.self.incarnation, config_.http_address, config_.cluster_address, true});
  for (auto& id : expects())
    if (auto said = said_by(id); said && said->founded.cluster_id.empty())
      proposal.founders.members.push_back(
          {id, said->from.incarnation, said->http_address, said->cluster_address, true});
  std::sort(proposal.founders.members.begin(), proposal.founders.members.end(),
            [](const member& a, const member& b) { return a.id < b.id; });
  return proposal;
}

}  // namespace coordinator
