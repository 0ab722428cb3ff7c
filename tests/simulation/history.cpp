#include "tests/simulation/history.hpp"

#include <array>
#include <memory>
#include <string_view>

#include "tests/simulation/chance.hpp"
#include "tests/simulation/clients.hpp"
#include "tests/simulation/cluster.hpp"
#include "tests/simulation/faults.hpp"
#include "tests/simulation/machine_room.hpp"

namespace coordinator::simulation {
namespace {

constexpr microseconds leader_within{2'000'000};
constexpr microseconds founded_within{8'000'000};
constexpr microseconds settled_within{10'000'000};
// A history that needs more went round in circles without time passing.
constexpr std::uint64_t most_steps = 20'000'000;

class history {
 public:
  explicit history(const history_options& options)
      : options_(options), random_(options.seed * 0x2545f4914f6cdd1d + 1), what_(draw_profile()), room_(random_) {
    auto founders = options.nodes != 0 ? options.nodes : random_.one_in(3) ? 5 : 3;
    auto nodes = what_.members_ms != 0 ? founders + 1 : founders;
    cluster_options of_cluster;
    of_cluster.nodes = nodes;
    of_cluster.founders = founders;
    of_cluster.defects = options.defects;
    if (options.trace)
      of_cluster.trace = [this](const std::string& line) {
        options_.trace(std::to_string(room_.now().count()) + " " + line);
      };
    watch_ = std::make_unique<checker>(nodes);
    nodes_ = std::make_unique<cluster>(of_cluster, room_, random_, *watch_);
    callers_ = std::make_unique<clients>(*nodes_, room_, random_, *watch_, 4, what_.tasks);
    faults_ = std::make_unique<faults>(what_, founders, *nodes_, room_, random_);
    nodes_->on_applied = [this](const state_machine& machine) { callers_->observe(machine); };
    nodes_->on_stop = [this](unsigned node) { callers_->node_stopped(node); };
  }

  history_result run() {
    auto start = room_.now();
    faults_->start();
    callers_->start();
    run_until(room_.now() + options_.virtual_time, [] { return false; });
    if (!watch_->found())
      heal();
    history_result result;
    result.found = watch_->found();
    result.profile = what_.name;
    result.nodes = nodes_->size();
    result.fingerprint = fingerprint_;
    result.steps = room_.steps();
    result.messages = nodes_->delivered();
    result.lost = nodes_->lost();
    result.calls = callers_->calls();
    result.answered = callers_->answered();
    result.committed = watch_->committed().value;
    result.terms = watch_->terms_led();
    result.virtual_time = room_.now() - start;
    result.faults = faults_->counts();
    result.events = {{"entries compacted", watch_->compacted()},
                     {"memberships changed", watch_->members_changed()},
                     {"states replaced", nodes_->snapshots()},
                     {"logs mended", nodes_->mended()}};
    return result;
  }

 private:
  const profile& draw_profile() {
    if (auto* named = find_profile(options_.profile))
      return *named;
    return profiles()[random_.below(profiles().size())];
  }

  void run_until(microseconds end, const std::function<bool()>& done) {
    auto ran = [this](machine_room::owner who) {
      mix((who.node + 1) * 16 + who.role);
      nodes_->ran(who);
      if (options_.trace)
        trace_step(who);
    };
    while (room_.now() < end && !watch_->found() && !done()) {
      faults_->before_step();
      if (!room_.step(ran))
        watch_->violate("time goes on", "nothing is left to happen");
      mix(static_cast<std::uint64_t>(room_.now().count()));
      mix(nodes_->delivered());
      if (room_.steps() % 1024 == 0)
        check_calls();
      if (room_.steps() > most_steps)
        watch_->violate("time goes on", "too many steps");
    }
  }

  void trace_step(machine_room::owner who) {
    static constexpr std::array names{"fleet",   "gateway",    "election",     "heartbeat", "keeper",
                                      "machine", "log writer", "state writer", "snapshots"};
    static_assert(names.size() == roles);
    auto line = nodes_->name(who.node) + " " + names[who.role];
    if (who.role == keeper_role && nodes_->up(who.node)) {
      auto& k = nodes_->keeper(who.node);
      line += std::string{" "} + to_string(k.role()) + " term " + std::to_string(k.current_term().value) + " last " +
              std::to_string(k.log().last_index().value) + " durable " + std::to_string(k.durable_index().value) +
              " commit " + std::to_string(k.commit_index().value);
    }
    options_.trace(std::to_string(room_.now().count()) + " " + line);
  }

  void check_calls() {
    // A node that stands still answers when it goes on: calls are judged once all faults have ended.
    if (!healed_ || room_.now() < healed_at_ + microseconds{5'000'000})
      return;
    if (auto what = callers_->unanswered(); !what.empty())
      watch_->violate("every call ends", what);
  }

  bool leads() const {
    auto leader = nodes_->leader();
    return leader < nodes_->size() && nodes_->keeper(leader).commit_index() > log_index{} &&
           nodes_->keeper(leader).log().term_at(nodes_->keeper(leader).commit_index()) ==
               nodes_->keeper(leader).current_term();
  }

  bool converged() const {
    auto leader = nodes_->leader();
    if (leader == nodes_->size())
      return false;
    auto commit = nodes_->keeper(leader).commit_index();
    for (unsigned i = 0; i < nodes_->size(); ++i)
      if (!nodes_->is_member(i))
        continue;
      else if (!nodes_->begun(i) || !nodes_->keeper(i).writable() || nodes_->machine(i).last_applied() != commit ||
               nodes_->machine(i).checksum() != nodes_->machine(leader).checksum())
        return false;
    return nodes_->keeper(leader).log().last_index() == commit;
  }

  void heal() {
    bool formed = watch_->committed() > log_index{};
    faults_->end();
    healed_ = true;
    healed_at_ = room_.now();
    if (options_.trace)
      options_.trace(std::to_string(room_.now().count()) + " all faults end");
    if (is_beyond_help())
      return stand_still();
    auto within = formed ? leader_within : founded_within;
    // Disks that nobody looks after are tried again once a second.
    if (what_.hands_off)
      within += microseconds{2'000'000};
    run_until(healed_at_ + within, [this] { return leads(); });
    if (!watch_->found() && !leads())
      watch_->violate("a leader stands within 2 s", "no node leads with a committed entry of its term");
    run_until(room_.now() + microseconds{300'000}, [] { return false; });
    callers_->finish();
    run_until(healed_at_ + settled_within, [this] { return callers_->idle() && converged(); });
    if (!watch_->found() && !callers_->idle())
      watch_->violate("every call ends", "a call has no answer");
    if (!watch_->found() && !converged())
      watch_->violate("all nodes converge", "not all nodes have applied what the leader has committed");
    if (watch_->found())
      return;
    // A disk may have failed unnoticed just before, and a node refuses reads until it has tried it again.
    if (what_.hands_off)
      run_until(healed_at_ + microseconds{3'000'000}, [] { return false; });
    auto reader = static_cast<unsigned>(random_.below(nodes_->size()));
    while (!nodes_->is_member(reader))
      reader = (reader + 1) % nodes_->size();
    callers_->read_all(reader);
    run_until(room_.now() + microseconds{5'000'000}, [this] { return callers_->idle(); });
    if (!watch_->found() && !callers_->idle())
      watch_->violate("every call ends", "a last read has no answer");
    if (!watch_->found())
      callers_->check_at_end();
  }

  /// Whether too many disks are gone for a majority of the members.
  bool is_beyond_help() const {
    if (what_.members_ms != 0)
      return false;
    unsigned lost = 0;
    for (unsigned i = 0; i < nodes_->size(); ++i)
      lost += nodes_->lost(i);
    return nodes_->size() - lost < nodes_->quorum();
  }

  /// What is left of a cluster must not serve anybody again until an operator decides, and says so to every caller.
  void stand_still() {
    auto committed = watch_->committed();
    callers_->finish();
    run_until(healed_at_ + settled_within, [] { return false; });
    if (!watch_->found() && !callers_->idle())
      watch_->violate("every call ends", "a call has no answer");
    if (!watch_->found() && watch_->committed() != committed)
      watch_->violate("a minority of the disks serves nobody", "an entry was committed without a majority of disks");
  }

  void mix(std::uint64_t x) { fingerprint_ = (fingerprint_ ^ x) * 1099511628211u; }

  const history_options& options_;
  chance random_;
  const profile& what_;
  machine_room room_;
  std::unique_ptr<checker> watch_;
  // Ended in this order, so that nothing calls what is gone.
  std::unique_ptr<faults> faults_;
  std::unique_ptr<clients> callers_;
  std::unique_ptr<cluster> nodes_;
  std::uint64_t fingerprint_ = 14695981039346656037u;
  bool healed_ = false;
  microseconds healed_at_{0};
};

}  // namespace

history_result play(const history_options& options) {
  return history{options}.run();
}

std::string replay_command(const std::string& program, const history_options& options) {
  auto command = program + " --replay " + std::to_string(options.seed);
  if (options.nodes != 0)
    command += " --nodes " + std::to_string(options.nodes);
  if (options.virtual_time != history_options{}.virtual_time)
    command += " --virtual-seconds " + std::to_string(options.virtual_time.count());
  if (!options.profile.empty())
    command += " --profile " + options.profile;
  return command + " --trace";
}

}  // namespace coordinator::simulation
