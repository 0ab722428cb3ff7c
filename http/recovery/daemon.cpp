#include "http/recovery/daemon.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace coordinator::recovery {

namespace {

namespace fs = std::filesystem;

std::vector<endpoint> endpoints_of(const recovery_config& config) {
  std::vector<endpoint> result;
  for (auto& node : config.nodes)
    result.push_back(node.http);
  return result;
}

client_options patience_of(const recovery_config& config) {
  client_options options;
  options.connect_timeout = config.when.probe_timeout;
  options.give_up_after = milliseconds{4'000};
  return options;
}

std::int64_t epoch_ms() {
  return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

template <std::size_t N>
std::size_t index_of(const std::array<std::string_view, N>& words, const std::string& text) {
  return static_cast<std::size_t>(std::find(words.begin(), words.end(), text) - words.begin());
}

}  // namespace

daemon::daemon(const recovery_config& config, daemon_options options, std::function<void(const entry&)> say)
    : config_(config),
      options_(std::move(options)),
      name_(options_.host + ":" + std::to_string(::getpid()) + ":" + random_id().substr(0, 8)),
      say_(std::move(say)),
      cluster_(endpoints_of(config), patience_of(config)),
      lease_(cluster_, name_, config.lease),
      record_(cluster_),
      decisions_(config),
      prober_(config, options_.host),
      actions_(config, cluster_, [this](bool step) {
        if (need_ == lease_need::none || (need_ == lease_need::where_possible && !leader_seen_))
          return true;
        if (!step) {
          if (lease_.is_held())
            lease_.hold();
          return need_ == lease_need::where_possible || lease_.is_held();
        }
        auto state = lease_.hold(true);
        return state == lease::state::held ||
               (state == lease::state::unreachable && need_ == lease_need::where_possible);
      }) {
  std::error_code error;
  fs::create_directories(config_.state_dir, error);
  if (error)
    throw std::runtime_error("state_dir " + config_.state_dir + " cannot be made: " + error.message());
  // Looking disturbs nobody, and so may be done beside a daemon that acts.
  if (!options_.dry_run)
    lock_state_directory();
  // A limit holds although the daemon itself was restarted, also where no cluster is there to tell.
  for (auto& x : journal::latest_actions(config_.state_dir + "/recovery.log"))
    remember(x);
  journal_ = std::make_unique<journal>(config_.state_dir + "/recovery.log");
}

daemon::~daemon() {
  if (!options_.dry_run)
    lease_.release();
  if (lock_ >= 0)
    ::close(lock_);
}

void daemon::lock_state_directory() {
  auto file = config_.state_dir + "/lock";
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (lock_ < 0)
    throw std::runtime_error("state_dir " + config_.state_dir + " is not writable: " + std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    lock_ = -1;
    throw std::runtime_error("state_dir " + config_.state_dir +
                             " is in use by another coordctl recover; stop that, or add --dry-run to only look");
  }
}

milliseconds daemon::now() const {
  return std::chrono::duration_cast<milliseconds>(clock::now().time_since_epoch());
}

/// What was done before, by whomever, as if it had been done now as long ago.
void daemon::remember(const entry& x) {
  auto s = index_of(strategy_words, x.strategy);
  auto v = index_of(verb_words, x.action);
  if (s < strategy_words.size() && v < verb_words.size())
    decisions_.acted(static_cast<strategy>(s), x.node, static_cast<verb>(v),
                     now() - milliseconds{std::max<std::int64_t>(0, epoch_ms() - x.time_ms)});
}

bool daemon::is_mine(const std::string& node) const {
  for (auto& each : config_.nodes)
    if (each.name == node)
      return each.host.empty() || each.host == options_.host;
  return true;
}

void daemon::write(entry x, bool shared) {
  x.time_ms = epoch_ms();
  x.daemon = name_;
  x.dry_run = options_.dry_run;
  x.id = random_id();
  journal_->add(x);
  say_(x);
  if (shared && !options_.dry_run && !decisions_.frozen())
    record_.add(x);
}

bool daemon::run(const std::atomic<bool>& stopping) {
  write({.event = "daemon", .outcome = "started"}, false);
  auto began = clock::now();
  for (int looks = 1; !stopping; ++looks) {
    auto next = clock::now() + config_.when.interval;
    look();
    if (options_.once) {
      auto seen_enough = looks > config_.when.confirm_looks && decisions_.suspected() == 0;
      auto nothing_more = decisions_.open() == 0 || options_.dry_run || decisions_.frozen();
      if ((seen_enough && nothing_more && !record_.has_unwritten()) || clock::now() - began >= config_.limits.once)
        break;
    }
    constexpr milliseconds a_moment{50};
    while (!stopping && clock::now() < next)
      std::this_thread::sleep_for(std::min<clock::duration>(a_moment, next - clock::now()));
  }
  write({.event = "daemon", .outcome = "stopped"}, false);
  return decisions_.open() == 0 && !decisions_.frozen();
}

void daemon::check_split_brain_mark() {
  std::error_code error;
  auto marked = fs::exists(split_brain_mark(config_.state_dir), error);
  if (marked && !decisions_.frozen()) {
    decisions_.freeze();
    write({.event = "withheld",
           .strategy = std::string{word(strategy::split_brain)},
           .outcome = "nothing is touched",
           .detail = split_brain_mark(config_.state_dir) + " is there; remove it when the split brain is cleared"},
          false);
  } else if (!marked && !error && decisions_.frozen() && !options_.dry_run) {
    decisions_.thaw();
  }
}

void daemon::mark_split_brain(const std::string& seen) {
  std::ofstream{split_brain_mark(config_.state_dir)}
      << seen
      << "\nNothing is touched any more while this file is here. Remove it when the cause is found and cleared.\n";
}

void daemon::look() {
  check_split_brain_mark();
  auto seen = prober_.look(now());
  for (auto& node : seen.nodes)
    if (!node.stranger.empty() && told_strangers_.insert(node.name + " " + node.stranger).second)
      write({.event = "withheld",
             .node = node.name,
             .outcome = "nothing is touched",
             .detail = "its url answers as " + node.stranger + "; correct the configuration"},
            false);
  new_lease_ = false;
  leader_seen_ = std::any_of(seen.nodes.begin(), seen.nodes.end(),
                             [](auto& node) { return node.status && node.status->role == "LEADER"; });
  auto decided = decisions_.look(seen, now());
  for (auto& n : decided.notices)
    tell(n);
  carry_out(decided, seen);
  if (!options_.dry_run)
    share();
}

void daemon::tell(const notice& n) {
  entry x{.strategy = std::string{word(n.about)}, .node = n.node, .seen = n.text};
  switch (n.what) {
    case notice::kind::noticed:
      x.event = "noticed";
      write(std::move(x), false);
      return;
    case notice::kind::withheld:
      x.event = "withheld";
      x.outcome = "nothing is touched";
      x.detail = std::exchange(x.seen, {});
      write(std::move(x), false);
      return;
    case notice::kind::mended:
      x.event = "mended";
      x.outcome = "mended";
      x.took_ms = n.took.count();
      x.detail = "after " + std::to_string(x.took_ms) + " ms";
      // Of all daemons that see it, the one that has the lease tells the cluster.
      write(std::move(x), lease_.is_held());
  }
}

void daemon::carry_out(const verdict& decided, const observation& seen) {
  for (auto& what : decided.intents) {
    if (!is_mine(what.node))
      continue;
    if (options_.dry_run) {
      auto text = std::string{word(what.what)} + " " + what.node + " " + std::string{word(what.act)};
      if (told_dry_.insert(text).second)
        write({.event = "action",
               .strategy = std::string{word(what.what)},
               .node = what.node,
               .seen = what.seen,
               .action = std::string{word(what.act)},
               .outcome = "would be done"},
              false);
      continue;
    }
    if (may_act(what))
      act(what, seen);
    // Another daemon may have acted before; what it told is only now known, and is weighed with a fresh look.
    if (new_lease_)
      return;
  }
}

bool daemon::may_act(const intent& what) {
  if (what.lease == lease_need::none || lease_.is_held())
    return true;
  // Without a leader nobody can grant it: asking would only take time.
  switch (leader_seen_ ? lease_.hold() : lease::state::unreachable) {
    case lease::state::held:
      new_lease_ = true;
      told_holder_.clear();
      record_.learn([this](const entry& x) { remember(x); });
      return false;
    case lease::state::taken:
      if (std::exchange(told_holder_, lease_.holder()) != lease_.holder())
        write({.event = "withheld",
               .strategy = std::string{word(what.what)},
               .node = what.node,
               .outcome = "another daemon acts",
               .detail = lease_.holder() + " holds the lease"},
              false);
      return false;
    case lease::state::unreachable:
      return what.lease == lease_need::where_possible;
  }
  return false;
}

void daemon::act(const intent& what, const observation& seen) {
  need_ = what.lease;
  if (what.what == strategy::split_brain)
    mark_split_brain(what.seen);
  auto done = actions_.run(what, seen);
  decisions_.acted(what.what, what.node, what.act, now(), what.permission);
  write({.event = "action",
         .strategy = std::string{word(what.what)},
         .node = what.node,
         .seen = what.seen,
         .action = std::string{word(what.act)},
         .outcome = done.ok ? "done" : "failed",
         .detail = done.text},
        true);
}

/// Tells the cluster what was done, and gives the lease back as soon as nothing is open.
void daemon::share() {
  if (decisions_.frozen() || !leader_seen_)
    return;
  if (record_.has_unwritten() && (lease_.is_held() || lease_.hold() == lease::state::held))
    record_.write();
  if (!lease_.is_held())
    return;
  if (decisions_.open() == 0 && !record_.has_unwritten())
    lease_.release();
  else
    lease_.hold();
}

}  // namespace coordinator::recovery
