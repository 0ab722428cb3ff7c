#include "actors/state_writer_actor.hpp"

#include <stdexcept>

namespace coordinator {

state_writer_actor::behavior_type state_writer_behavior(state_writer_actor::stateful_pointer<state_writer_state> self,
                                                        std::unique_ptr<state_store> store) {
  using asker = caf::typed_actor<caf::reacts_to<state_written>>;
  self->state.store = std::move(store);
  return {
      [=](const write_state& x) {
        state_written done{x.write.last_applied, {}, x.generation};
        try {
          if (!self->state.store)
            throw std::runtime_error("this node has no disk to write to");
          self->state.store->write(x.write);
        } catch (const std::exception& e) {
          done.error = e.what();
        }
        if (auto to = caf::actor_cast<asker>(self->current_sender()))
          self->send(to, std::move(done));
      },
      [=](swap_state&) {},
      [=](checkpoint_state) {},
      [=](const state_file_noted&) {},
      [=](copy_state& x) { x.done(state_copied{{}, {}, {}, 0, 0, 0, "not yet"}); },
      [=](state_writer_tick) {},
  };
}

}  // namespace coordinator
