#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/simulation/client_histories.hpp"
#include "tests/simulation/cluster.hpp"

namespace coordinator::simulation {

/// Callers of the nodes' gateways, each with one call at a time, and what they may believe after each answer:
/// - the history of every key is linearizable, see key_history;
/// - what was answered as applied stays, what was answered as not applied never shows;
/// - an attempt is given to one worker, and no result of an attempt counts once a later one was given out.
class clients {
 public:
  clients(cluster& nodes, machine_room& room, chance& random, checker& watch, unsigned callers, bool with_tasks);

  void start();
  /// No new calls; those under way are waited for.
  void finish() { finishing_ = true; }
  /// The node's process ended: what its callers waited for has no answer.
  void node_stopped(unsigned node);
  bool idle() const;
  std::string unanswered() const;
  /// After everything: no write came between a conditional write and what it had seen.
  void check_at_end();

  /// The keys as some node has just applied them.
  void observe(const state_machine& machine);

  /// Reads every key once more, at that node; `idle` says when that is done.
  void read_all(unsigned node);

  std::uint64_t calls() const { return calls_; }
  std::uint64_t answered() const { return answered_; }

 private:
  enum class kind : std::uint8_t { put, read, stale_read, submit, claim, complete, register_worker, remove, beat };
  struct call {
    std::uint64_t number = 0;  ///< 0: none under way.
    kind what = kind::put;
    unsigned node = 0;
    unsigned key = 0;
    std::string value;
    std::uint64_t floor = 0;  // The key's version that had been answered when the call began.
    std::uint64_t if_match = 0;
    assignment job;
    bool overtaken = false;  // A later attempt had been given out when the call began.
    microseconds due{0};
  };
  struct caller {
    call now;
    std::vector<assignment> jobs;
    unsigned node = 0;
  };
  void think(unsigned who);
  void begin(unsigned who);
  call& open(unsigned who, kind what);
  bool closes(unsigned who, std::uint64_t number);
  void put(unsigned who);
  void read(unsigned who, bool linearizable);
  void work(unsigned who);
  void submit(unsigned who);
  void write(unsigned who, command_body body, milliseconds timeout);
  void on_written(unsigned who, const write_result& result);
  void on_put(const call& x, const write_result& result);
  void on_claimed(unsigned who, const call& x, const write_result& result);
  void on_completed(const call& x, const write_result& result);
  void on_read(const call& x, const read_result& result);
  static std::string key_name(unsigned key) { return "key" + std::to_string(key); }
  static std::string worker_name(unsigned who) { return "worker" + std::to_string(who); }

  cluster& nodes_;
  machine_room& room_;
  chance& random_;
  checker& watch_;
  bool with_tasks_;
  bool finishing_ = false;
  std::vector<caller> callers_;
  std::vector<key_history> keys_;
  attempt_history attempts_;
  std::uint64_t calls_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t values_ = 0;
  std::uint64_t tasks_ = 0;
};

}  // namespace coordinator::simulation
