#include "actors/link.hpp"

#include <algorithm>
#include <utility>

namespace coordinator {

namespace {

constexpr milliseconds min_back_off{50};
constexpr milliseconds max_back_off{500};
/// How long the node that is to be dialled waits before it dials itself.
constexpr milliseconds dialled_side_patience{1000};

std::string quoted(const std::string& x) {
  return x.empty() ? "none" : "\"" + x + "\"";
}

}  // namespace

link_table::link_table(link_hello self, const std::vector<link_target>& targets, std::uint64_t seed, milliseconds now)
    : self_(std::move(self)), random_(seed) {
  for (auto& target : targets)
    add(target, true, now);
}

std::vector<link_table::dial_order> link_table::due(milliseconds now) {
  std::vector<dial_order> result;
  for (auto& one : entries_) {
    // An entry whose node is not known is dialled even if that node has linked by itself: only the answer tells that
    // the two are the same.
    if (!one.dials || one.dialling || one.session != 0 || one.next_dial > now || !is_wanted(one))
      continue;
    one.dialling = true;
    one.dial_began = now;
    result.push_back({one.number, one.address});
  }
  return result;
}

void link_table::dial_failed(std::uint64_t peer, const std::string& error, milliseconds now) {
  auto one = find(peer);
  if (!one)
    return;
  one->dialling = false;
  if (one->session != 0)
    return;
  if (!one->dials) {
    entries_.erase(entries_.begin() + (one - entries_.data()));
    return;
  }
  one->last_error = error;
  auto back_off = std::min(max_back_off, min_back_off * (1u << std::min(one->failures, 4u)));
  ++one->failures;
  // From the beginning of the attempt: one that took its whole time has waited enough, and after a
  // partition the next attempt is the one that succeeds.
  one->next_dial = std::max(one->dial_began + jittered(back_off), now + jittered(min_back_off));
}

std::string link_table::refusal(const link_hello& other) const {
  if (other.protocol_version != self_.protocol_version)
    return "protocol version " + std::to_string(other.protocol_version) + " where " + self_.who.id.value +
           " speaks version " + std::to_string(self_.protocol_version);
  if (!other.cluster_id.empty() && !self_.cluster_id.empty() && other.cluster_id != self_.cluster_id)
    return other.who.id.value + " belongs to cluster " + quoted(other.cluster_id) + ", " + self_.who.id.value +
           " to cluster " + quoted(self_.cluster_id);
  if (other.who.id.empty())
    return "a node without an id at " + quoted(other.cluster_address);
  if (other.boot_id == self_.boot_id)
    return "boot id " + std::to_string(other.boot_id) + " of " + quoted(other.who.id.value) + " is that of " +
           quoted(self_.who.id.value) + ": does a peer's address lead back to the node itself?";
  if (other.who.id == self_.who.id)
    return "node id " + quoted(other.who.id.value) + " is in use both at " + quoted(other.cluster_address) +
           " and at " + quoted(self_.cluster_address);
  for (auto& one : entries_) {
    if (one.session == 0)
      continue;
    // A restarted process takes its old link over at once. One with another incarnation may be a second
    // node that was given the same id, so that it waits until the first is certainly gone.
    if (one.id == other.who.id && one.other.who.incarnation != other.who.incarnation)
      return "node id " + quoted(other.who.id.value) + " of incarnation " +
             std::to_string(other.who.incarnation.value) + " at " + quoted(other.cluster_address) + " is linked from " +
             quoted(one.other.cluster_address) + " as incarnation " + std::to_string(one.other.who.incarnation.value);
    if (one.id != other.who.id && one.other.boot_id == other.boot_id)
      return "boot id " + std::to_string(other.boot_id) + " of " + quoted(other.who.id.value) + " is that of " +
             quoted(one.id.value);
  }
  return {};
}

std::string link_table::refusal(std::uint64_t peer, const link_hello& other) const {
  auto one = find(peer);
  if (!one)
    return "the peer was taken out of the list";
  if (one->id_is_fixed && one->id != other.who.id)
    return "found node " + quoted(other.who.id.value) + " at " + one->address + " where " + quoted(one->id.value) +
           " should be";
  for (auto& twin : entries_)
    if (&twin != one && twin.id == other.who.id && !twin.configured_address.empty())
      return quoted(one->configured_address) + " and " + quoted(twin.configured_address) + " both lead to node " +
             quoted(other.who.id.value);
  return refusal(other);
}

bool link_table::is_superfluous(std::uint64_t peer, const link_hello& other) const {
  auto one = find(peer);
  return one && one->session != 0 && one->id == other.who.id && one->other.boot_id == other.boot_id;
}

void link_table::dial_superfluous(std::uint64_t peer) {
  if (auto one = find(peer))
    one->dialling = false;
}

link_table::opened link_table::open(std::optional<std::uint64_t> peer, const link_hello& other, milliseconds now) {
  auto& one = claim(peer, other, now);
  opened result{++last_session_, one.session, one.configured_address};
  one.id = other.who.id;
  one.dials = one.dials && (members_.members.empty() || members_.find(one.id));
  one.other = other;
  one.session = result.session;
  one.failures = 0;
  one.rtt_us = -1;
  if (peer)
    one.dialling = false;
  for (auto& twin : entries_)
    if (&twin != &one && twin.id == one.id && twin.session != 0) {
      result.replaced = twin.session;
      twin.session = 0;
    }
  drop_doubles_of(one);
  return result;
}

std::optional<node_id> link_table::lost(std::uint64_t session, const std::string& error, milliseconds now) {
  auto one = find_session(session);
  if (!one)
    return std::nullopt;
  one->session = 0;
  one->rtt_us = -1;
  one->last_error = error;
  one->failures = 0;
  one->next_dial = now + patience(*one) + jittered(min_back_off);
  auto id = one->id;
  if (!one->dials)
    entries_.erase(entries_.begin() + (one - entries_.data()));
  return id;
}

void link_table::measured(std::uint64_t session, std::int64_t rtt_us) {
  if (auto one = find_session(session))
    one->rtt_us = rtt_us;
}

bool link_table::is_listed(std::uint64_t peer) const {
  auto one = find(peer);
  return one && (one->dials || one->dialling);
}

std::vector<std::uint64_t> link_table::know_cluster(const std::string& cluster_id, const membership& members,
                                                    milliseconds now) {
  self_.cluster_id = cluster_id;
  for (auto& m : members.members) {
    if (m.id == self_.who.id)
      continue;
    auto one = find(m.id);
    for (auto& nameless : entries_)
      if (!one && nameless.id.empty() && nameless.address == m.cluster_address)
        one = &nameless;
    if (!one)
      one = &add({m.id, m.cluster_address, {}}, true, now);
    // What the operator configured is how this node reaches it; the membership is how others do.
    if (one->configured_address.empty())
      one->address = m.cluster_address;
    one->id = m.id;
    one->id_is_fixed = true;
    one->dials = true;
  }
  if (members.find(self_.who.id)) {
    members_ = members;
    stop_dialling_others();
  }
  std::vector<std::uint64_t> strangers;
  for (auto& one : entries_)
    if (one.session != 0 && !one.other.cluster_id.empty() && one.other.cluster_id != cluster_id)
      strangers.push_back(one.session);
  return strangers;
}

void link_table::stop_dialling_others() {
  for (auto& one : entries_)
    if (!one.id.empty() && !members_.find(one.id))
      one.dials = false;
  std::erase_if(entries_, [](const entry& one) { return !one.dials && !one.dialling && one.session == 0; });
}

/// Whose node is not known may be a member under another address than the membership has: it is dialled until all
/// members are linked.
bool link_table::is_wanted(const entry& one) const {
  if (!one.id.empty() || members_.members.empty())
    return true;
  return std::any_of(members_.members.begin(), members_.members.end(), [&](const member& m) {
    return m.id != self_.who.id && std::none_of(entries_.begin(), entries_.end(),
                                                [&](const entry& e) { return e.session != 0 && e.id == m.id; });
  });
}

std::vector<link_status> link_table::status() const {
  std::vector<link_status> result;
  for (auto& one : entries_)
    if (one.dials || one.session != 0)
      result.push_back({one.id, one.address, one.session != 0, one.rtt_us, one.last_error});
  return result;
}

const link_table::entry* link_table::find(std::uint64_t number) const {
  auto i = std::find_if(entries_.begin(), entries_.end(), [&](auto& x) { return x.number == number; });
  return i != entries_.end() ? &*i : nullptr;
}

link_table::entry* link_table::find(std::uint64_t number) {
  return const_cast<entry*>(std::as_const(*this).find(number));
}

link_table::entry* link_table::find(const node_id& id) {
  auto i = std::find_if(entries_.begin(), entries_.end(), [&](auto& x) { return x.id == id; });
  return i != entries_.end() ? &*i : nullptr;
}

link_table::entry* link_table::find_session(std::uint64_t session) {
  auto i = std::find_if(entries_.begin(), entries_.end(), [&](auto& x) { return x.session == session; });
  return session != 0 && i != entries_.end() ? &*i : nullptr;
}

link_table::entry& link_table::add(link_target target, bool dials, milliseconds now) {
  auto& one = entries_.emplace_back();
  one.number = ++last_number_;
  one.id_is_fixed = !target.id.empty();
  one.id = std::move(target.id);
  one.address = std::move(target.cluster_address);
  one.configured_address = std::move(target.configured_address);
  one.dials = dials;
  one.next_dial = now + patience(one);
  return one;
}

/// The entry that this node belongs to: the one dialled, the one of its id, the one of its address, or a new one.
link_table::entry& link_table::claim(std::optional<std::uint64_t> peer, const link_hello& other, milliseconds now) {
  if (auto one = peer ? find(*peer) : nullptr)
    return *one;
  if (auto one = find(other.who.id))
    return *one;
  for (auto& one : entries_)
    if (one.id.empty() && one.address == other.cluster_address)
      return one;
  return add({{}, other.cluster_address, {}}, false, now);
}

/// A node that linked by itself, or that the membership named, before the entry of --peers that leads to it was known
/// to be the same.
void link_table::drop_doubles_of(const entry& kept) {
  auto number = kept.number;
  auto id = kept.id;
  auto is_double = [&](auto& x) { return x.number != number && x.id == id && x.configured_address.empty(); };
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(), is_double), entries_.end());
}

milliseconds link_table::patience(const entry& one) const {
  auto& theirs = one.other.cluster_address.empty() ? one.address : one.other.cluster_address;
  return self_.cluster_address < theirs ? milliseconds{0} : dialled_side_patience;
}

/// Half of it to all of it, so that two that collided do not collide again.
milliseconds link_table::jittered(milliseconds x) {
  auto half = x.count() / 2;
  return milliseconds{half + static_cast<milliseconds::rep>(random_() % static_cast<std::uint64_t>(half + 1))};
}

}  // namespace coordinator
