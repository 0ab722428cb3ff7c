#include "tests/simulation/cluster.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>

#include "persistence/recover.hpp"
#include "tests/support/fault_files.hpp"

namespace coordinator::simulation {
namespace {

constexpr std::int64_t epoch_ms = 1'700'000'000'000;
constexpr microseconds link_tick{50'000};
// How long conditions must have been steady before a leader is held to them.
constexpr microseconds steady{2'500'000};

template <class T>
bool is(const caf::message& x) {
  return x.match_elements<T>();
}

/// What kind of message it is, for those who read a trace.
const char* kind_of(const caf::message& x) {
  using test = bool (*)(const caf::message&);
  static constexpr std::pair<test, const char*> kinds[] = {
      {is<beat>, "beat"},
      {is<beat_reply>, "beat_reply"},
      {is<append_entries>, "append_entries"},
      {is<append_entries_reply>, "append_entries_reply"},
      {is<request_vote>, "request_vote"},
      {is<request_vote_reply>, "request_vote_reply"},
      {is<timeout_now>, "timeout_now"},
      {is<propose>, "propose"},
      {is<proposal_rejected>, "proposal_rejected"},
      {is<read_index>, "read_index"},
      {is<read_index_reply>, "read_index_reply"},
      {is<worker_beat>, "worker_beat"},
      {is<worker_beat_reply>, "worker_beat_reply"},
      {is<install_snapshot>, "install_snapshot"},
      {is<install_snapshot_reply>, "install_snapshot_reply"},
      {is<state_digest>, "state_digest"},
      {is<removal_notice>, "removal_notice"},
      {is<formation_status>, "formation_status"},
      {is<formation_offer>, "formation_offer"},
      {is<formation_abandon>, "formation_abandon"},
      {is<transfer_leadership>, "transfer_leadership"},
      {is<transfer_reply>, "transfer_reply"},
  };
  for (auto& [test, name] : kinds)
    if (test(x))
      return name;
  return "message";
}

}  // namespace

cluster::cluster(cluster_options options, machine_room& room, chance& random, checker& watch)
    : options_(std::move(options)), room_(room), random_(random), watch_(watch) {
  nodes_.resize(options_.nodes);
  paths_.resize(options_.nodes * options_.nodes);
  links_.resize(options_.nodes * options_.nodes);
  deaf_ = room_.make_tap([](caf::mailbox_element_ptr) {});
  for (unsigned i = 0; i < size(); ++i) {
    auto& n = nodes_[i];
    n.id.value = "n";
    n.id.value += std::to_string(i + 1);
    n.address = n.id.value + ":80";
    n.disk = std::make_unique<fault_disk>("simulated-" + n.id.value, random_.next());
    n.clock_offset_ms = static_cast<std::int64_t>(random_.between(10'000, 1'000'000));
  }
  for (unsigned from = 0; from < size(); ++from)
    for (unsigned to = 0; to < size(); ++to)
      for (unsigned kind = 0; kind < 5 && from != to; ++kind)
        between(from, to).wires[kind] = room_.make_tap(
            [=, this](caf::mailbox_element_ptr what) { carry(from, to, kind, what->move_content_to_message()); });
  tend_links();
}

cluster::~cluster() {
  on_stop = nullptr;
  for (unsigned i = 0; i < size(); ++i)
    stop(i, false);
}

void cluster::note(const std::string& what) {
  if (options_.trace)
    options_.trace(what);
}

// -- nodes -------------------------------------------------------------------------------

node_clock cluster::clock_of(unsigned number) {
  return {[this, number] {
            auto& n = nodes_[number];
            auto us = room_.now().count() * n.speed_permille / 1000;
            return milliseconds{n.clock_offset_ms + us / 1000};
          },
          [this, number] { return epoch_ms + room_.now().count() / 1000 + nodes_[number].wall_offset_ms; }};
}

/// As a process does that judges its directory first.
node_stores cluster::open(node& n) {
  stores_to_open what;
  what.files = std::make_shared<fault_files>(*n.disk);
  finish_recovery(*what.files);
  auto owned = what.files->has("raft.db") && inspect_raft_file("/raft.db", n.disk->vfs()).has_value();
  auto names = what.files->names();
  auto has_state = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return is_state_file(name) && !n.disk->read("/" + name).empty();
  });
  if (!owned && has_state)
    throw damaged_error(11, "raft.db is gone, a state is there");
  what.id = n.id;
  what.create = !owned;
  what.new_incarnation = random_.next() | 1;
  what.defects = options_.defects;
  what.checkpoint_pages = 50;
  what.wall_time = std::chrono::system_clock::time_point{milliseconds{epoch_ms + room_.now().count() / 1000}};
  auto stores = open_stores(what);
  if (!stores.lost_disk.empty())
    throw damaged_error(11, stores.lost_disk);
  // The log may lose only what a checkpoint has made certain, so that only one who spoils the file takes it away.
  if (!stores.needs_state.empty() && !n.spoilt && !n.flipped)
    throw damaged_error(11, stores.needs_state);
  return stores;
}

bool cluster::start(unsigned number) {
  auto& n = nodes_[number];
  if (n.up)
    return true;
  node_stores stores;
  try {
    stores = open(n);
  } catch (const damaged_error& e) {
    watch_.violate("what was synced stays", n.id.value + ": " + e.what());
    return false;
  } catch (const std::exception& e) {
    note(n.id.value + " does not start: " + e.what());
    return false;
  }
  // A link of the process before this one ends now at the latest.
  for (unsigned other = 0; other < size(); ++other)
    if (other != number && link_of(number, other).up)
      close_link(number, other);
  watch_.on_start(number, n.id, stores.raft->contents(), stores.state->meta().last_applied);
  if (drift_permille_ != 0 && n.boot == 0)
    n.speed_permille = static_cast<std::int64_t>(1000 - drift_permille_ + random_.below(2 * drift_permille_ + 1));
  node_settings settings;
  settings.id = n.id;
  settings.http_address = n.address;
  settings.cluster_address = n.address;
  auto founders = options_.founders != 0 ? options_.founders : size();
  for (unsigned i = 0; i < founders; ++i)
    if (i != number)
      settings.peers.push_back({nodes_[i].id, nodes_[i].address});
  settings.clock = clock_of(number);
  settings.seed = random_.next();
  settings.defects = options_.defects;
  settings.defects.clock = settings.clock.wall_ms;
  settings.detached_writers = false;
  settings.log_retention_entries = retention;
  // A state goes in many pieces, in a few or in one, by who sends it.
  settings.snapshot_bytes = std::size_t{8 << 10} << (number % 3 * 3);
  settings.snapshot_window = 4 * settings.snapshot_bytes;
  n.log_life = 0;
  n.generation = 0;
  n.incarnation = stores.incarnation;
  n.actors = spawn_node_actors(room_.system(), settings, std::move(stores));
  ++n.boot;
  n.up = true;
  spawn(number);
  note(n.id.value + " starts");
  return true;
}

void cluster::spawn(unsigned number) {
  auto& n = nodes_[number];
  unsigned role = 0;
  for (auto& [name, actor] : n.actors.all())
    room_.adopt(actor, {number, role++});
  n.keeper = static_cast<keeper_actor*>(caf::actor_cast<caf::abstract_actor*>(n.actors.keeper));
  n.machine = static_cast<machine_actor*>(caf::actor_cast<caf::abstract_actor*>(n.actors.machine));
  // What is written is looked at on its way.
  auto wired = n.actors;
  auto writer = caf::actor_cast<caf::strong_actor_ptr>(n.actors.log_writer);
  auto see = room_.make_tap([this, number, writer](caf::mailbox_element_ptr what) {
    if (what->content().match_elements<write_log>()) {
      auto& write = what->content().get_as<write_log>(0).write;
      notice_mending(number);
      watch_.on_write(number, write);
      nodes_[number].writing[write.number] = room_.now();
    }
    writer->enqueue(std::move(what), nullptr);
  });
  wired.log_writer = caf::actor_cast<log_writer_actor>(see);
  wire(wired, caf::actor_cast<caf::typed_actor<caf::reacts_to<cluster_known>>>(deaf_));
}

void cluster::stop(unsigned number, bool power) {
  auto& n = nodes_[number];
  if (!n.up)
    return;
  note(n.id.value + (power ? " loses power" : " is killed"));
  n.up = false;
  n.trap = ambush::none;
  n.led = false;
  n.writing.clear();
  if (power)
    n.disk->crash();
  else
    n.disk->restart();
  if (on_stop)
    on_stop(number);
  std::vector<caf::strong_actor_ptr> actors;
  for (auto& [name, actor] : n.actors.all())
    actors.push_back(actor);
  n.keeper = nullptr;
  n.machine = nullptr;
  room_.kill(actors);
  n.actors = {};
  watch_.on_stop(number);
  // A peer sees a killed process at once; one without power only falls silent.
  for (unsigned other = 0; other < size(); ++other)
    if (other != number && link_of(number, other).up && (!power || random_.one_in(2)))
      close_link(number, other);
}

void cluster::lose_disk(unsigned number) {
  stop(number, true);
  auto& n = nodes_[number];
  note(n.id.value + " loses its disk");
  n.disk = nullptr;
  n.disk = std::make_unique<fault_disk>("simulated-" + n.id.value, random_.next());
  n.lost = true;
  // What comes back on it is another member.
  n.incarnation = {};
  watch_.on_lost_disk(number);
}

bool cluster::is_member(unsigned number) const {
  auto at = leader();
  if (at == size())
    return false;
  auto m = keeper(at).log().members().find(nodes_[number].id);
  return m && m->incarnation == nodes_[number].incarnation;
}

bool cluster::settled() const {
  auto at = leader();
  if (at == size())
    return false;
  auto& log = keeper(at).log();
  if (log.members_index() > keeper(at).commit_index() || log.members().voter_count() < 3)
    return false;
  std::size_t members = 0;
  for (unsigned i = 0; i < size(); ++i) {
    if (!begun(i))
      return false;
    if (!is_member(i))
      continue;
    ++members;
    if (keeper(i).log().members_index() != log.members_index() || spoilt(i))
      return false;
  }
  return members == log.members().members.size();
}

void cluster::change_members(change_membership::change what, unsigned node) {
  auto at = leader();
  if (at == size())
    return;
  static constexpr const char* names[] = {"add ", "promote ", "remove "};
  note(name(at) + " is asked to " + names[static_cast<unsigned>(what)] + name(node));
  auto& n = nodes_[at];
  caf::anon_send(n.actors.keeper, change_membership{n.actors.self, ++changes_asked_, what, nodes_[node].id, false});
}

void cluster::spoil_state(unsigned number) {
  auto& n = nodes_[number];
  for (auto& path : n.disk->files()) {
    auto bytes = n.disk->read(path);
    if (!is_state_file(path.substr(1)) || bytes.size() < 8192)
      continue;
    note(n.id.value + " has a damaged " + path);
    // Any page, and so rows and schema; not the header, by which a file of another program is refused.
    for (int i = 0; i < 8; ++i)
      n.disk->flip_bit(path, random_.between(100, bytes.size() - 1), static_cast<unsigned>(random_.below(8)));
    n.flipped = true;
  }
}

void cluster::hang_disk(unsigned number, microseconds time) {
  room_.hold({number, log_writer_role}, room_.now() + time);
}

bool cluster::ill(unsigned number) const {
  auto& n = nodes_[number];
  return begun(number) && (!n.keeper->state.core->writable() || !n.machine->state.write_error.empty());
}

unsigned cluster::leader() const {
  auto best = size();
  for (unsigned i = 0; i < size(); ++i)
    if (begun(i) && keeper(i).role() == node_role::leader &&
        (best == size() || keeper(i).current_term() > keeper(best).current_term()))
      best = i;
  return best;
}

void cluster::pause(unsigned number, microseconds time) {
  note(nodes_[number].id.value + " stands still");
  for (unsigned role = 0; role < roles; ++role)
    room_.hold({number, role}, room_.now() + time);
}

void cluster::slow_disk(unsigned number, microseconds longest, microseconds time) {
  nodes_[number].slowest_us = static_cast<std::uint64_t>(longest.count());
  nodes_[number].slow_until = room_.now() + time;
}

void cluster::ran(machine_room::owner who) {
  auto& n = nodes_[who.node];
  if (!n.up)
    return;
  if (who.role == keeper_role) {
    auto& core = *n.keeper->state.core;
    notice_mending(who.node);
    watch_.after_keeper(who.node, core, n.keeper->state.founded);
    watch_.after_election(who.node, core);
    n.spoilt = !core.state_error().empty();
    std::erase_if(n.writing, [&](auto& x) { return x.first <= core.durable_write(); });
    if (strict)
      check_leadership(who.node);
    n.led = core.role() == node_role::leader;
    if (n.trap == ambush::leadership && core.role() == node_role::leader)
      spring(who.node);
  } else if (who.role == machine_role) {
    auto& machine = *n.machine->state.core;
    if (std::exchange(n.generation, n.machine->state.generation) != n.machine->state.generation) {
      note(n.id.value + " goes on from the state after " + std::to_string(machine.last_applied().value));
      ++snapshots_;
      n.flipped = false;
      watch_.on_replaced(who.node, machine);
    }
    watch_.after_machine(who.node, *n.keeper->state.core, machine);
    if (on_applied && machine.last_applied() > applied_)
      on_applied(machine);
    applied_ = std::max(applied_, machine.last_applied());
  } else if (who.role >= log_writer_role && n.slow_until > room_.now()) {
    room_.hold(who, room_.now() + microseconds{random_.below(n.slowest_us)});
  }
}

/// A keeper that began anew from its mended raft.db is looked at before anything that it says or writes.
void cluster::notice_mending(unsigned number) {
  auto& n = nodes_[number];
  if (!n.up || n.log_life == n.keeper->state.log_life)
    return;
  n.log_life = n.keeper->state.log_life;
  n.writing.clear();
  ++mended_;
  note(n.id.value + " goes on with a raft.db that was mended");
  watch_.on_mended(number, *n.keeper->state.core, n.keeper->state.founded);
}

void cluster::check_leadership(unsigned number) {
  auto& n = nodes_[number];
  auto& core = *n.keeper->state.core;
  auto leads = core.role() == node_role::leader;
  unsigned reached = 1;
  unsigned heard = 1;
  auto now = room_.now();
  for (unsigned i = 0; i < size(); ++i) {
    if (i == number)
      continue;
    auto& to = between(number, i);
    auto& from = between(i, number);
    auto& x = link_of(number, i);
    auto open = !to.blocked && !from.blocked && x.up;
    reached += open && now - std::max({to.since, from.since, x.up_since}) > steady;
    heard += !from.blocked || now - from.since < steady;
  }
  // A majority that cannot write is no majority that it reaches.
  bool all_write = true;
  for (auto& other : nodes_)
    all_write = all_write && (other.writing.empty() || now - other.writing.begin()->second < microseconds{400'000});
  if (!all_write)
    could_not_write_ = now;
  auto hung = !n.writing.empty() && now - n.writing.begin()->second > steady;
  // Nor at once when it can again: a node that had voted for itself before its disk hung says so only then, and its
  // later term ends the leadership.
  auto all_have_written = all_write && now - could_not_write_ > steady;
  if (n.led && !leads && reached >= quorum() && all_have_written)
    watch_.violate("a leader that reaches a majority stays", n.id.value + " is deposed");
  if (n.led && leads && heard < quorum())
    watch_.violate("a leader that hears no majority steps down", n.id.value + " still leads");
  if (n.led && leads && hung)
    watch_.violate("a leader whose disk hangs steps down", n.id.value + " still leads");
}

void cluster::spring(unsigned number) {
  nodes_[number].trap = ambush::none;
  if (on_ambush)
    on_ambush(number);
}

// -- the network ----------------------------------------------------------------------

caf::strong_actor_ptr cluster::target(const node& n, unsigned kind) const {
  auto& a = n.actors;
  switch (kind) {
    case 0:
      return caf::actor_cast<caf::strong_actor_ptr>(a.election);
    case 1:
      return caf::actor_cast<caf::strong_actor_ptr>(a.heartbeat);
    case 2:
      return caf::actor_cast<caf::strong_actor_ptr>(a.keeper);
    case 3:
      return caf::actor_cast<caf::strong_actor_ptr>(a.gateway);
    default:
      return caf::actor_cast<caf::strong_actor_ptr>(a.fleet);
  }
}

void cluster::check_said(unsigned from, unsigned to, const caf::message& x) {
  auto& core = keeper(from);
  if (is<request_vote>(x))
    watch_.said(from, core, x.get_as<request_vote>(0));
  else if (is<request_vote_reply>(x))
    watch_.said(from, core, nodes_[to].id, x.get_as<request_vote_reply>(0));
  else if (is<append_entries_reply>(x))
    watch_.said(from, core, x.get_as<append_entries_reply>(0));
  else if (is<append_entries>(x))
    watch_.said_term(from, core, x.get_as<append_entries>(0).term);
  else if (is<beat>(x))
    watch_.said_term(from, core, x.get_as<beat>(0).term);
  else if (is<beat_reply>(x))
    watch_.said_term(from, core, x.get_as<beat_reply>(0).term);
  else if (is<read_index>(x))
    watch_.asked(x.get_as<read_index>(0));
  else if (is<read_index_reply>(x))
    watch_.said(from, nodes_[to].id, x.get_as<read_index_reply>(0));
  auto trap = nodes_[from].trap;
  if ((trap == ambush::vote && is<request_vote_reply>(x) && x.get_as<request_vote_reply>(0).vote_granted &&
       !x.get_as<request_vote_reply>(0).pre_vote) ||
      (trap == ambush::acknowledgement && is<append_entries_reply>(x) && x.get_as<append_entries_reply>(0).success))
    spring(from);
}

/// Whoever hears of a later term in an answer takes it over (Raft §5.1); held to only where nothing stands still.
void cluster::check_adopted(unsigned to, const caf::message& x, microseconds delay) {
  term_number term;
  if (is<request_vote_reply>(x))
    term = x.get_as<request_vote_reply>(0).term;
  else if (is<append_entries_reply>(x))
    term = x.get_as<append_entries_reply>(0).term;
  else if (is<beat_reply>(x))
    term = x.get_as<beat_reply>(0).term;
  if (!strict || term <= keeper(to).current_term())
    return;
  room_.after(delay + microseconds{1}, [this, to, term, boot = boot(to)] {
    if (strict && up(to) && this->boot(to) == boot && keeper(to).formed() && keeper(to).current_term() < term)
      watch_.violate("a later term in an answer is taken over", name(to) + " was answered with term " +
                                                                    std::to_string(term.value) + " and stays in term " +
                                                                    std::to_string(keeper(to).current_term().value));
  });
}

void cluster::carry(unsigned from, unsigned to, unsigned kind, caf::message what) {
  auto& sender = nodes_[from];
  auto& receiver = nodes_[to];
  if (!sender.up)
    return;
  notice_mending(from);
  check_said(from, to, what);
  if (on_carried)
    on_carried(from, to, what);
  auto& path = between(from, to);
  auto lose = !link_of(from, to).up || !receiver.up || random_.permille(sky.loss_permille);
  // What a broken path swallows may still be in a buffer when it heals.
  auto late = !lose && (random_.permille(sky.late_permille) || (path.blocked && sky.leaks && random_.one_in(8)));
  if (path.blocked && !late)
    lose = true;
  if (options_.trace)
    note(sender.id.value + " -> " + receiver.id.value +
         (lose   ? " lost "
          : late ? " late "
                 : " ") +
         kind_of(what) + caf::to_string(what));
  if (lose) {
    ++lost_;
    return;
  }
  auto to_actor = target(receiver, kind);
  auto copies = random_.permille(sky.double_permille) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    auto delay = path.longer + microseconds{random_.between(sky.shortest_us, sky.longest_us)};
    if (late)
      delay += microseconds{random_.below(2'000'000)};
    if (sky.in_order && !late) {
      path.last_arrival = std::max(path.last_arrival, room_.now() + delay);
      delay = path.last_arrival - room_.now();
    }
    ++delivered_;
    check_adopted(to, what, delay);
    room_.deliver(delay, to_actor, what);
  }
  if (random_.permille(sky.echo_permille))
    room_.deliver(microseconds{random_.between(100'000, 6'000'000)}, to_actor, what);
}

void cluster::block(unsigned from, unsigned to, bool blocked) {
  auto& path = between(from, to);
  if (path.blocked != blocked)
    path.since = room_.now();
  path.blocked = blocked;
}

void cluster::unblock_all() {
  for (unsigned from = 0; from < size(); ++from)
    for (unsigned to = 0; to < size(); ++to)
      block(from, to, false);
}

void cluster::tend_links() {
  for (unsigned a = 0; a < size(); ++a)
    for (unsigned b = a + 1; b < size(); ++b)
      tend(a, b);
  room_.after(link_tick, [this] { tend_links(); });
}

/// What the two ends' links would notice by now: a link that is silent in either direction is given up, and one that
/// could be is opened.
void cluster::tend(unsigned a, unsigned b) {
  auto& x = link_of(a, b);
  auto good = nodes_[a].up && nodes_[b].up && !between(a, b).blocked && !between(b, a).blocked;
  auto now = room_.now();
  if (good) {
    x.silent_since = microseconds{-1};
    if (!x.up && now >= x.next_try)
      open_link(a, b);
    return;
  }
  if (!x.up)
    return;
  if (x.silent_since.count() < 0)
    x.silent_since = now;
  if (now - x.silent_since > microseconds{1'500'000} || random_.one_in(60))
    close_link(a, b);
}

void cluster::open_link(unsigned a, unsigned b) {
  auto cluster_of = [this](unsigned i) {
    auto& founded = nodes_[i].keeper->state.founded;
    return founded ? founded->cluster_id : std::string{};
  };
  auto one = cluster_of(a);
  auto other = cluster_of(b);
  if (!one.empty() && !other.empty() && one != other)
    return watch_.violate("one cluster is founded", name(a) + " and " + name(b) + " are of different clusters");
  auto& x = link_of(a, b);
  x.up = true;
  x.up_since = room_.now();
  tell_up(a, b);
  tell_up(b, a);
}

void cluster::close_link(unsigned a, unsigned b) {
  auto& x = link_of(a, b);
  x.up = false;
  x.silent_since = microseconds{-1};
  x.next_try = room_.now() + microseconds{random_.between(20'000, 300'000)};
  tell_down(a, b);
  tell_down(b, a);
}

void cluster::tell_up(unsigned whom, unsigned about) {
  auto& n = nodes_[whom];
  auto& other = nodes_[about];
  auto& wires = between(whom, about).wires;
  peer_up news;
  news.who = other.actors.self;
  if (auto& founded = other.keeper->state.founded)
    news.cluster_id = founded->cluster_id;
  news.http_address = other.address;
  news.cluster_address = other.address;
  news.configured_address = other.address;
  news.boot_id = other.actors.boot_id;
  news.handles = {caf::actor_cast<election_actor>(wires[0]), caf::actor_cast<heartbeat_actor>(wires[1]),
                  caf::actor_cast<replication_actor>(wires[2]), caf::actor_cast<gateway_actor>(wires[3]),
                  caf::actor_cast<fleet_actor>(wires[4])};
  note(n.id.value + " has a link to " + other.id.value);
  caf::anon_send(n.actors.keeper, news);
  caf::anon_send(n.actors.election, news);
  caf::anon_send(n.actors.heartbeat, news);
  caf::anon_send(n.actors.gateway, news);
  caf::anon_send(n.actors.fleet, news);
}

void cluster::tell_down(unsigned whom, unsigned about) {
  auto& n = nodes_[whom];
  if (!n.up)
    return;
  peer_down news{nodes_[about].id};
  note(n.id.value + " loses the link to " + news.id.value);
  caf::anon_send(n.actors.keeper, news);
  caf::anon_send(n.actors.election, news);
  caf::anon_send(n.actors.heartbeat, news);
  caf::anon_send(n.actors.gateway, news);
  caf::anon_send(n.actors.fleet, news);
}

}  // namespace coordinator::simulation
