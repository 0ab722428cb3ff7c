#pragma once

#include <sqlite3.h>

#include <string>
#include <vector>

#include "persistence/database.hpp"
#include "persistence/node_files.hpp"
#include "tests/support/fault_vfs.hpp"

namespace coordinator {

/// The root directory of a simulated disk.
class fault_files : public node_files {
 public:
  explicit fault_files(fault_disk& disk) : disk_(disk) {}

  std::string path(const std::string& name) const override { return "/" + name; }
  std::vector<std::string> names() const override {
    if (disk_.stopped())
      throw database_error(SQLITE_IOERR, "the directory cannot be read");
    std::vector<std::string> found;
    for (auto& path : disk_.files())
      found.push_back(path.substr(1));
    return found;
  }
  void rename(const std::string& from, const std::string& to) override { disk_.rename(path(from), path(to)); }
  void remove(const std::string& name) override { disk_.remove(path(name)); }
  void sync() override { disk_.sync_directory(); }
  const std::string& vfs() const override { return disk_.vfs(); }

 private:
  fault_disk& disk_;
};

}  // namespace coordinator
