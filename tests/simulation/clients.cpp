#include "tests/simulation/clients.hpp"

#include <algorithm>

namespace coordinator::simulation {
namespace {

constexpr unsigned keys = 3;
constexpr microseconds slack{1'500'000};  // How long after its time-out a call may end: timers are not exact.

}  // namespace

clients::clients(cluster& nodes, machine_room& room, chance& random, checker& watch, unsigned callers, bool with_tasks)
    : nodes_(nodes), room_(room), random_(random), watch_(watch), with_tasks_(with_tasks), attempts_(watch) {
  callers_.resize(callers);
  for (unsigned key = 0; key < keys; ++key)
    keys_.emplace_back(key_name(key), watch);
}

void clients::start() {
  for (unsigned i = 0; i < callers_.size(); ++i)
    think(i);
}

void clients::think(unsigned who) {
  room_.after(microseconds{random_.between(500, random_.one_in(20) ? 1'000'000 : 60'000)}, [this, who] { begin(who); });
}

void clients::begin(unsigned who) {
  auto& me = callers_[who];
  if (me.now.number != 0)
    return;
  if (finishing_)
    return;
  if (room_.now() < nodes_.quiet_until)
    return think(who);
  if (!nodes_.up(me.node) || random_.one_in(5))
    me.node = static_cast<unsigned>(random_.below(nodes_.size()));
  if (auto leader = nodes_.leader(); leader < nodes_.size() && random_.one_in(4))
    me.node = leader;
  if (!nodes_.up(me.node))
    return think(who);
  if (with_tasks_ && who % 2 == 0)
    return work(who);
  auto draw = random_.below(10);
  if (draw < 5)
    put(who);
  else
    read(who, draw < 9);
}

clients::call& clients::open(unsigned who, kind what) {
  auto& x = callers_[who].now;
  x = {};
  x.number = ++calls_;
  x.what = what;
  x.node = callers_[who].node;
  return x;
}

bool clients::closes(unsigned who, std::uint64_t number) {
  if (callers_[who].now.number != number) {
    return false;  // Its node was stopped.
  }
  ++answered_;
  return true;
}

void clients::node_stopped(unsigned node) {
  for (unsigned i = 0; i < callers_.size(); ++i)
    if (callers_[i].now.number != 0 && callers_[i].now.node == node) {
      callers_[i].now = {};
      think(i);
    }
}

bool clients::idle() const {
  return std::all_of(callers_.begin(), callers_.end(), [](auto& x) { return x.now.number == 0; });
}

std::string clients::unanswered() const {
  for (auto& x : callers_)
    if (x.now.number != 0 && nodes_.up(x.now.node) && room_.now() > x.now.due + slack)
      return "call " + std::to_string(x.now.number) + " at " + nodes_.name(x.now.node) + " has no answer";
  return {};
}

// -- keys --------------------------------------------------------------------------------

void clients::write(unsigned who, command_body body, milliseconds timeout) {
  auto& x = callers_[who].now;
  x.due = room_.now() + timeout;
  write_request request;
  request.body = std::move(body);
  request.timeout = timeout;
  auto done = [this, who, number = x.number](write_result result) {
    if (closes(who, number))
      on_written(who, result);
  };
  nodes_.port(x.node).write(std::move(request), done);
}

void clients::put(unsigned who) {
  auto& x = open(who, kind::put);
  x.key = static_cast<unsigned>(random_.below(keys));
  x.value = "v" + std::to_string(++values_);
  // Some are so large that an append_entries holds one of them.
  if (random_.one_in(25))
    x.value.resize(50'000, '.');
  auto& key = keys_[x.key];
  x.floor = key.begin();
  key.begin_write(x.value);
  put_key body{key_name(x.key), x.value, {}, false, false};
  if (x.floor != 0 && random_.one_in(4))
    body.if_match = x.if_match = x.floor;
  write(who, std::move(body), milliseconds{random_.between(200, 3000)});
}

void clients::on_written(unsigned who, const write_result& result) {
  auto x = callers_[who].now;
  callers_[who].now = {};
  if (x.what == kind::put)
    on_put(x, result);
  else if (x.what == kind::claim)
    on_claimed(who, x, result);
  else if (x.what == kind::complete)
    on_completed(x, result);
  think(who);
}

void clients::on_put(const call& x, const write_result& result) {
  auto& key = keys_[x.key];
  if (result.outcome == write_result::outcome::unknown)
    return;
  if (result.outcome == write_result::outcome::not_applied || !result.result.ok()) {
    key.refused(x.value);
    if (result.outcome == write_result::outcome::applied && x.if_match == 0)
      watch_.violate("a write is answered as it was applied",
                     x.value + " answered " + std::string{to_string(result.result.code)});
    return;
  }
  if (result.index > watch_.committed())
    watch_.violate("what is acknowledged is committed", x.value + " was acknowledged before it was committed");
  key.wrote(x.value, result.result.version, x.if_match);
}

void clients::read(unsigned who, bool linearizable) {
  auto& x = open(who, linearizable ? kind::read : kind::stale_read);
  x.key = static_cast<unsigned>(random_.below(keys));
  x.floor = keys_[x.key].begin();
  milliseconds timeout{random_.between(200, 3000)};
  x.due = room_.now() + timeout;
  auto done = [this, who, number = x.number](read_result result) {
    if (!closes(who, number))
      return;
    auto was = callers_[who].now;
    callers_[who].now = {};
    on_read(was, result);
    think(who);
  };
  nodes_.port(x.node).read({get_key{key_name(x.key)}, linearizable, timeout, -1}, done);
}

void clients::on_read(const call& x, const read_result& result) {
  // A node whose state is gone says so, and another one can answer.
  auto* error = std::get_if<query_error>(&result.result);
  if (!result.ok || (error && error->code == query_error::kind::unusable))
    return;
  auto* found = std::get_if<key_view>(&result.result);
  auto& key = keys_[x.key];
  if (x.what == kind::read)
    key.read(x.floor, found ? found->version : 0, found ? found->value : "", nodes_.name(x.node));
  else if (found)
    key.saw(found->version, found->value);
}

void clients::observe(const state_machine& machine) {
  for (unsigned key = 0; key < keys; ++key) {
    auto answer = machine.answer(get_key{key_name(key)});
    if (auto* found = std::get_if<key_view>(&answer))
      keys_[key].saw(found->version, found->value);
  }
}

void clients::read_all(unsigned node) {
  for (unsigned key = 0; key < keys; ++key) {
    if (key >= callers_.size() || callers_[key].now.number != 0)
      continue;
    callers_[key].node = node;
    auto& x = open(key, kind::read);
    x.key = key;
    x.floor = keys_[key].begin();
    x.due = room_.now() + milliseconds{3000};
    auto done = [this, key, number = x.number](read_result result) {
      if (!closes(key, number))
        return;
      auto was = callers_[key].now;
      callers_[key].now = {};
      on_read(was, result);
      if (!result.ok)
        watch_.violate("a healed cluster answers", "a read ended with " + result.reason);
    };
    nodes_.port(node).read({get_key{key_name(key)}, true, milliseconds{3000}, -1}, done);
  }
}

void clients::check_at_end() {
  for (auto& key : keys_)
    key.check_at_end();
}

// -- tasks ---------------------------------------------------------------------------------

void clients::submit(unsigned who) {
  open(who, kind::submit);
  submit_tasks body;
  for (auto n = random_.between(1, 3); n > 0; --n) {
    task_spec task;
    task.task_id = "task" + std::to_string(++tasks_);
    task.max_attempts = 20;
    task.spec_json = R"({"task_id":")" + task.task_id + R"(","command":["true"]})";
    body.tasks.push_back(std::move(task));
  }
  write(who, std::move(body), milliseconds{2000});
}

void clients::work(unsigned who) {
  auto& me = callers_[who];
  auto draw = random_.below(20);
  if (draw < 5)
    return submit(who);
  if (draw < 7) {
    open(who, kind::register_worker);
    coordinator::register_worker body;
    body.worker_id = worker_name(who);
    body.host = "localhost";
    body.slots = 4;
    return write(who, std::move(body), milliseconds{2000});
  }
  if (draw < 8) {
    // Its attempts go to others: a result that it still sends must not count.
    open(who, kind::remove);
    return write(who, remove_worker{worker_name(random_.below(callers_.size()) & ~1u)}, milliseconds{2000});
  }
  if (draw < 10) {
    auto& x = open(who, kind::beat);
    worker_beat beat;
    beat.worker_id = worker_name(who);
    beat.lists_running = true;
    for (auto& job : me.jobs)
      beat.running.push_back({job.task_id, job.attempt});
    x.due = room_.now() + milliseconds{2000};
    auto done = [this, who, number = x.number](beat_result) {
      if (!closes(who, number))
        return;
      callers_[who].now = {};
      think(who);
    };
    return nodes_.port(x.node).beat(std::move(beat), milliseconds{2000}, done);
  }
  if (draw < 15 && !me.jobs.empty()) {
    auto& x = open(who, kind::complete);
    auto chosen = me.jobs.begin() + static_cast<std::ptrdiff_t>(random_.below(me.jobs.size()));
    x.job = *chosen;
    me.jobs.erase(chosen);
    x.overtaken = attempts_.is_overtaken(x.job.task_id, x.job.attempt);
    return write(who, complete_task{x.job.task_id, worker_name(who), x.job.attempt, "{}"}, milliseconds{2000});
  }
  auto& x = open(who, kind::claim);
  claim_request claim;
  claim.worker_id = worker_name(who);
  claim.max_tasks = 2;
  claim.wait = milliseconds{random_.below(500)};
  claim.timeout = milliseconds{2000};
  x.due = room_.now() + claim.wait + claim.timeout;
  auto done = [this, who, number = x.number](write_result result) {
    if (closes(who, number))
      on_written(who, result);
  };
  nodes_.port(x.node).claim(std::move(claim), done);
}

void clients::on_claimed(unsigned who, const call&, const write_result& result) {
  if (result.outcome != write_result::outcome::applied || !result.result.ok())
    return;
  for (auto& job : result.result.assignments) {
    attempts_.given(job.task_id, job.attempt, worker_name(who));
    callers_[who].jobs.push_back(job);
  }
}

void clients::on_completed(const call& x, const write_result& result) {
  if (result.outcome != write_result::outcome::applied || !result.result.ok())
    return;
  attempts_.completed(x.job.task_id, x.job.attempt, x.overtaken);
}

}  // namespace coordinator::simulation
