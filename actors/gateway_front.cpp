#include <caf/send.hpp>
#include <tuple>
#include <utility>

#include "actors/gateway_actor.hpp"

namespace coordinator {
namespace {

/// A completion that is called once whatever happens: with `fallback` when the message that carries it is
/// dropped, because the actor it was for has ended.
template <class... Ts>
std::function<void(Ts...)> at_any_rate(std::function<void(Ts...)> done, Ts... fallback) {
  struct guard {
    std::function<void(Ts...)> done;
    std::tuple<Ts...> fallback;
    bool called = false;

    guard(std::function<void(Ts...)> d, Ts... xs) : done(std::move(d)), fallback(std::move(xs)...) {}
    ~guard() {
      if (!called)
        std::apply(done, std::move(fallback));
    }
  };
  auto shared = std::make_shared<guard>(std::move(done), std::move(fallback)...);
  return [shared](Ts... xs) {
    shared->called = true;
    shared->done(std::move(xs)...);
  };
}

constexpr char shutting_down[] = "the node is shutting down";

class actor_gateway_port final : public gateway_port {
 public:
  explicit actor_gateway_port(gateway_port_deps deps) : deps_(std::move(deps)), started_(deps_.clock.steady()) {}

  void gather() override { deps_.intake->gather(); }
  void hand_over() override { deps_.intake->hand_over(); }

  void write(write_request x, completion<write_result> done) override {
    deps_.intake->push(gateway_intake::write_item{std::move(x), std::move(done)});
  }

  void read(read_request x, completion<read_result> done) override {
    deps_.intake->push(gateway_intake::read_item{std::move(x), std::move(done)});
  }

  void claim(claim_request x, completion<write_result> done) override {
    deps_.intake->push(gateway_intake::claim_item{std::move(x), std::move(done)});
  }

  void beat(worker_beat x, milliseconds timeout, completion<beat_result> done) override {
    deps_.intake->push(gateway_intake::beat_item{std::move(x), timeout, std::move(done)});
  }

  void view(completion<node_view> done) override {
    node_view view;
    view.http_address = deps_.http_address;
    view.cluster_address = deps_.cluster_address;
    view.uptime_ms = (deps_.clock.steady() - started_).count();
    view.raft.node = deps_.node;
    std::function<void(raft_status)> complete = [view, intake = deps_.intake,
                                                 done = std::move(done)](raft_status x) mutable {
      view.raft = std::move(x);
      auto known = intake->known();
      view.last_applied = known.last_applied;
      view.last_applied_term = known.last_applied_term;
      view.maintenance = known.maintenance;
      view.storage_full = known.storage_full;
      view.verifying = known.verifying;
      done(std::move(view));
    };
    caf::anon_send(deps_.keeper, get_raft_status{at_any_rate(std::move(complete), view.raft)});
  }

  void cluster(milliseconds timeout, completion<cluster_view> done) override {
    deps_.intake->push(gateway_intake::cluster_item{timeout, std::move(done)});
  }

  void transfer(node_id to, milliseconds timeout, completion<transfer_result> done) override {
    deps_.intake->push(gateway_intake::transfer_item{std::move(to), timeout, std::move(done)});
  }

  void change_members(membership_request x, completion<membership_result> done) override {
    deps_.intake->push(gateway_intake::members_item{std::move(x), std::move(done)});
  }

  void inject(request_vote x, std::function<void(std::optional<request_vote_reply>, std::string)> done) override {
    caf::anon_send(deps_.keeper,
                   injected_vote{std::move(x), at_any_rate(std::move(done), std::optional<request_vote_reply>{},
                                                           std::string{shutting_down})});
  }

  void inject(append_entries x, std::function<void(std::optional<append_entries_reply>, std::string)> done) override {
    caf::anon_send(deps_.keeper,
                   injected_append{std::move(x), at_any_rate(std::move(done), std::optional<append_entries_reply>{},
                                                             std::string{shutting_down})});
  }

  void inject(install_snapshot x,
              std::function<void(std::optional<install_snapshot_reply>, std::string)> done) override {
    caf::anon_send(deps_.keeper,
                   injected_state{std::move(x), at_any_rate(std::move(done), std::optional<install_snapshot_reply>{},
                                                            std::string{shutting_down})});
  }

  void read_log(log_index from, std::uint32_t limit, completion<std::vector<log_entry>> done) override {
    caf::anon_send(deps_.keeper, get_log{from, limit, at_any_rate(std::move(done), std::vector<log_entry>{})});
  }

  void flush_state(completion<state_file> done) override {
    std::function<void(log_index, term_number, std::string)> complete =
        [path = deps_.state_path, done = std::move(done)](log_index index, term_number term, std::string error) {
          done({path(), index, term, std::move(error)});
        };
    caf::anon_send(deps_.machine, coordinator::flush_state{at_any_rate(std::move(complete), log_index{}, term_number{},
                                                                       std::string{shutting_down})});
  }

  void copy_state(completion<state_copied> done) override {
    state_copied none;
    none.error = shutting_down;
    caf::anon_send(deps_.state_writer, coordinator::copy_state{at_any_rate(std::move(done), std::move(none))});
  }

  leadership current_leadership() const override { return deps_.intake->known().leadership; }

 private:
  const gateway_port_deps deps_;
  const milliseconds started_;
};

}  // namespace

std::shared_ptr<gateway_port> make_gateway_port(gateway_port_deps deps) {
  return std::make_shared<actor_gateway_port>(std::move(deps));
}

}  // namespace coordinator
