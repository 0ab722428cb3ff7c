#define DOCTEST_CONFIG_IMPLEMENT
#include <spdlog/spdlog.h>

#include "tests/support/run_tests.hpp"

int main(int argc, char** argv) {
  // What the nodes complain of is what was done to them.
  spdlog::set_level(spdlog::level::off);
  return coordinator::run_tests(argc, argv);
}
