#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/simulation/clients.hpp"
#include "tests/simulation/cluster.hpp"

namespace coordinator::simulation {

/// Which faults a history has, and how often: mean times between two of a kind in milliseconds, 0 for never.
struct profile {
  std::string name;
  std::string what;  ///< One line for people.
  weather sky;
  unsigned partition_ms = 0;
  unsigned crash_ms = 0;
  unsigned power_percent = 70;  ///< Of the crashes, those that lose what was not synced.
  unsigned ambush_ms = 0;       ///< Crashes just after something was said.
  unsigned massacre_ms = 0;     ///< A majority, or all, crash at once.
  unsigned pause_ms = 0;
  unsigned stall_ms = 0;  ///< One actor alone is held back for some milliseconds.
  unsigned slow_disk_ms = 0;
  unsigned disk_fault_ms = 0;
  unsigned full_disk_ms = 0;
  unsigned clock_jump_ms = 0;
  unsigned drift_permille = 0;
  unsigned transfer_ms = 0;
  unsigned hang_ms = 0;            ///< A disk that takes nothing for seconds.
  unsigned lost_disk_ms = 0;       ///< Disks that are gone for good; a majority always keeps its own.
  unsigned oblivion_ms = 0;        ///< A majority loses its disks at once: nothing may be served again.
  unsigned late_answers_ms = 0;    ///< A leader is heard no more, and hears late answers still.
  unsigned stranded_ms = 0;        ///< Clients begin to read at a leader that has been replaced.
  unsigned quiet_ms = 0;           ///< Clients fall silent, and the leader is cut off.
  unsigned injection_ms = 0;       ///< A heartbeat as the paper has it comes in over HTTP.
  unsigned absence_ms = 0;         ///< A node is away for so long that the log has gone on without it.
  unsigned transfer_fault_ms = 0;  ///< Something happens to the sender or the receiver of a state on its way.
  unsigned members_ms = 0;         ///< Nodes join and leave, and one more than found the cluster is there.
  unsigned replace_ms = 0;         ///< A member loses its disk and comes back as a new one.
  unsigned farewell_ms = 0;  ///< A leader leaves, and is cut off with a friend while those that stay elect another.
  unsigned spoil_ms = 0;     ///< A node comes back with a state's file that is damaged.
  bool hands_off = false;    ///< Nobody restarts a node whose disk fails: it is to mend itself.
  bool strict = false;       ///< See cluster::strict.
  bool tasks = false;
  bool late_founders = false;  ///< Nodes start one by one, and faults from the first moment on.
};

const std::vector<profile>& profiles();
/// Null for an unknown name.
const profile* find_profile(const std::string& name);

/// Plays one profile's faults.
class faults {
 public:
  /// The first `founders` nodes are started; the others join where the profile has it so.
  faults(const profile& what, unsigned founders, cluster& nodes, machine_room& room, chance& random);

  void start();
  /// Ends all faults and mends what they broke: the network is fine, and every node runs and can write.
  void end();
  /// To be called before each step: crashes between two steps of a node come from here.
  void before_step();
  /// Restarts what is down or ill.
  void mend();

  const std::map<std::string, std::uint64_t>& counts() const { return counts_; }

 private:
  void every(unsigned mean_ms, const std::string& name, void (faults::*what)());
  unsigned some_node();
  unsigned victim();
  void crash(unsigned node, bool power);
  void revive_later(unsigned node);
  void revive(unsigned node);
  void cut(unsigned from, unsigned to);
  void partition();
  void crash_one();
  void ambush_one();
  void massacre();
  void pause_one();
  void stall_one();
  void slow_disk();
  void disk_fault();
  void full_disk();
  void jump_clock();
  void transfer();
  void hang_disk();
  void lose_disk();
  void oblivion();
  void late_answers();
  void strand_readers();
  void quiet_cut();
  void inject();
  void absence();
  void transfer_fault();
  void spoil();
  void change_members();
  void replace_disk();
  void farewell();
  void on_carried(unsigned from, unsigned to, const caf::message& what);

  const profile& what_;
  unsigned founders_;
  cluster& nodes_;
  machine_room& room_;
  chance& random_;
  bool over_ = false;
  microseconds change_asked_{-10'000'000};
  bool lies_in_wait_ = false;                 // For the next piece of a state.
  std::map<std::uint64_t, unsigned> doomed_;  // By step: who crashes then.
  std::map<std::string, std::uint64_t> counts_;
};

}  // namespace coordinator::simulation
