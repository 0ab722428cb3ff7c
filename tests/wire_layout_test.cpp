#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "actors/link_actor.hpp"

namespace coordinator {
namespace {

/// Writes down of which fields a message consists, in their order, by its `inspect`.
struct layout_writer {
  using result_type = void;
  std::string text;

  template <class... Fields>
  void operator()(Fields&... fields) {
    text += '(';
    (add(fields), ...);
    text += ')';
  }

  template <class T>
  void add(T& x) {
    if constexpr (std::is_enum_v<T>)
      text += 'e' + std::to_string(sizeof x) + ' ';
    else if constexpr (std::is_arithmetic_v<T>)
      text += (std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u') + std::to_string(sizeof x) + ' ';
    else
      add_compound(x);
  }
  void add_compound(std::string&) { text += "text "; }
  void add_compound(peer_handles&) { text += "handles "; }
  template <class T>
  void add_compound(std::vector<T>&) {
    T one{};
    text += '[';
    add(one);
    text += ']';
  }
  template <class T>
  void add_compound(T& x) {
    inspect(*this, x);
  }
};

template <class... Messages>
std::string layouts() {
  layout_writer writer;
  auto one = [&](auto message) {
    writer.add(message);
    writer.text += '\n';
  };
  (one(Messages{}), ...);
  return writer.text;
}

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 14695981039346656037u;
  for (unsigned char byte : text)
    hash = (hash ^ byte) * 1099511628211u;
  return hash;
}

}  // namespace

TEST_CASE("links: what travels between nodes is laid out as the protocol version says") {
  const auto all =
      layouts<request_vote, request_vote_reply, append_entries, append_entries_reply, install_snapshot,
              install_snapshot_reply, removal_notice, state_digest, beat, beat_reply, timeout_now, formation_status,
              formation_offer, formation_abandon, propose, proposal_rejected, read_index, read_index_reply, worker_beat,
              worker_beat_reply, cluster_query, cluster_view, transfer_leadership, transfer_reply, change_membership,
              membership_reply, link_open, link_opened, link_ping, link_pong>();
  // Where this fails, a message has changed: raise link_protocol_version, and write both down here anew.
  CHECK(link_protocol_version == 2);
  CHECK_MESSAGE(fnv1a(all) == 14085710966750215153u, "its mark is ", fnv1a(all), " of:\n", all);
}

TEST_CASE("links: the hello is laid out alike in every version, so that versions can tell each other apart") {
  CHECK(layouts<link_hello>() == "(u4 text ((text )(u8 ))u8 text text )\n");
  CHECK(layouts<link_hello_reply>() == "(u1 text (u4 text ((text )(u8 ))u8 text text ))\n");
}

}  // namespace coordinator
