#pragma once

namespace coordinator::simulation {

/// The whole of coordinator-sim; returns its exit status.
int run_program(int argc, char** argv);

}  // namespace coordinator::simulation
