#include "actors/link.hpp"

#include <doctest/doctest.h>

#include <algorithm>

namespace coordinator {
namespace {

constexpr milliseconds start{1'000'000};

link_hello node(const std::string& id, const std::string& address) {
  link_hello x;
  x.who = {node_id{id}, incarnation_id{std::hash<std::string>{}(id)}};
  x.boot_id = std::hash<std::string>{}(address + id);
  x.http_address = "http-" + address;
  x.cluster_address = address;
  return x;
}

link_hello restarted(link_hello x) {
  ++x.boot_id;
  return x;
}

const auto self = node("node-2", "host-2:1");
const auto lower = node("node-1", "host-1:1");
const auto higher = node("node-3", "host-3:1");

link_table table_with(const std::vector<link_target>& targets) {
  return {self, targets, 7, start};
}

link_target by_address(const link_hello& x) {
  return {{}, x.cluster_address, x.http_address};
}
link_target by_id(const link_hello& x) {
  return {x.who.id, x.cluster_address, x.http_address};
}

/// When the table next dials anything, looked for in steps of a millisecond.
milliseconds next_dial(link_table& table, milliseconds from) {
  for (auto t = from; t < from + milliseconds{5000}; ++t)
    if (!table.due(t).empty())
      return t - from;
  return milliseconds{-1};
}

}  // namespace

TEST_CASE("link: the node with the lower address dials at once, the other after a second") {
  auto dialing = table_with({by_address(higher)});
  CHECK(next_dial(dialing, start) == milliseconds{0});
  auto dialled = table_with({by_address(lower)});
  CHECK(next_dial(dialled, start) == milliseconds{1000});
}

TEST_CASE("link: a peer is dialled once at a time, and not while its link is up") {
  auto table = table_with({by_address(higher)});
  auto order = table.due(start);
  REQUIRE(order.size() == 1);
  CHECK(order[0].address == higher.cluster_address);
  CHECK(table.due(start + milliseconds{60'000}).empty());
  table.open(order[0].peer, higher, start);
  CHECK(table.due(start + milliseconds{60'000}).empty());
}

TEST_CASE("link: failed dials back off from 50 to 500 ms, counted from the beginning of the attempt") {
  auto table = table_with({by_address(higher)});
  auto now = start;
  auto longest = milliseconds{0};
  for (int i = 0; i < 20; ++i) {
    auto order = table.due(now);
    REQUIRE(order.size() == 1);
    table.dial_failed(order[0].peer, "refused", now);
    auto wait = next_dial(table, now);
    CHECK(wait >= milliseconds{25});
    CHECK(wait <= milliseconds{500});
    if (i == 0)
      CHECK(wait <= milliseconds{50});
    longest = std::max(longest, wait);
    // next_dial took the order that it found.
    now += wait;
    table.dial_failed(order[0].peer, "refused", now);
    now += next_dial(table, now);
    table.dial_failed(order[0].peer, "refused", now);
    now += milliseconds{500};
  }
  CHECK(longest > milliseconds{250});
  // An attempt that hung for its whole time is repeated soon: this is what a healed partition waits for.
  auto order = table.due(now);
  REQUIRE(order.size() == 1);
  table.dial_failed(order[0].peer, "timed out", now + milliseconds{500});
  CHECK(next_dial(table, now + milliseconds{500}) <= milliseconds{50});
}

TEST_CASE("link: a lost link is dialled again soon by the dialing side and after a second by the other") {
  auto table = table_with({by_id(higher), by_id(lower)});
  auto up = table.open(std::nullopt, higher, start);
  auto also_up = table.open(std::nullopt, lower, start);
  CHECK(table.lost(up.session, "broken", start) == higher.who.id);
  CHECK(next_dial(table, start) <= milliseconds{50});
  CHECK(table.lost(also_up.session, "broken", start) == lower.who.id);
  auto wait = next_dial(table, start);
  CHECK(wait >= milliseconds{1000});
  CHECK(wait <= milliseconds{1050});
}

TEST_CASE("link: another version, cluster, or the same names are refused with both sides' values") {
  auto mine = self;
  mine.cluster_id = "cluster-a";
  link_table table{mine, {by_id(higher)}, 7, start};
  CHECK(table.refusal(higher).empty());

  auto other = higher;
  other.protocol_version = 9;
  CHECK(table.refusal(other) == "protocol version 9 where node-2 speaks version 2");
  other = higher;
  other.cluster_id = "cluster-b";
  CHECK(table.refusal(other) == "node-3 belongs to cluster \"cluster-b\", node-2 to cluster \"cluster-a\"");
  other.cluster_id = "cluster-a";
  CHECK(table.refusal(other).empty());
  other = node("node-2", "host-9:1");
  CHECK(table.refusal(other) == "node id \"node-2\" is in use both at \"host-9:1\" and at \"host-2:1\"");
  other = higher;
  other.boot_id = self.boot_id;
  CHECK(table.refusal(other).find("is that of \"node-2\"") != std::string::npos);
  other = higher;
  other.who.id = {};
  CHECK(!table.refusal(other).empty());
}

TEST_CASE("link: a node that is not formed links with one that is (rule 12)") {
  auto formed = higher;
  formed.cluster_id = "cluster-a";
  CHECK(table_with({by_id(higher)}).refusal(formed).empty());
}

TEST_CASE("link: what answers at a configured address has to have the configured id") {
  auto table = table_with({by_id(higher)});
  auto order = table.due(start);
  REQUIRE(order.size() == 1);
  CHECK(table.refusal(order[0].peer, higher).empty());
  CHECK(table.refusal(order[0].peer, node("node-7", higher.cluster_address)) ==
        "found node \"node-7\" at host-3:1 where \"node-3\" should be");
}

TEST_CASE("link: an id that --peers does not name is learnt from the first answer") {
  auto table = table_with({by_address(higher)});
  CHECK(table.status().at(0).id.empty());
  auto order = table.due(start);
  REQUIRE(order.size() == 1);
  auto opened = table.open(order[0].peer, higher, start);
  CHECK(opened.configured_address == higher.http_address);
  CHECK(table.status().at(0).id == higher.who.id);
  CHECK(table.status().at(0).up);
}

TEST_CASE("link: a restarted peer replaces its old link, one with another incarnation only once that is gone") {
  auto table = table_with({by_id(higher)});
  auto first = table.open(std::nullopt, higher, start);
  auto again = restarted(higher);
  CHECK(table.refusal(again).empty());
  auto second = table.open(std::nullopt, again, start);
  CHECK(second.replaced == first.session);
  CHECK(second.session != first.session);
  // Word of the old session's end comes late and must not end the new one.
  CHECK(!table.lost(first.session, "broken", start));
  CHECK(table.status().at(0).up);

  auto twin = restarted(again);
  ++twin.who.incarnation.value;
  CHECK(table.refusal(twin).find("is linked from \"host-3:1\" as incarnation") != std::string::npos);
  CHECK(table.lost(second.session, "broken", start) == higher.who.id);
  CHECK(table.refusal(twin).empty());
}

TEST_CASE("link: two nodes with one boot id are not both linked") {
  auto table = table_with({by_id(higher)});
  table.open(std::nullopt, higher, start);
  auto copy = node("node-4", "host-4:1");
  copy.boot_id = higher.boot_id;
  CHECK(table.refusal(copy).find("is that of \"node-3\"") != std::string::npos);
}

TEST_CASE("link: a peer that linked by itself and the entry of --peers that leads to it become one") {
  // It advertises another address than the one configured here, and its id is not known.
  auto table = table_with({{{}, "alias:1", "http-alias:1"}});
  auto by_itself = table.open(std::nullopt, higher, start);
  CHECK(by_itself.configured_address.empty());
  CHECK(table.status().size() == 2);
  auto order = table.due(start + milliseconds{1000});
  REQUIRE(order.size() == 1);
  CHECK(order[0].address == "alias:1");
  // Its handles are told again, because only now is it known which entry they belong to.
  CHECK(!table.is_superfluous(order[0].peer, higher));
  CHECK(table.refusal(order[0].peer, higher).empty());
  auto by_dial = table.open(order[0].peer, higher, start);
  CHECK(by_dial.replaced == by_itself.session);
  CHECK(by_dial.configured_address == "http-alias:1");
  REQUIRE(table.status().size() == 1);
  CHECK(table.status()[0].up);
}

TEST_CASE("link: a dial is superfluous once the same process has linked by itself") {
  auto table = table_with({by_address(higher)});
  auto order = table.due(start);
  REQUIRE(order.size() == 1);
  auto opened = table.open(std::nullopt, higher, start);
  CHECK(opened.configured_address == higher.http_address);
  CHECK(table.is_superfluous(order[0].peer, higher));
  CHECK(!table.is_superfluous(order[0].peer, restarted(higher)));
  table.dial_superfluous(order[0].peer);
  CHECK(table.lost(opened.session, "broken", start) == higher.who.id);
  CHECK(next_dial(table, start) <= milliseconds{50});
}

TEST_CASE("link: two entries of --peers that lead to one node are an error, not two links") {
  auto table = table_with({by_address(higher), {{}, "host-9:1", "http-alias:1"}});
  auto orders = table.due(start);
  REQUIRE(orders.size() == 2);
  table.open(orders[0].peer, higher, start);
  CHECK(table.refusal(orders[1].peer, higher) == "\"http-alias:1\" and \"http-host-3:1\" both lead to node \"node-3\"");
}

TEST_CASE("link: a stranger's link that breaks is forgotten, and never dialled") {
  auto table = table_with({});
  auto opened = table.open(std::nullopt, higher, start);
  CHECK(table.lost(opened.session, "broken", start) == higher.who.id);
  CHECK(table.status().empty());
  CHECK(next_dial(table, start) == milliseconds{-1});
}

TEST_CASE("link: once the cluster is known its members are linked and others given up") {
  auto table = table_with({by_address(higher)});
  auto foreign = node("node-5", "host-5:1");
  foreign.cluster_id = "cluster-b";
  auto opened = table.open(std::nullopt, foreign, start);
  membership members;
  for (auto& x : {lower, self, higher})
    members.members.push_back({x.who.id, x.who.incarnation, x.http_address, x.cluster_address, true});
  CHECK(table.know_cluster("cluster-a", members, start) == std::vector<std::uint64_t>{opened.session});
  CHECK(table.self().cluster_id == "cluster-a");
  CHECK(table.refusal(foreign).find("cluster-b") != std::string::npos);
  std::vector<std::string> dialled;
  for (auto& order : table.due(start + milliseconds{2000}))
    dialled.push_back(order.address);
  std::sort(dialled.begin(), dialled.end());
  CHECK(dialled == std::vector<std::string>{"host-1:1", "host-3:1"});
}

TEST_CASE("link: a member that was removed is dialled no more, also where --peers names it") {
  auto table = table_with({by_id(higher), by_address(lower)});
  auto listed = [](std::initializer_list<link_hello> nodes) {
    membership members;
    for (auto& x : nodes)
      members.members.push_back({x.who.id, x.who.incarnation, x.http_address, x.cluster_address, true});
    return members;
  };
  table.know_cluster("cluster-a", listed({lower, self, higher}), start);
  auto opened = table.open(std::nullopt, higher, start);
  table.know_cluster("cluster-a", listed({self}), start);
  // The link that is up may stay; the other entry is gone.
  REQUIRE(table.status().size() == 1);
  CHECK(table.status()[0].up);
  CHECK(next_dial(table, start) == milliseconds{-1});
  CHECK(table.lost(opened.session, "broken", start) == higher.who.id);
  CHECK(table.status().empty());
  CHECK(next_dial(table, start) == milliseconds{-1});
  // Taken in again, it is dialled again.
  table.know_cluster("cluster-a", listed({self, higher}), start);
  CHECK(next_dial(table, start) != milliseconds{-1});
}

TEST_CASE("link: a dial that was under way when its node was removed is the last one") {
  auto table = table_with({by_id(higher)});
  auto order = table.due(start);
  REQUIRE(order.size() == 1);
  membership alone;
  alone.members = {{self.who.id, self.who.incarnation, self.http_address, self.cluster_address, true}};
  table.know_cluster("cluster-a", alone, start);
  table.dial_failed(order[0].peer, "refused", start);
  CHECK(table.status().empty());
  CHECK(next_dial(table, start) == milliseconds{-1});
}

TEST_CASE("link: a membership without the node itself stops no dial") {
  auto table = table_with({by_id(higher)});
  membership older;
  older.members = {{lower.who.id, lower.who.incarnation, lower.http_address, lower.cluster_address, true}};
  table.know_cluster("cluster-a", older, start);
  std::vector<std::string> dialled;
  for (auto& order : table.due(start + milliseconds{2000}))
    dialled.push_back(order.address);
  CHECK(std::count(dialled.begin(), dialled.end(), higher.cluster_address) == 1);
}

TEST_CASE("link: an entry of --peers that nobody answers is dialled until all members are linked") {
  auto table = table_with({by_address(node("node-9", "host-9:1"))});
  membership members;
  for (auto& x : {self, higher})
    members.members.push_back({x.who.id, x.who.incarnation, x.http_address, x.cluster_address, true});
  table.know_cluster("cluster-a", members, start);
  CHECK(table.due(start + milliseconds{2000}).size() == 2);
  for (std::uint64_t peer : {1, 2})
    table.dial_failed(peer, "refused", start);
  table.open(std::nullopt, higher, start);
  CHECK(next_dial(table, start) == milliseconds{-1});
}

TEST_CASE("link: status tells the address, the round trip and why a link is down") {
  auto table = table_with({by_id(higher)});
  auto opened = table.open(std::nullopt, higher, start);
  table.measured(opened.session, 250);
  CHECK(table.status().at(0).rtt_us == 250);
  table.lost(opened.session, "the connection broke", start);
  table.measured(opened.session, 300);
  auto status = table.status().at(0);
  CHECK(!status.up);
  CHECK(status.rtt_us == -1);
  CHECK(status.last_error == "the connection broke");
  CHECK(status.address == higher.cluster_address);
}

}  // namespace coordinator
