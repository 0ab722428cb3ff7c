#include "tests/cluster/ledger.hpp"

namespace coordinator {
namespace {

bool goes_elsewhere(const answer& said) {
  return said.status == 0 || said.waits_for_disk();
}

}  // namespace

ledger::ledger(const cluster& nodes, std::vector<int> targets, int writers)
    : nodes_(nodes), targets_(std::move(targets)) {
  for (int i = 0; i < writers; ++i)
    threads_.emplace_back([this, i] { write(i); });
}

void ledger::stop() {
  stopping_ = true;
  for (auto& thread : threads_)
    thread.join();
  threads_.clear();
}

std::size_t ledger::size() const {
  std::lock_guard lock{mutex_};
  return acknowledged_.size();
}

bool ledger::wait_for_more(std::size_t writes) const {
  auto goal = size() + writes;
  return eventually(cluster::patience, [&] { return size() >= goal; });
}

void ledger::write(int writer) {
  auto target = static_cast<std::size_t>(writer);
  for (int number = 0; !stopping_; ++number) {
    auto key = "ledger-" + std::to_string(writer) + "-" + std::to_string(number);
    auto value = "value of " + key;
    call_options options;
    options.headers["Idempotency-Key"] = key;
    options.headers["X-Request-Timeout-Ms"] = "30000";
    answer said;
    for (int attempt = 0; attempt < 200 && goes_elsewhere(said); ++attempt) {
      said = nodes_.put(targets_[target % targets_.size()], key, value, options);
      if (goes_elsewhere(said)) {
        ++target;
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
      }
    }
    std::lock_guard lock{mutex_};
    if (said.ok())
      acknowledged_[key] = value;
    else
      complaints_.push_back(key + ": " + std::to_string(said.status) + " " + said.body);
  }
}

std::string ledger::what_is_lost(int node) const {
  std::lock_guard lock{mutex_};
  // One page after another, all read linearizably: each page sees everything acknowledged before it was asked for.
  std::map<std::string, bool> found;
  std::string cursor;
  do {
    auto said = nodes_.get(node, "/api/kv?prefix=ledger-&limit=1000" + (cursor.empty() ? "" : "&cursor=" + cursor));
    auto page = said.json();
    if (!said.ok() || !page.is_object() || !page.contains("keys"))
      return "the list of keys was answered " + std::to_string(said.status) + " " + said.body;
    for (auto& key : page["keys"])
      found[key.value("key", "")] = true;
    cursor = page["next_cursor"].is_string() ? page["next_cursor"].get<std::string>() : "";
  } while (!cursor.empty());
  std::size_t number = 0;
  for (auto& [key, value] : acknowledged_) {
    if (!found.contains(key))
      return key + " is not there";
    // The list shows no values; some are enough to see that keys and values belong together.
    if (++number % 50 == 0 && nodes_.value(node, key) != value)
      return key + " has another value";
  }
  return {};
}

}  // namespace coordinator
