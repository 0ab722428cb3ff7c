#include "tests/support/scripted_keeper.hpp"

#include <algorithm>

#include "persistence/codec.hpp"

namespace coordinator {

node_id member_id(char name) {
  return {std::string(1, name)};
}

sender member_sender(char name) {
  return {member_id(name), incarnation_id{static_cast<std::uint64_t>(name - 'a' + 1)}};
}

log_entry entry_of(std::uint64_t index, std::uint64_t term) {
  return {log_index{index}, term_number{term}, entry_kind::command, static_cast<std::int64_t>(1'000 + index),
          "entry " + std::to_string(index) + " of term " + std::to_string(term)};
}

membership members_of(std::size_t count) {
  membership result;
  for (std::size_t i = 0; i < count; ++i) {
    auto who = member_sender(static_cast<char>('a' + i));
    result.members.push_back({who.id, who.incarnation, "http:" + who.id.value, "cluster:" + who.id.value, true});
  }
  return result;
}

namespace {

std::vector<sender> senders(std::initializer_list<char> names) {
  std::vector<sender> result;
  for (auto name : names)
    result.push_back(member_sender(name));
  return result;
}

}  // namespace

scripted_keeper::scripted_keeper(scripted_keeper_options options) : options_(std::move(options)) {
  if (options_.formed) {
    genesis founding{"0123456789abcdef0123456789abcdef", members_of(options_.members), 1'000};
    for (auto& m : founding.founders.members)
      if (options_.learner && m.id == member_id(options_.self))
        m.voter = false;
    founded_ = founding;
    saved = {term_number{options_.term}, options_.voted_for};
    disk.push_back({log_index{1}, term_number{1}, entry_kind::genesis, founding.time_ms, to_bytes(founding)});
  }
  for (auto term : options_.log)
    disk.push_back(entry_of(disk.size() + 1, term));
  start();
}

void scripted_keeper::start() {
  replication_config config;
  config.self = member_sender(options_.self);
  if (options_.incarnation)
    config.self.incarnation = *options_.incarnation;
  config.defects = options_.defects;
  config.memory_bytes = options_.memory_bytes;
  config.append_bytes = options_.append_bytes;
  config.window_messages = options_.window_messages;
  config.write_bytes = options_.write_bytes;
  config.snapshot_bytes = options_.snapshot_bytes;
  config.snapshot_window = options_.snapshot_window;
  raft_contents contents;
  contents.node = config.self.id;
  contents.incarnation = config.self.incarnation;
  contents.state = saved;
  contents.founded = founded_;
  contents.last_index = log_index{disk.size()};
  if (options_.base > 0) {
    auto& last = disk.at(options_.base - 1);
    contents.first_index = log_index{options_.base + 1};
    contents.base = {last.index, last.term, log_index{1}, founded_->founders, last.time_ms};
    contents.last_time_ms = last.time_ms;
  }
  for (auto& entry : disk) {
    if (entry.index < contents.first_index)
      continue;
    if (contents.terms.empty() || contents.terms.back().term != entry.term)
      contents.terms.push_back({entry.index, entry.term});
    if (entry.kind == entry_kind::genesis || entry.kind == entry_kind::membership)
      contents.memberships.push_back(entry);
    contents.last_time_ms = entry.time_ms;
  }
  if (disk.size() > options_.base)
    contents.tail.push_back(disk.back());
  core_.emplace(config, std::move(contents), log_index{options_.last_applied});
}

void scripted_keeper::restart() {
  writing_.reset();
  outbox_.clear();
  applied.clear();
  loads.clear();
  campaign.reset();
  hand_over.reset();
  beats.reset();
  wanted.reset();
  announced.reset();
  start();
}

void scripted_keeper::take(replication_actions actions) {
  std::move(actions.messages.begin(), actions.messages.end(), std::back_inserter(outbox_));
  std::move(actions.loads.begin(), actions.loads.end(), std::back_inserter(loads));
  for (auto& batch : actions.apply)
    std::move(batch.entries.begin(), batch.entries.end(), std::back_inserter(applied));
  if (actions.campaign)
    campaign = actions.campaign;
  if (actions.hand_over)
    hand_over = actions.hand_over;
  if (actions.beats)
    beats = actions.beats;
  if (actions.round)
    wanted = actions.round;
  if (actions.role)
    announced = actions.role;
  if (actions.standstill)
    standstills.push_back(actions.standstill->reason);
  notices_wanted += actions.commit_notice ? 1 : 0;
  copies_wanted += actions.copy ? 1 : 0;
  if (actions.copy_check)
    copies_to_check.push_back(*actions.copy_check);
  std::move(actions.copy_reads.begin(), actions.copy_reads.end(), std::back_inserter(copy_reads));
  std::move(actions.spent_copies.begin(), actions.spent_copies.end(), std::back_inserter(spent_copies));
  std::move(actions.pieces.begin(), actions.pieces.end(), std::back_inserter(pieces));
  std::move(actions.discards.begin(), actions.discards.end(), std::back_inserter(discards));
  if (actions.install)
    installed.push_back(*actions.install);
  if (actions.write) {
    writing_ = std::move(actions.write);
    if (!options_.slow_disk)
      write();
  }
}

void scripted_keeper::write(bool all) {
  while (writing_) {
    auto done = std::move(*writing_);
    writing_.reset();
    if (done.state)
      saved = *done.state;
    if (done.install && !done.install->keep_suffix)
      disk.resize(done.install->base.index.value);
    if (done.truncate_from)
      disk.resize(std::min<std::size_t>(disk.size(), done.truncate_from->value - 1));
    std::move(done.entries.begin(), done.entries.end(), std::back_inserter(disk));
    if (done.formed)
      founded_ = done.formed;
    take(core_->on_written(done.number, "", log_index{}, now()));
    if (!all)
      return;
  }
}

void scripted_keeper::fail_write() {
  auto number = writing_->number;
  writing_.reset();
  take(core_->on_written(number, "disk I/O error", log_index{}, now()));
}

void scripted_keeper::load() {
  while (!loads.empty()) {
    auto request = loads.front();
    loads.erase(loads.begin());
    std::vector<log_entry> entries;
    std::size_t bytes = 0;
    for (auto i = request.from.value; i <= request.to.value && i <= disk.size(); ++i) {
      bytes += disk[i - 1].payload.size();
      if (!entries.empty() && bytes > request.max_bytes)
        break;
      entries.push_back(disk[i - 1]);
    }
    take(core_->on_loaded(request.request, std::move(entries), now()));
  }
}

void scripted_keeper::request_vote(char candidate, std::uint64_t term, std::uint64_t last_index,
                                   std::uint64_t last_term, bool pre_vote, bool transfer) {
  coordinator::request_vote ask{member_sender(candidate),
                                term_number{term},
                                log_index{last_index},
                                term_number{last_term},
                                pre_vote,
                                transfer,
                                7};
  take(core_->on_request_vote(ask, {ask.candidate.id, 0}, now()));
}

void scripted_keeper::append(char leader, std::uint64_t term, std::uint64_t prev_index, std::uint64_t prev_term,
                             std::vector<std::uint64_t> entries, std::uint64_t commit) {
  append_entries message;
  message.leader = member_sender(leader);
  message.term = term_number{term};
  message.prev_log_index = log_index{prev_index};
  message.prev_log_term = term_number{prev_term};
  message.leader_commit = log_index{commit};
  for (auto entry_term : entries)
    message.entries.push_back(entry_of(++prev_index, entry_term));
  take(core_->on_append_entries(std::move(message), {member_id(leader), 0}, now()));
}

void scripted_keeper::append_entries_of(char leader, std::uint64_t term, std::uint64_t prev_index,
                                        std::uint64_t prev_term, std::vector<log_entry> entries,
                                        std::uint64_t injected) {
  append_entries message;
  message.leader = member_sender(leader);
  message.term = term_number{term};
  message.prev_log_index = log_index{prev_index};
  message.prev_log_term = term_number{prev_term};
  message.entries = std::move(entries);
  take(core_->on_append_entries(std::move(message), {injected ? node_id{} : member_id(leader), injected}, now()));
}

void scripted_keeper::beat(char leader, std::uint64_t term, std::uint64_t commit, std::uint64_t round) {
  take(core_->on_beat({member_sender(leader), term_number{term}, log_index{commit}, round}, now()));
}

void scripted_keeper::acknowledge(char from, std::uint64_t match) {
  append_entries_reply reply;
  reply.from = member_sender(from);
  reply.term = reply.answers_term = core_->current_term();
  reply.success = true;
  reply.match_index = reply.last_log_index = log_index{match};
  take(core_->on_append_entries_reply(reply, now()));
}

void scripted_keeper::refuse(char from, std::uint64_t prev, std::uint64_t conflict_term, std::uint64_t conflict_index) {
  append_entries_reply reply;
  reply.from = member_sender(from);
  reply.term = reply.answers_term = core_->current_term();
  reply.prev_log_index = log_index{prev};
  reply.conflict_term = term_number{conflict_term};
  reply.conflict_index = log_index{conflict_index};
  take(core_->on_append_entries_reply(reply, now()));
}

void scripted_keeper::ask_leave(milliseconds timeout, std::uint64_t transfer) {
  take(core_->on_ask_leave({timeout, false, term_number{transfer}}, now()));
}

void scripted_keeper::tally(std::uint64_t leave, std::initializer_list<char> granted) {
  take(core_->on_tally({leave, senders(granted)}, now()));
}

void scripted_keeper::round(std::uint64_t read, std::initializer_list<char> answered) {
  take(core_->on_round_evidence({beats ? beats->leave : 0, read, senders(answered), now_}, now()));
}

void scripted_keeper::propose(std::initializer_list<std::string> commands) {
  take(core_->on_propose({member_sender(options_.self), 1, commands}, now()));
}

void scripted_keeper::read(std::uint64_t request) {
  take(core_->on_read_index({member_sender(options_.self), request}, now()));
}

void scripted_keeper::tick() {
  take(core_->on_tick(now()));
}

void scripted_keeper::commit_notice() {
  notices_wanted = 0;
  take(core_->on_commit_notice(now()));
}

void scripted_keeper::peers_up() {
  for (std::size_t i = 0; i < options_.members; ++i)
    if (auto name = static_cast<char>('a' + i); name != options_.self)
      take(core_->on_peer_up(member_sender(name), now()));
}

void scripted_keeper::become_leader() {
  auto vote = [this] {
    if (campaign)
      tally(std::exchange(campaign, std::nullopt)->leave, {'a', 'b', 'c', 'd', 'e'});
    if (writing_)
      write();
  };
  ask_leave();
  vote();  // The pre-vote.
  vote();
}

std::vector<std::uint64_t> scripted_keeper::log_terms() const {
  std::vector<std::uint64_t> terms;
  for (log_index i{1}; i <= core_->log().last_index(); ++i)
    terms.push_back(core_->log().term_at(i).value);
  return terms;
}

}  // namespace coordinator
