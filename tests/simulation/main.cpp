#include "tests/simulation/program.hpp"

int main(int argc, char** argv) {
  return coordinator::simulation::run_program(argc, argv);
}
