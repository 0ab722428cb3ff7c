#pragma once

#include <memory>
#include <string>

#include "persistence/database.hpp"

namespace coordinator {

/// Runs `what` on a writer's store. Gives why it failed, or nothing. A failure ends the store, for nothing can be
/// written through it afterwards: `failed` is told why, SQLite's code, and whether the contents are damaged, and has to
/// close it. Without a store nothing is run, and `error` is why.
template <class Store, class What, class Failed>
std::string attempt_on(const std::unique_ptr<Store>& store, const std::string& error, What what, Failed failed) {
  if (!store)
    return error;
  std::string why;
  try {
    what(*store);
  } catch (const damaged_error& e) {
    why = e.what();
    failed(why, e.code(), true);
  } catch (const database_error& e) {
    why = e.what();
    failed(why, e.code(), false);
  }
  return why;
}

}  // namespace coordinator
