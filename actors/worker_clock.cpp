#include "actors/worker_clock.hpp"

#include <caf/actor_cast.hpp>
#include <caf/message.hpp>
#include <utility>
#include <vector>

namespace coordinator {

/// Does it to the schedule, and says so if something is due sooner now.
template <class Change>
void worker_clock::change(Change what) {
  time_point before, after;
  {
    std::lock_guard lock{mutex_};
    before = next_;
    what();
    after = schedule_.empty() ? time_point::max() : schedule_.begin()->first;
    next_ = after;
  }
  if (after < before)
    sooner_(after);
}

void worker_clock::ship_due(time_point now) {
  std::vector<unique_delayed_event_ptr> due;
  change([&] {
    for (auto i = schedule_.begin(); i != schedule_.end() && i->first <= now; i = schedule_.erase(i)) {
      if (i->second->backlink != actor_lookup_.end())
        actor_lookup_.erase(i->second->backlink);
      due.push_back(std::move(i->second));
    }
  });
  for (auto& event : due)
    ship(*event);
}

void worker_clock::set_ordinary_timeout(time_point t, caf::abstract_actor* self, caf::atom_value type,
                                        std::uint64_t id) {
  change([&] { super::set_ordinary_timeout(t, self, type, id); });
}

void worker_clock::set_request_timeout(time_point t, caf::abstract_actor* self, caf::message_id id) {
  change([&] { super::set_request_timeout(t, self, id); });
}

void worker_clock::set_multi_timeout(time_point t, caf::abstract_actor* self, caf::atom_value type, std::uint64_t id) {
  change([&] { super::set_multi_timeout(t, self, type, id); });
}

void worker_clock::cancel_ordinary_timeout(caf::abstract_actor* self, caf::atom_value type) {
  change([&] { super::cancel_ordinary_timeout(self, type); });
}

void worker_clock::cancel_request_timeout(caf::abstract_actor* self, caf::message_id id) {
  change([&] { super::cancel_request_timeout(self, id); });
}

void worker_clock::cancel_timeouts(caf::abstract_actor* self) {
  change([&] { super::cancel_timeouts(self); });
}

void worker_clock::schedule_message(time_point t, caf::strong_actor_ptr receiver, caf::mailbox_element_ptr content) {
  change([&] { super::schedule_message(t, std::move(receiver), std::move(content)); });
}

void worker_clock::schedule_message(time_point t, caf::group target, caf::strong_actor_ptr sender,
                                    caf::message content) {
  change([&] { super::schedule_message(t, std::move(target), std::move(sender), std::move(content)); });
}

void worker_clock::cancel_all() {
  schedule_map schedule;
  change([&] {
    schedule.swap(schedule_);
    actor_lookup_.clear();
  });
}

}  // namespace coordinator
