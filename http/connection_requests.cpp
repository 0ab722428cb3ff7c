#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>
#include <variant>

#include "http/answer_text.hpp"
#include "http/connection_session.hpp"
#include "http/problem.hpp"

namespace coordinator {
namespace {

using namespace std::chrono_literals;

/// A longer body is read, and made sense of, on a thread of its own.
constexpr std::size_t most_quick_body = 64 * 1024;
/// How much one connection may do, requests or pieces received, before the others have their turn.
constexpr int most_steps = 32;
/// A client that ended its side may still read an answer; one that comes later is for nobody.
constexpr auto patience_after_end = 500ms;

}  // namespace

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
    given = after_exception(request, e);
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
    response = after_exception(s.head->request, e);
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
