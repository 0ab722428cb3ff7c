#include "actors/snapshot_actor.hpp"

namespace coordinator {

snapshot_actor::behavior_type snapshot_behavior(snapshot_actor::stateful_pointer<snapshot_state>) {
  return {
      [=](const read_snapshot&) {},
      [=](const remove_snapshot&) {},
      [=](store_snapshot&) {},
      [=](const discard_snapshot&) {},
  };
}

}  // namespace coordinator
