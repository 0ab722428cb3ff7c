#include "actors/link_gate.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <list>
#include <optional>
#include <system_error>
#include <vector>

namespace coordinator {

namespace {

using steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Connections taken in before those under way are served again.
constexpr int accept_burst = 64;
/// After which the gate tries again when no descriptor is to be had.
constexpr milliseconds exhausted_pause{100};

file_descriptor checked(int fd, const char* what) {
  if (fd < 0)
    throw std::system_error(errno, std::generic_category(), what);
  return file_descriptor{fd};
}

}  // namespace

/// Everything that only the gate's thread touches.
class link_gate::loop {
 public:
  loop(file_descriptor listener, int stop, std::shared_ptr<const tls_context> context, gate_options options,
       admit_function admit, shared_counters& counters)
      : listener_(std::move(listener)),
        epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        context_(std::move(context)),
        options_(options),
        admit_(std::move(admit)),
        counters_(counters),
        // Room for every handshake: one that is ready is then served in each round, however many strangers are.
        events_(options.max_handshakes + 2) {
    watch(EPOLL_CTL_ADD, listener_.get(), EPOLLIN, &listener_);
    watch(EPOLL_CTL_ADD, stop, EPOLLIN, nullptr);
    keep_spare();
  }

  void run() {
    for (;;) {
      auto count = ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), wait_ms());
      auto incoming = false;
      ++counters_.rounds;
      // Handshakes first: a new connection may end an older one, whose event would then point nowhere.
      for (int i = 0; i < count; ++i) {
        auto source = events_[static_cast<std::size_t>(i)].data.ptr;
        if (source == nullptr)
          return;
        if (source == &listener_)
          incoming = true;
        else
          proceed(*static_cast<candidate*>(source));
      }
      if (incoming)
        accept_some();
      expire();
      report();
    }
  }

 private:
  struct candidate {
    file_descriptor socket;
    steady::time_point deadline;
    // Made when the first byte arrives: a silent connection costs a descriptor and nothing else.
    std::optional<tls_session> session;
    std::uint32_t watched = 0;
    std::list<candidate>::iterator self;
  };

  bool watch(int operation, int fd, std::uint32_t events, void* source) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = source;
    return ::epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
  }

  int wait_ms() const {
    auto next = steady::time_point::max();
    if (!candidates_.empty())
      next = candidates_.front().deadline;
    if (paused_until_)
      next = std::min(next, *paused_until_);
    if (unreported_ > 0)
      next = std::min(next, next_report_);
    if (next == steady::time_point::max())
      return -1;
    return static_cast<int>(
        std::max<milliseconds::rep>(0, std::chrono::ceil<milliseconds>(next - steady::now()).count()));
  }

  void proceed(candidate& one) {
    if (!one.session && has_left(one)) {
      ++counters_.refused;
      candidates_.erase(one.self);
      return;
    }
    if (!one.session)
      one.session.emplace(*context_, one.socket.get(), tls_side::server);
    switch (one.session->handshake()) {
      case tls_session::progress::wants_read:
        rewatch(one, EPOLLIN);
        break;
      case tls_session::progress::wants_write:
        rewatch(one, EPOLLOUT);
        break;
      case tls_session::progress::failed:
        ++counters_.refused;
        note_refusal(one);
        candidates_.erase(one.self);
        break;
      case tls_session::progress::done:
        admit(one);
        break;
    }
  }

  /// Closed without a word, as checks do that ask whether the port is open: nothing to report.
  static bool has_left(const candidate& one) {
    char byte;
    return ::recv(one.socket.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  }

  void rewatch(candidate& one, std::uint32_t events) {
    if (one.watched != events)
      watch(EPOLL_CTL_MOD, one.socket.get(), events, &one);
    one.watched = events;
  }

  void admit(candidate& one) {
    watch(EPOLL_CTL_DEL, one.socket.get(), 0, nullptr);
    auto socket = std::move(one.socket);
    auto session = std::move(*one.session);
    candidates_.erase(one.self);
    ++counters_.admitted;
    admit_(std::move(socket), std::move(session));
  }

  void accept_some() {
    for (int i = 0; i < accept_burst; ++i) {
      file_descriptor socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (socket) {
        ++counters_.accepted;
        add(std::move(socket));
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        if (!make_room())
          return;
      } else if (errno == EAGAIN) {
        return;
      }
    }
  }

  void add(file_descriptor socket) {
    if (candidates_.size() >= options_.max_handshakes)
      evict();
    tune_link_socket(socket.get());
    auto& one = candidates_.emplace_back();
    one.self = std::prev(candidates_.end());
    one.socket = std::move(socket);
    one.deadline = steady::now() + options_.handshake_deadline;
    one.watched = EPOLLIN;
    if (!watch(EPOLL_CTL_ADD, one.socket.get(), EPOLLIN, &one)) {
      ++counters_.dropped;
      candidates_.pop_back();
    }
  }

  void evict() {
    // A stranger cannot get as far as a proof, so that peers whose answers take a while are not swept out.
    auto unproven = candidates_.begin();
    while (unproven != candidates_.end() && unproven->session && unproven->session->has_proof())
      ++unproven;
    candidates_.erase(unproven != candidates_.end() ? unproven : candidates_.begin());
    ++counters_.evicted;
  }

  /// Frees a descriptor or takes a connection off the queue without keeping it. False: the gate has to pause, or it
  /// would spin on a listener that stays readable.
  bool make_room() {
    if (!candidates_.empty()) {
      evict();
      return true;
    }
    spare_.reset();
    auto dropped = false;
    if (file_descriptor socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)}; socket) {
      ++counters_.dropped;
      dropped = true;
    }
    keep_spare();
    if (dropped && spare_)
      return true;
    watch(EPOLL_CTL_MOD, listener_.get(), 0, &listener_);
    paused_until_ = steady::now() + exhausted_pause;
    return false;
  }

  void keep_spare() {
    if (!spare_)
      spare_ = file_descriptor{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  }

  void expire() {
    auto now = steady::now();
    // All have the same time, so that the oldest is the first to run out of it.
    while (!candidates_.empty() && candidates_.front().deadline <= now) {
      candidates_.pop_front();
      ++counters_.timed_out;
    }
    if (paused_until_ && *paused_until_ <= now) {
      paused_until_.reset();
      keep_spare();
      watch(EPOLL_CTL_MOD, listener_.get(), EPOLLIN, &listener_);
    }
  }

  void note_refusal(const candidate& one) {
    ++unreported_;
    last_refusal_ = remote_address(one.socket.get());
    last_refusal_ += (last_refusal_.empty() ? "" : ": ") + one.session->error();
  }

  /// One line a second at most: strangers must not be able to fill the log.
  void report() {
    if (unreported_ == 0 || steady::now() < next_report_)
      return;
    spdlog::warn(
        "refused {} connection(s) at the cluster port, which did not prove to know the cluster secret; the last: {}",
        unreported_, last_refusal_);
    unreported_ = 0;
    next_report_ = steady::now() + std::chrono::seconds{1};
  }

  file_descriptor listener_;
  file_descriptor epoll_;
  file_descriptor spare_;  ///< Given up for a moment to close a connection that no descriptor is left for.
  std::shared_ptr<const tls_context> context_;
  gate_options options_;
  admit_function admit_;
  shared_counters& counters_;
  std::vector<epoll_event> events_;
  std::list<candidate> candidates_;  ///< Oldest first.
  std::optional<steady::time_point> paused_until_;
  std::uint64_t unreported_ = 0;
  std::string last_refusal_;
  steady::time_point next_report_;
};

link_gate::link_gate(file_descriptor listener, std::shared_ptr<const tls_context> context, gate_options options,
                     admit_function admit)
    : port_(local_port(listener.get())), stop_(checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  auto work = std::make_unique<loop>(std::move(listener), stop_.get(), std::move(context), options, std::move(admit),
                                     counters_);
  thread_ = std::thread{[work = std::move(work)] { work->run(); }};
}

link_gate::~link_gate() {
  std::uint64_t one = 1;
  while (::write(stop_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
}

gate_counters link_gate::counters() const {
  return {counters_.accepted, counters_.admitted, counters_.refused, counters_.timed_out,
          counters_.evicted,  counters_.dropped,  counters_.rounds};
}

}  // namespace coordinator
