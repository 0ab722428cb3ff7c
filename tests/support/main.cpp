#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/run_tests.hpp"

int main(int argc, char** argv) {
  return coordinator::run_tests(argc, argv);
}
