#pragma once

#include <cstdio>
#include <cstdlib>

/// Ends the process if something is false that Raft's safety rests on. Stays on in what ships: a node that goes on
/// from there could acknowledge what is not so, and a stopped node is what the others are made to survive.
#define COORDINATOR_INVARIANT(condition)                                                     \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
