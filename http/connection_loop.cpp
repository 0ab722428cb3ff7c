#include "http/connection_loop.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <variant>
#include <vector>

#include "http/answer_text.hpp"
#include "http/problem.hpp"

namespace coordinator {
namespace {

using namespace std::chrono_literals;

/// A longer body is read, and made sense of, on a thread of its own.
constexpr std::size_t most_quick_body = 64 * 1024;
/// How many new connections are taken before those that are there have their turn again.
constexpr int most_accepts = 64;
/// How much one connection may do, requests or pieces received, before the others have their turn.
constexpr int most_steps = 32;
/// Out of descriptors or memory, a connection stays in the backlog for so long.
constexpr auto accept_pause = 20ms;
/// A client that ended its side may still read an answer; one that comes later is for nobody.
constexpr auto patience_after_end = 500ms;

constexpr std::uint64_t listener_id = 0;
constexpr std::uint64_t inbox_id = 1;

http_response failed(const http_request& request, const std::exception& e) {
  spdlog::error("http: {} {} ended by an exception: {}", request.method, request.path, e.what());
  return to_response({500, "internal_error", "The request could not be handled.", {}, {}, {}});
}

}  // namespace

struct connection_loop::session {
  enum class phase : std::uint8_t {
    idle,       ///< Nothing of a request has come.
    head,       ///< A part of its head.
    body,       ///< Its head, and a part of its body.
    answering,  ///< The answer is awaited.
    away,       ///< A job has it.
    lingering,  ///< The last answer was sent; the client is to end its side.
    closed,
  };

  session(std::uint64_t the_id, socket_t socket, const connection_limits& limits, bool past_limit)
      : id(the_id), client(socket, limits), spare(past_limit) {}

  const std::uint64_t id;
  connection client;
  const bool spare;
  phase now = phase::idle;
  bool readable = false;  ///< Something may have come that was not taken.
  bool ended = false;     ///< The client has ended its side.
  std::uint64_t asked{};  ///< The number of its requests, so that an answer that comes late is not taken for the next.
  std::optional<request_head> head;
  std::size_t discarded = 0;
  std::function<http_response(bool)> give_up;
  bool needs_client = false;
  bool long_poll = false;
  clock::time_point deadline = clock::time_point::max();
};

/// What comes from other threads. It outlives the loop, for an answer may come after its end.
class connection_loop::inbox {
 public:
  struct made {
    std::uint64_t session;
    std::uint64_t asked;
    awaited_response::maker make;
  };
  struct returned {
    std::uint64_t session;
    bool keep_alive;
  };
  enum class order : std::uint8_t { drain, break_off, quit };
  using item = std::variant<made, returned, order>;

  inbox() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~inbox() { ::close(wake_); }
  inbox(const inbox&) = delete;
  inbox& operator=(const inbox&) = delete;

  /// Readable at an edge, after each push to a loop that sleeps.
  int descriptor() const { return wake_; }

  void push(item x) {
    bool wake = false;
    {
      std::lock_guard lock{mutex_};
      items_.push_back(std::move(x));
      wake = std::exchange(asleep_, false);
    }
    if (wake) {
      std::uint64_t one = 1;
      (void)!::write(wake_, &one, sizeof one);
    }
  }

  std::vector<item> take() {
    std::lock_guard lock{mutex_};
    asleep_ = false;
    return std::exchange(items_, {});
  }

  /// False if there is something to take; otherwise the next push wakes the loop.
  bool may_sleep() {
    std::lock_guard lock{mutex_};
    asleep_ = items_.empty();
    return asleep_;
  }

 private:
  const int wake_;
  std::mutex mutex_;
  std::vector<item> items_;
  bool asleep_ = false;
};

connection_loop::connection_loop(settings s, socket_t listener, request_handler& handler, threads t)
    : settings_(std::move(s)),
      listener_(listener),
      handler_(handler),
      threads_(std::move(t)),
      poll_(::epoll_create1(EPOLL_CLOEXEC)),
      inbox_(std::make_shared<inbox>()),
      last_id_(inbox_id) {
  ::fcntl(listener_, F_SETFL, ::fcntl(listener_, F_GETFL) | O_NONBLOCK);
  listen(true);
  // At edges, so that nobody has to read what was written to it.
  epoll_event wanted{EPOLLIN | EPOLLET, {}};
  wanted.data.u64 = inbox_id;
  ::epoll_ctl(poll_, EPOLL_CTL_ADD, inbox_->descriptor(), &wanted);
}

void connection_loop::start() {
  thread_ = std::thread{[this] { run(); }};
}

connection_loop::~connection_loop() {
  inbox_->push(inbox::order::quit);
  if (thread_.joinable())
    thread_.join();
  for_each([this](session& s) { close(s); });
  listen(false);
  ::close(poll_);
}

void connection_loop::drain() {
  stopping_ = true;
  inbox_->push(inbox::order::drain);
}

void connection_loop::break_off() {
  inbox_->push(inbox::order::break_off);
  std::unique_lock lock{ended_mutex_};
  ended_.wait(lock, [this] { return broken_off_; });
}

void connection_loop::await_end(std::chrono::milliseconds longest) {
  std::unique_lock lock{ended_mutex_};
  ended_.wait_for(lock, longest, [this] { return count_ == 0; });
}

// -- the loop --------------------------------------------------------------------------

void connection_loop::run() {
  std::array<epoll_event, 256> events;
  for (;;) {
    for (auto& x : inbox_->take()) {
      if (auto* order = std::get_if<inbox::order>(&x)) {
        if (*order == inbox::order::quit)
          return;
        *order == inbox::order::drain ? stop_idle() : end_all();
        continue;
      }
      auto made = std::get_if<inbox::made>(&x);
      auto found = sessions_.find(made ? made->session : std::get<inbox::returned>(x).session);
      if (found == sessions_.end())
        continue;
      if (!made)
        on_returned(*found->second, std::get<inbox::returned>(x).keep_alive);
      else if (made->asked == found->second->asked)
        on_made(*found->second, made->make);
    }
    expire();
    closed_.clear();
    const bool may_sleep = unfinished_.empty() && inbox_->may_sleep();
    auto n = ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), may_sleep ? patience() : 0);
    if (n > 1)
      handler_.gather();
    for (int i = 0; i < n; ++i) {
      auto& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == listener_id)
        accept_some();
      else if (auto found = sessions_.find(event.data.u64); found != sessions_.end())
        on_event(*found->second, event.events);
    }
    go_on();
    if (n > 1)
      handler_.hand_over();
  }
}

/// For epoll_wait, in milliseconds.
int connection_loop::patience() const {
  auto next = std::min(next_deadline_, accept_again_);
  if (next == clock::time_point::max())
    return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(next - clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

void connection_loop::until(session& s, clock::time_point deadline) {
  s.deadline = deadline;
  next_deadline_ = std::min(next_deadline_, deadline);
}

/// Deadlines mostly move away before they pass, so that a look at all of them is rarely needed.
void connection_loop::expire() {
  auto now = clock::now();
  if (now >= accept_again_) {
    accept_again_ = clock::time_point::max();
    if (!stopping_)
      listen(true);
  }
  if (now < next_deadline_)
    return;
  std::vector<std::uint64_t> due;
  next_deadline_ = clock::time_point::max();
  for (auto& [id, s] : sessions_) {
    if (s->deadline <= now)
      due.push_back(id);
    else
      next_deadline_ = std::min(next_deadline_, s->deadline);
  }
  for (auto id : due)
    if (auto found = sessions_.find(id); found != sessions_.end())
      on_time(*found->second);
}

void connection_loop::on_time(session& s) {
  switch (s.now) {
    case session::phase::idle:
    case session::phase::lingering:
      return close(s);
    case session::phase::head:
      return refuse(s, request_late("head"));
    case session::phase::body:
      return refuse(s, request_late("body"));
    case session::phase::answering:
      if (s.ended && s.needs_client)
        return close(s);
      return on_made(s, [&s] { return s.give_up(false); });
    default:
      s.deadline = clock::time_point::max();
  }
}

void connection_loop::for_each(const std::function<void(session&)>& act) {
  std::vector<session*> all;
  for (auto& [id, s] : sessions_)
    all.push_back(s.get());
  for (auto* s : all)
    act(*s);
}

void connection_loop::stop_idle() {
  listen(false);
  ::close(std::exchange(listener_, -1));
  for_each([this](session& s) {
    if (s.now == session::phase::idle)
      close(s);
    else if (s.now == session::phase::answering && s.long_poll)
      on_made(s, [&s] { return s.give_up(true); });
  });
}

void connection_loop::end_all() {
  for_each([this](session& s) {
    if (s.now == session::phase::away)
      ::shutdown(s.client.socket(), SHUT_RDWR);
    else
      close(s);
  });
  std::lock_guard lock{ended_mutex_};
  broken_off_ = true;
  ended_.notify_all();
}

// -- connections -----------------------------------------------------------------------

void connection_loop::listen(bool wanted) {
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = listener_id;
  if (listener_ >= 0)
    ::epoll_ctl(poll_, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener_, &event);
}

void connection_loop::accept_some() {
  for (int i = 0; i < most_accepts; ++i) {
    auto socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) {
      open(socket);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      // Out of descriptors or memory: the connection stays in the backlog until one is free.
      listen(false);
      accept_again_ = clock::now() + accept_pause;
      return;
    }
  }
}

void connection_loop::open(socket_t socket) {
  auto id = ++last_id_;
  bool spare = regular_ >= settings_.most_connections;
  auto& s = *sessions_.emplace(id, std::make_unique<session>(id, socket, settings_.limits, spare)).first->second;
  ++count_;
  if (spare) {
    if (!send_away(s, [this, &s] {
          threads_.serve_probe(s.client);
          return false;
        }))
      refuse(s, too_many_connections());
    return;
  }
  ++regular_;
  until(s, clock::now() + settings_.limits.head_timeout);
  epoll_event wanted{EPOLLIN | EPOLLRDHUP | EPOLLET, {}};
  wanted.data.u64 = id;
  if (::epoll_ctl(poll_, EPOLL_CTL_ADD, socket, &wanted) != 0)
    close(s);
}

void connection_loop::close(session& s) {
  if (s.now == session::phase::closed)
    return;
  s.now = session::phase::closed;
  ::close(s.client.socket());
  if (!s.spare)
    --regular_;
  auto found = sessions_.find(s.id);
  closed_.push_back(std::move(found->second));
  sessions_.erase(found);
  std::lock_guard lock{ended_mutex_};
  if (--count_ == 0)
    ended_.notify_all();
}

void connection_loop::on_event(session& s, std::uint32_t events) {
  s.readable = true;
  s.ended = s.ended || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (s.now == session::phase::lingering)
    discard(s);
  else if (s.now != session::phase::answering)
    advance(s);
  else if (s.ended && s.needs_client)
    until(s, std::min(s.deadline, clock::now() + patience_after_end));
}

// -- requests --------------------------------------------------------------------------

/// Goes as far as what has arrived allows, and as the others' turn does.
void connection_loop::advance(session& s) {
  for (int steps = 0; s.now <= session::phase::body; ++steps) {
    if (steps == most_steps) {
      unfinished_.push_back(s.id);
      return;
    }
    if (take_request(s))
      continue;
    if (!s.readable)
      return;
    bool drained = false;
    auto result = s.client.receive(drained);
    // After the last byte there is still the end to be read.
    s.readable = !drained || (s.ended && result == connection::outcome::ok);
    if (result != connection::outcome::closed)
      continue;
    if (s.now == session::phase::body)
      refuse(s, malformed("The body ended early or its chunks are malformed."));
    else
      close(s);
  }
}

void connection_loop::go_on() {
  for (auto id : std::exchange(unfinished_, {}))
    if (auto found = sessions_.find(id); found != sessions_.end())
      advance(*found->second);
}

/// False: more has to arrive.
bool connection_loop::take_request(session& s) {
  if (!s.head && !take_head(s))
    return false;
  if (!s.head)
    return true;
  auto length = static_cast<std::size_t>(s.head->content_length.value_or(0));
  auto body = s.client.buffered();
  if (body.size() < length)
    return false;
  s.head->request.body = body.substr(0, length);
  s.client.consume(length);
  begin(s);
  return true;
}

/// False: more has to arrive. Otherwise the session has a quick request's head, or goes another way.
bool connection_loop::take_head(session& s) {
  std::string_view text;
  auto result = s.client.find_head(text);
  if (result == connection::outcome::timed_out) {
    if (s.now == session::phase::idle && !s.client.buffered().empty()) {
      s.now = session::phase::head;
      until(s, clock::now() + settings_.limits.head_timeout);
    }
    return false;
  }
  if (result != connection::outcome::ok) {
    refuse(s, {431, "head_too_large", "The request's head is too large.", {}, {}, {}});
    return true;
  }
  auto parsed = parse_request_head(text);
  s.client.consume(text.size());
  if (auto wrong = std::get_if<problem>(&parsed)) {
    refuse(s, *wrong);
    return true;
  }
  auto& head = std::get<request_head>(parsed);
  auto plan = handler_.plan_of(head.request);
  auto length = head.content_length.value_or(0);
  bool here = s.client.buffered().size() >= length;
  if (plan.quick && !head.chunked &&
      length <= std::min({plan.body_limit, settings_.limits.body_bytes, most_quick_body}) &&
      (here || !head.expects_continue)) {
    s.head = std::move(head);
    if (!here) {
      s.now = session::phase::body;
      until(s, clock::now() + settings_.limits.body_timeout);
    }
    return true;
  }
  auto for_job = std::make_shared<request_head>(std::move(head));
  if (!send_away(s, [this, &s, for_job] { return threads_.serve(s.client, std::move(*for_job)); })) {
    s.head = std::move(*for_job);
    refuse(s, too_many_connections());
  }
  return true;
}

void connection_loop::begin(session& s) {
  s.now = session::phase::answering;
  ++s.asked;
  auto& request = s.head->request;
  request.peer_address = s.client.peer_address();
  request.from_loopback = s.client.from_loopback();
  reply given;
  try {
    given = handler_.begin(request);
  } catch (const std::exception& e) {
    given = failed(request, e);
  }
  if (auto* response = std::get_if<http_response>(&given))
    return respond(s, std::move(*response), s.head->keep_alive);
  auto& later = std::get<awaited_response>(given);
  if (stopping_ && later.long_poll)
    return respond(s, later.give_up(true), false);
  s.give_up = std::move(later.give_up);
  s.needs_client = later.needs_client;
  s.long_poll = later.long_poll;
  until(s, clock::now() + (s.ended && s.needs_client ? std::min(later.timeout, patience_after_end) : later.timeout));
  later.start([box = inbox_, id = s.id, asked = s.asked](awaited_response::maker make) {
    box->push(inbox::made{id, asked, std::move(make)});
  });
}

// -- answers ---------------------------------------------------------------------------

void connection_loop::on_made(session& s, const awaited_response::maker& make) {
  http_response response;
  try {
    response = make();
  } catch (const std::exception& e) {
    response = failed(s.head->request, e);
  }
  respond(s, std::move(response), s.head->keep_alive);
  advance(s);
}

void connection_loop::refuse(session& s, const problem& why) {
  respond(s, to_response(why), false);
}

void connection_loop::respond(session& s, http_response response, bool keep_alive) {
  handler_.complete(response);
  keep_alive = keep_alive && !stopping_;
  s.client.queue(head_of(response, keep_alive ? std::string_view{settings_.keep_alive} : std::string_view{}));
  if (!s.head || s.head->request.method != "HEAD")
    s.client.queue(response.body);
  s.head.reset();
  s.give_up = nullptr;
  ++s.asked;
  s.client.begin_answer(false);
  if (s.client.try_flush())
    return sent(s, keep_alive);
  if (!send_away(s, [&client = s.client, keep_alive] {
        auto whole = client.flush();
        if (whole && !keep_alive)
          client.linger();
        return whole && keep_alive;
      }))
    close(s);
}

void connection_loop::sent(session& s, bool keep_alive) {
  if (s.client.broken() || s.spare)
    return close(s);
  auto now = clock::now();
  if (keep_alive) {
    s.now = session::phase::idle;
    return until(s, now + settings_.limits.idle_timeout);
  }
  // Closing with unread bytes would reset the connection, and the client would lose the answer.
  s.now = session::phase::lingering;
  s.discarded = 0;
  ::shutdown(s.client.socket(), SHUT_WR);
  until(s, now + settings_.limits.linger);
  discard(s);
}

void connection_loop::discard(session& s) {
  for (bool drained = false;;) {
    auto result = s.client.receive(drained);
    s.discarded += s.client.buffered().size();
    s.client.consume(s.client.buffered().size());
    if (result == connection::outcome::closed || s.discarded > settings_.limits.body_bytes)
      return close(s);
    if (result == connection::outcome::timed_out)
      return;
  }
}

/// The session is the job's until that returns whether the connection lives on.
bool connection_loop::send_away(session& s, std::function<bool()> job) {
  auto work = [box = inbox_, id = s.id, job = std::move(job)] {
    bool keep_alive = false;
    try {
      keep_alive = job();
    } catch (const std::exception& e) {
      spdlog::error("http: a connection ended by an exception: {}", e.what());
    }
    box->push(inbox::returned{id, keep_alive});
  };
  auto before = std::exchange(s.now, session::phase::away);
  s.deadline = clock::time_point::max();
  if ((s.spare ? threads_.run_spare : threads_.run)(std::move(work)))
    return true;
  s.now = before;
  return false;
}

void connection_loop::on_returned(session& s, bool keep_alive) {
  if (!keep_alive || stopping_)
    return close(s);
  s.now = session::phase::idle;
  s.readable = true;
  until(s, clock::now() + settings_.limits.idle_timeout);
  advance(s);
}

}  // namespace coordinator
