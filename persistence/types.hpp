#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace coordinator {

/// A counter that cannot be mixed up with another counter: a term is never a log index.
/// Zero means "none", as in the Raft paper, where the first term and the first index are 1.
template <class Tag>
struct ordinal {
  std::uint64_t value = 0;

  friend constexpr auto operator<=>(ordinal, ordinal) = default;
  friend constexpr ordinal operator+(ordinal x, std::uint64_t n) { return {x.value + n}; }
  /// Distance or predecessor; the caller sees to it that the result is not below zero.
  friend constexpr ordinal operator-(ordinal x, std::uint64_t n) { return {x.value - n}; }
  friend constexpr std::uint64_t operator-(ordinal x, ordinal y) { return x.value - y.value; }
  constexpr ordinal& operator++() {
    ++value;
    return *this;
  }

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, ordinal& x) {
    return f(x.value);
  }
};

/// A term of Raft (§5.1).
using term_number = ordinal<struct term_tag>;
/// A position in the replicated log; the first entry is 1.
using log_index = ordinal<struct log_index_tag>;
/// Drawn at random when a node's raft.db is created; a member that lost its disk has another one.
using incarnation_id = ordinal<struct incarnation_tag>;

/// The name of one coordinator, unique within its cluster.
struct node_id {
  std::string value;

  friend auto operator<=>(const node_id&, const node_id&) = default;
  bool empty() const { return value.empty(); }

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, node_id& x) {
    return f(x.value);
  }
};

/// Why an entry is in the log. The values are stored: never renumber them.
enum class entry_kind : std::uint8_t {
  noop = 0,        ///< A new leader's first entry (Raft §5.4.2, §8).
  genesis = 1,     ///< Entry 1 of term 1: the founding membership, the same bytes on every founder.
  membership = 2,  ///< A membership; effective as soon as it is appended.
  command = 3,     ///< A command to the state machine.
};

/// One entry of the replicated log.
struct log_entry {
  log_index index;
  term_number term;
  entry_kind kind = entry_kind::noop;
  /// The leader's clock when it appended the entry, milliseconds since the Unix epoch. Never decreases
  /// along the log; the only clock that the state machine knows.
  std::int64_t time_ms = 0;
  std::string payload;

  friend bool operator==(const log_entry&, const log_entry&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, log_entry& x) {
    return f(x.index, x.term, x.kind, x.time_ms, x.payload);
  }
};

/// One member of the cluster, as the membership entry records it.
struct member {
  node_id id;
  incarnation_id incarnation;
  std::string http_address;     ///< host:port that clients use.
  std::string cluster_address;  ///< host:port that peers connect to.
  bool voter = true;            ///< A learner receives the log and counts in no majority.

  friend bool operator==(const member&, const member&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, member& x) {
    return f(x.id, x.incarnation, x.http_address, x.cluster_address, x.voter);
  }
};

/// Who belongs to the cluster, ordered by node id.
struct membership {
  std::vector<member> members;

  const member* find(const node_id& id) const {
    for (auto& m : members)
      if (m.id == id)
        return &m;
    return nullptr;
  }
  bool is_voter(const node_id& id) const {
    auto m = find(id);
    return m && m->voter;
  }
  std::size_t voter_count() const {
    std::size_t n = 0;
    for (auto& m : members)
      n += m.voter ? 1 : 0;
    return n;
  }
  /// Votes or acknowledgements needed to decide anything.
  std::size_t quorum() const { return voter_count() / 2 + 1; }

  friend bool operator==(const membership&, const membership&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, membership& x) {
    return f(x.members);
  }
};

/// What Raft saves besides the log, always in one transaction (Raft figure 2, "persistent state").
struct hard_state {
  term_number current_term;
  std::optional<node_id> voted_for;

  friend bool operator==(const hard_state&, const hard_state&) = default;
};

/// The founding of a cluster: what entry 1 of term 1 holds.
struct genesis {
  std::string cluster_id;  ///< 32 hexadecimal digits.
  membership founders;
  std::int64_t time_ms = 0;  ///< Wall clock of the founder that proposed it.

  friend bool operator==(const genesis&, const genesis&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, genesis& x) {
    return f(x.cluster_id, x.founders, x.time_ms);
  }
};

}  // namespace coordinator

template <class Tag>
struct std::hash<coordinator::ordinal<Tag>> {
  std::size_t operator()(coordinator::ordinal<Tag> x) const noexcept { return std::hash<std::uint64_t>{}(x.value); }
};

template <>
struct std::hash<coordinator::node_id> {
  std::size_t operator()(const coordinator::node_id& x) const noexcept { return std::hash<std::string>{}(x.value); }
};
