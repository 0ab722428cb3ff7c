#include "tests/simulation/program.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace coordinator::simulation;

namespace {

int run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "coordinator-sim");
  std::vector<char*> argv;
  for (auto& each : arguments)
    argv.push_back(each.data());
  return run_program(static_cast<int>(argv.size()), argv.data());
}

}  // namespace

TEST_CASE("simulation program: seeds are 64 bits wide, and both ends are played") {
  CHECK(run({"--seeds", "18446744073709551614..18446744073709551615", "--virtual-seconds", "1"}) == 0);
  CHECK(run({"--seeds", "0..2", "--virtual-seconds", "1", "--jobs", "7", "--nodes", "5", "--profile", "calm"}) == 0);
  CHECK(run({"--replay", "18446744073709551615", "--virtual-seconds", "1"}) == 0);
}

TEST_CASE("simulation program: what cannot be meant is refused with status 2") {
  for (auto seeds : {"5..1", "-1..2", "1..", "..1", "1..2x", "1.5", "1..18446744073709551616", " 1..2", ""})
    CHECK(run({"--seeds", seeds}) == 2);
  CHECK(run({}) == 2);
  CHECK(run({"--trace"}) == 2);
  CHECK(run({"--seeds", "1..1", "--trace"}) == 2);
  CHECK(run({"--replay", "-1"}) == 2);
  CHECK(run({"--replay", "1", "--seeds", "1..1"}) == 2);
  CHECK(run({"--seeds", "1..1", "--nodes", "4"}) == 2);
  CHECK(run({"--seeds", "1..1", "--jobs", "0"}) == 2);
  CHECK(run({"--seeds", "1..1", "--virtual-seconds", "0"}) == 2);
  CHECK(run({"--seeds", "1..1", "--profile", "none"}) == 2);
  CHECK(run({"--seeds", "1..1", "--defect", "none"}) == 2);
  CHECK(run({"--unknown"}) == 2);
}

TEST_CASE("simulation program: a violation makes it fail, and so does its replay") {
  CHECK(run({"--seeds", "1..1", "--profile", "crashes", "--defect", "vote_before_saved"}) == 1);
  CHECK(run({"--replay", "1", "--profile", "crashes", "--defect", "vote_before_saved"}) == 1);
}
