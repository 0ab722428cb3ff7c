#include "tests/benchmark/http_load.hpp"

#include <algorithm>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <deque>
#include <optional>
#include <thread>

namespace coordinator::bench {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using steady = std::chrono::steady_clock;
using error = boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds between_sweeps{20};
constexpr std::chrono::milliseconds before_reconnecting{5};
constexpr std::chrono::milliseconds when_idle{1};

}  // namespace

class http_load::engine {
 public:
  engine(const load_settings& settings, workload& work)
      : settings_(settings), work_(work), schedule_(context_), sweep_(context_) {
    for (std::size_t i = 0; i < settings_.connections; ++i)
      connections_.push_back(std::make_unique<connection>(*this, i));
    for (auto& each : connections_)
      each->connect();
    if (settings_.rate > 0) {
      next_due_ = steady::now();
      arm_schedule();
    }
    arm_sweep();
    thread_ = std::thread{[this] { context_.run(); }};
  }

  ~engine() { stop(); }

  void measure() {
    asio::post(context_, [this] {
      result_ = {};
      began_ = steady::now();
      last_done_ = began_;
      measuring_ = true;
    });
  }

  std::uint64_t counted() const { return counted_; }

  load_result stop() {
    if (thread_.joinable()) {
      asio::post(context_, [this] {
        if (measuring_) {
          result_.seconds = std::chrono::duration<double>(steady::now() - began_).count();
          note_gap(steady::now());
        }
        measuring_ = false;
        context_.stop();
      });
      thread_.join();
    }
    return result_;
  }

 private:
  class connection {
   public:
    connection(engine& owner, std::size_t number)
        : owner_(owner), number_(number), server_(number), socket_(owner.context_), timer_(owner.context_) {}

    void connect() {
      auto& to = owner_.settings_.servers[server_ % owner_.settings_.servers.size()];
      error failed;
      socket_.close(failed);
      socket_ = tcp::socket{owner_.context_};
      incoming_.clear();
      asked_ = steady::now();
      ++life_;
      socket_.async_connect({asio::ip::make_address(to.host), to.port}, [this, life = life_](error e) {
        if (life != life_)
          return;
        if (e)
          return lost();
        socket_.set_option(tcp::no_delay{true}, e);
        connected_ = true;
        if (operation_began_)
          send();
        else
          free();
      });
    }

    /// An operation that should have begun then.
    void begin(steady::time_point at) {
      operation_began_ = at;
      if (connected_)
        send();
      else
        connect();
    }

    void check(steady::time_point now) {
      if (asked_ && now - *asked_ > owner_.settings_.answer_within)
        lost();
    }

   private:
    void send() {
      text_ = owner_.work_.next(number_);
      asked_ = steady::now();
      asio::async_write(socket_, asio::buffer(text_), [this, life = life_](error e, std::size_t) {
        if (life == life_ && e)
          lost();
      });
      parser_.emplace();
      parser_->body_limit(64u << 20);
      http::async_read(socket_, incoming_, *parser_, [this, life = life_](error e, std::size_t) {
        if (life == life_)
          e ? lost() : answered();
      });
    }

    void answered() {
      asked_.reset();
      auto& message = parser_->get();
      const auto said = owner_.work_.answered(number_, message.result_int(), message.body());
      if (owner_.settings_.fresh_connections || !message.keep_alive()) {
        connected_ = false;
        error ignored;
        socket_.close(ignored);
      }
      using kind = workload::verdict::kind;
      if (said.what == kind::more) {
        if (connected_)
          send();
        else
          connect();
        return;
      }
      owner_.ended(*operation_began_, said);
      operation_began_.reset();
      if (said.what == kind::idle)
        wait(when_idle);
      else
        free();
    }

    void lost() {
      connected_ = false;
      asked_.reset();
      ++life_;
      ++server_;
      error ignored;
      socket_.close(ignored);
      if (operation_began_)
        owner_.broken();
      operation_began_.reset();
      wait(before_reconnecting);
    }

    void wait(std::chrono::milliseconds pause) {
      timer_.expires_after(pause);
      timer_.async_wait([this](error e) {
        if (!e)
          free();
      });
    }

    void free() { owner_.free(*this); }

    engine& owner_;
    const std::size_t number_;
    std::size_t server_;
    std::uint64_t life_ = 0;  ///< Tells late completions of a connection that was given up.
    tcp::socket socket_;
    asio::steady_timer timer_;
    bool connected_ = false;
    boost::beast::flat_buffer incoming_;
    std::optional<http::response_parser<http::string_body>> parser_;
    std::string text_;
    std::optional<steady::time_point> operation_began_;
    std::optional<steady::time_point> asked_;
  };

  void free(connection& x) {
    if (settings_.rate <= 0)
      return x.begin(steady::now());
    if (waiting_.empty())
      return free_.push_back(&x);
    auto due = waiting_.front();
    waiting_.pop_front();
    x.begin(due);
  }

  void arm_schedule() {
    next_due_ += std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(1 / settings_.rate));
    schedule_.expires_at(next_due_);
    schedule_.async_wait([this](error e) {
      if (e)
        return;
      if (free_.empty()) {
        waiting_.push_back(next_due_);
      } else {
        auto* x = free_.back();
        free_.pop_back();
        x->begin(next_due_);
      }
      arm_schedule();
    });
  }

  void arm_sweep() {
    sweep_.expires_after(between_sweeps);
    sweep_.async_wait([this](error e) {
      if (e)
        return;
      for (auto& each : connections_)
        each->check(steady::now());
      arm_sweep();
    });
  }

  void ended(steady::time_point began, const workload::verdict& said) {
    if (!measuring_)
      return;
    using kind = workload::verdict::kind;
    if (said.what == kind::refused)
      ++result_.refused;
    if (said.what != kind::done)
      return;
    const auto now = steady::now();
    result_.latency.add(now - began);
    ++result_.operations;
    result_.units += said.units;
    counted_ = result_.operations;
    note_gap(now);
  }

  void note_gap(steady::time_point now) {
    result_.longest_gap_ms =
        std::max(result_.longest_gap_ms, std::chrono::duration<double, std::milli>(now - last_done_).count());
    last_done_ = now;
  }

  void broken() {
    if (measuring_)
      ++result_.broken;
  }

  const load_settings settings_;
  workload& work_;
  asio::io_context context_{1};
  asio::steady_timer schedule_;
  asio::steady_timer sweep_;
  std::vector<std::unique_ptr<connection>> connections_;
  std::vector<connection*> free_;
  std::deque<steady::time_point> waiting_;  ///< Due, with no connection that is free.
  steady::time_point next_due_;

  bool measuring_ = false;
  steady::time_point began_;
  steady::time_point last_done_;
  load_result result_;
  std::atomic<std::uint64_t> counted_{0};
  std::thread thread_;
};

http_load::http_load(const load_settings& settings, workload& work)
    : engine_(std::make_unique<engine>(settings, work)) {}

http_load::~http_load() = default;

void http_load::measure() {
  engine_->measure();
}

std::uint64_t http_load::counted() const {
  return engine_->counted();
}

load_result http_load::stop() {
  return engine_->stop();
}

}  // namespace coordinator::bench
