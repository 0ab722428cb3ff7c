#include "actors/announce.hpp"

#include <caf/actor_system_config.hpp>

#include "actors/actors.hpp"

namespace coordinator {

void announce_messages(caf::actor_system_config& config) {
  // A type that travels and is missing here is lost with one line on stderr.
  config.add_message_type<request_vote>("request_vote")
      .add_message_type<request_vote_reply>("request_vote_reply")
      .add_message_type<append_entries>("append_entries")
      .add_message_type<append_entries_reply>("append_entries_reply")
      .add_message_type<install_snapshot>("install_snapshot")
      .add_message_type<install_snapshot_reply>("install_snapshot_reply")
      .add_message_type<removal_notice>("removal_notice")
      .add_message_type<state_digest>("state_digest")
      .add_message_type<beat>("beat")
      .add_message_type<beat_reply>("beat_reply")
      .add_message_type<timeout_now>("timeout_now")
      .add_message_type<formation_status>("formation_status")
      .add_message_type<formation_offer>("formation_offer")
      .add_message_type<formation_abandon>("formation_abandon")
      .add_message_type<propose>("propose")
      .add_message_type<proposal_rejected>("proposal_rejected")
      .add_message_type<read_index>("read_index")
      .add_message_type<read_index_reply>("read_index_reply")
      .add_message_type<worker_beat>("worker_beat")
      .add_message_type<worker_beat_reply>("worker_beat_reply")
      .add_message_type<cluster_query>("cluster_query")
      .add_message_type<cluster_view>("cluster_view")
      .add_message_type<transfer_leadership>("transfer_leadership")
      .add_message_type<transfer_reply>("transfer_reply")
      .add_message_type<change_membership>("change_membership")
      .add_message_type<membership_reply>("membership_reply");
}

}  // namespace coordinator
