#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cluster/cluster.hpp"

// What is done to the files of a node that does not run, and how they are found.

namespace coordinator {

/// The names in a directory with this in them; none where there is no such directory.
std::vector<std::string> files_with(const std::string& directory, const std::string& part);
/// The file that holds a node's state; empty when there is none.
std::string state_file(const std::string& directory);
/// Writes over 200 bytes of a file here and there.
void spoil(const std::string& path, std::uint64_t seed = 1);
/// Changes the value of a shared key in a node's state, with all checksums as they should be, so that no check of the
/// file alone can find it. Requires that the node has the key.
void change_value(const cluster& nodes, int node, const std::string& key);

}  // namespace coordinator
