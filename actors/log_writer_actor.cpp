#include "actors/log_writer_actor.hpp"

#include <stdexcept>

namespace coordinator {

log_writer_actor::behavior_type log_writer_behavior(log_writer_actor::stateful_pointer<log_writer_state> self,
                                                    std::unique_ptr<raft_store> store) {
  using asker = caf::typed_actor<caf::reacts_to<log_written>, caf::reacts_to<log_loaded>>;
  self->state.store = std::move(store);
  return {
      [=](const write_log& x) {
        log_written done{x.write.number, {}, {}};
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
      [=](const load_log& x) {
        log_loaded done;
        done.request = x.request;
        try {
          if (!self->state.store)
            throw std::runtime_error("this node has no disk to read from");
          done.entries = self->state.store->read_entries(x.from, x.to, x.max_bytes);
        } catch (const std::exception& e) {
          done.error = e.what();
        }
        if (auto to = caf::actor_cast<asker>(self->current_sender()))
          self->send(to, std::move(done));
      },
      [=](log_writer_tick) {},
  };
}

}  // namespace coordinator
