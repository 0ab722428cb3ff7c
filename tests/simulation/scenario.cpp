#include "tests/simulation/scenario.hpp"

#include <doctest/doctest.h>

namespace coordinator::simulation {
namespace {

constexpr milliseconds leader_within{2000};
constexpr milliseconds agreed_within{10'000};

}  // namespace

scenario::scenario(unsigned nodes, std::uint64_t seed) : random_(seed), room_(random_), watch_(nodes) {
  nodes_ = std::make_unique<cluster>(cluster_options{nodes, 0, {}, {}}, room_, random_, watch_);
  nodes_->sky.leaks = false;
  nodes_->on_carried = [this](unsigned, unsigned, const caf::message& what) {
    requests_ += what.match_elements<beat>() || what.match_elements<request_vote>();
    if (!what.match_elements<append_entries>())
      return;
    ++requests_;
    for (auto& entry : what.get_as<append_entries>(0).entries)
      entry_bytes_ += entry.payload.size();
  };
  for (unsigned i = 0; i < nodes; ++i)
    nodes_->start(i);
}

scenario::~scenario() {
  nodes_->on_carried = nullptr;
}

void scenario::step() {
  REQUIRE(room_.step([this](machine_room::owner who) { nodes_->ran(who); }));
  if (auto& found = watch_.found())
    FAIL(found->invariant << ": " << found->what);
}

void scenario::pass(milliseconds time) {
  until(time, [] { return false; });
}

bool scenario::until(milliseconds most, const std::function<bool()>& condition) {
  for (auto end = room_.now() + most; !condition(); step())
    if (room_.now() >= end)
      return false;
  return true;
}

// -- the network -----------------------------------------------------------------------

void scenario::unreliable(bool yes) {
  nodes_->sky = yes ? weather{200, 27'000, 100, 20, 10, false, false, 0} : weather{200, 1000, 0, 0, 0, true, false, 0};
}

void scenario::disconnect(unsigned node) {
  apart_.insert(node);
  for (unsigned i = 0; i < size(); ++i)
    if (i != node)
      cut(node, i);
}

void scenario::connect(unsigned node) {
  apart_.erase(node);
  join(node);
}

void scenario::join(unsigned node) {
  for (unsigned i = 0; i < size(); ++i)
    if (i != node && connected(i)) {
      nodes_->block(node, i, false);
      nodes_->block(i, node, false);
    }
}

void scenario::cut(unsigned a, unsigned b) {
  nodes_->block(a, b, true);
  nodes_->block(b, a, true);
}

void scenario::heal() {
  apart_.clear();
  nodes_->unblock_all();
}

// -- nodes -------------------------------------------------------------------------------

void scenario::crash(unsigned node) {
  nodes_->stop(node, true);
}

void scenario::restart(unsigned node) {
  REQUIRE(nodes_->start(node));
}

// -- who leads ---------------------------------------------------------------------------

unsigned scenario::leader() {
  auto found = size();
  auto one_leads = [&] {
    // One that was replaced may not know it yet: the highest term counts.
    found = size();
    for (unsigned i = 0; i < size(); ++i)
      if (nodes_->up(i) && connected(i) && nodes_->keeper(i).role() == node_role::leader &&
          (found == size() || term(i) > term(found)))
        found = i;
    if (found == size())
      return false;
    auto& keeper = nodes_->keeper(found);
    return keeper.log().term_at(keeper.commit_index()) == keeper.current_term();
  };
  INFO("a leader stands within 2 s");
  REQUIRE(until(leader_within, one_leads));
  for (unsigned i = 0; i < size(); ++i)
    if (i != found && nodes_->up(i) && nodes_->keeper(i).role() == node_role::leader)
      REQUIRE(term(i) != term(found));
  return found;
}

bool scenario::is_led() const {
  for (unsigned i = 0; i < size(); ++i)
    if (nodes_->up(i) && connected(i) && nodes_->keeper(i).role() == node_role::leader)
      return true;
  return false;
}

// -- commands ----------------------------------------------------------------------------

scenario::pending scenario::ask(unsigned node, milliseconds timeout, std::size_t bytes) {
  auto x = std::make_shared<command>();
  x->key = "key";
  x->key += std::to_string(++commands_);
  x->value = "value";
  x->value += std::to_string(commands_);
  x->value.resize(std::max(x->value.size(), bytes), '.');
  write_request request;
  request.body = put_key{x->key, x->value, {}, false, false};
  request.timeout = timeout;
  nodes_->port(node).write(std::move(request), [x](write_result answer) { x->answer = std::move(answer); });
  return x;
}

unsigned scenario::applied_by(const command& x) const {
  unsigned count = 0;
  for (unsigned i = 0; i < size(); ++i) {
    if (!nodes_->up(i))
      continue;
    auto answer = nodes_->machine(i).answer(get_key{x.key});
    auto* found = std::get_if<key_view>(&answer);
    count += found && found->value == x.value;
  }
  return count;
}

log_index scenario::agree(unsigned by, std::size_t bytes) {
  auto end = now() + agreed_within;
  for (unsigned i = 0; now() < end; ++i) {
    if (!nodes_->up(i % size()) || !connected(i % size()))
      continue;
    auto x = ask(i % size(), milliseconds{2000}, bytes);
    if (!until(milliseconds{3000}, [&] { return x->answer.has_value(); }) || !x->applied())
      continue;
    INFO(x->key, " is applied by ", applied_by(*x), " nodes, and is to be by ", by);
    REQUIRE(until(leader_within, [&] { return applied_by(*x) >= by; }));
    return x->answer->index;
  }
  FAIL("no command was agreed on within 10 s");
  return {};
}

bool scenario::all_equal() const {
  auto leader = nodes_->leader();
  if (leader == size())
    return false;
  for (unsigned i = 0; i < size(); ++i)
    if (!nodes_->up(i) || nodes_->machine(i).last_applied() != nodes_->keeper(leader).log().last_index() ||
        nodes_->machine(i).checksum() != nodes_->machine(leader).checksum())
      return false;
  return true;
}

}  // namespace coordinator::simulation
