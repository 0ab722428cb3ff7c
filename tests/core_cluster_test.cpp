#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "tests/support/core_cluster.hpp"

using namespace coordinator;

namespace {

std::string run_seed(std::uint64_t seed, defect_set defects = {}, std::size_t joiners = 0) {
  core_cluster cluster{{seed, seed % 4 == 3 ? 5u : 3u, joiners, defects}};
  cluster.run(milliseconds{4000});
  if (cluster.violation().empty())
    cluster.settle();
  return cluster.violation();
}

/// The first violation that a rule taken out leads to, within some seeds.
std::string run_without(defect rule, std::size_t joiners = 0, std::uint64_t seeds = 200) {
  defect_set defects;
  defects.add(rule);
  for (std::uint64_t seed = 0; seed < seeds; ++seed)
    if (auto violation = run_seed(seed, defects, joiners); !violation.empty())
      return violation;
  return {};
}

}  // namespace

TEST_CASE(
    "cluster of cores: Raft's invariants hold under faults, and the cluster recovers from all of them (Raft figure "
    "3)") {
  for (std::uint64_t seed = 1000; seed < 2000; ++seed)
    CHECK_EQ(run_seed(seed), "");
}

TEST_CASE("cluster of cores: clients are served between the faults") {
  std::size_t committed = 0;
  std::size_t reads = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    core_cluster cluster{{seed, 3, 0, {}}};
    cluster.run(milliseconds{5000});
    CHECK_EQ(cluster.violation(), "");
    committed += cluster.committed_entries();
    reads += cluster.reads_answered();
  }
  CHECK_GT(committed, 1'000);
  CHECK_GT(reads, 200);
}

TEST_CASE("cluster of cores: a node alone needs nobody") {
  core_cluster cluster{{2, 1, 0, {}}};
  cluster.run(milliseconds{5000});
  cluster.settle();
  CHECK_EQ(cluster.violation(), "");
  CHECK_GT(cluster.committed_entries(), 100);
}

TEST_CASE("cluster of cores: when the leader dies another serves soon, in virtual time") {
  std::vector<milliseconds> times;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    core_cluster cluster{{seed, 3, 0, {}}};
    times.push_back(cluster.fail_over(milliseconds{1'500 + 13 * seed}));
    CHECK_EQ(cluster.violation(), "");
    CHECK_EQ(cluster.terms_led(), 2);
  }
  std::sort(times.begin(), times.end());
  CHECK_LE(times[times.size() / 2], milliseconds{350});
  CHECK_LE(times.back(), milliseconds{1'000});
}

TEST_CASE("cluster of cores: faults find each rule that guards the disk when it is taken out") {
  for (auto rule : {defect::vote_before_saved, defect::acknowledge_before_saved, defect::count_own_write_early,
                    defect::old_write_raises_durable, defect::committed_overtakes_durable,
                    defect::step_down_clears_vote, defect::stale_tally_counts, defect::read_without_own_term_commit}) {
    CAPTURE(static_cast<int>(rule));
    CHECK_NE(run_without(rule, 0, 2000), "");
  }
}

TEST_CASE("cluster of cores: logs are compacted and states replaced along the way (Raft §7)") {
  std::size_t installed = 0, compacted = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    core_cluster cluster{{seed, 3, 0, {}}};
    cluster.run(milliseconds{6000});
    CHECK_EQ(cluster.violation(), "");
    installed += cluster.installed();
    compacted += cluster.compacted();
  }
  CHECK_GT(installed, 0);
  CHECK_GT(compacted, 100);
}

TEST_CASE("cluster of cores: faults find each rule of compaction and snapshots when it is taken out") {
  for (auto rule : {defect::compact_past_checkpoint, defect::older_snapshot_installed, defect::snapshot_drops_suffix}) {
    CAPTURE(static_cast<int>(rule));
    CHECK_NE(run_without(rule, 0, 2000), "");
  }
}

TEST_CASE("cluster of cores: members come and go under faults, one at a time (thesis §4.1)") {
  std::size_t changes = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    core_cluster cluster{{seed, 3, 2, {}}};
    cluster.run(milliseconds{4000});
    if (cluster.violation().empty())
      cluster.settle();
    CHECK_EQ(cluster.violation(), "");
    changes += cluster.membership_changes();
  }
  CHECK_GT(changes, 30);
}

TEST_CASE("cluster of cores: faults find a leader that counts itself though it is no voter") {
  CHECK_NE(run_without(defect::count_self_without_vote, 2, 2000), "");
}
