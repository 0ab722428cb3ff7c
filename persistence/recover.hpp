#pragma once

#include <memory>
#include <string>

#include "persistence/node_files.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

/// Whether a sync failed, after which the kernel may have marked the lost pages clean: a database that it happened to
/// is never synced again. Other errors (a full disk, a write that failed, a read-only file system) leave a file that
/// can be opened again as soon as the disk works.
bool is_failed_sync(int code);

/// Opens raft.db again after a failure. The failed store has been destroyed; `code` is the error that ended it. After a
/// failed sync the file is copied, the copy verified and synced, and only then put in its place.
///
/// Throws database_error while the disk still fails: the caller tries again later. Throws damaged_error when
/// what can be read is not what was written.
std::unique_ptr<raft_store> recover_raft(node_files& files, const node_id& node, const raft_store_options& options,
                                         int code);

/// The same for the state. After a failed sync the copy has a new name, which `file_name` is set to, and which the
/// caller has to have written into raft.db before it relies on the file after a restart; the old file stays till then.
std::unique_ptr<state_store> recover_state(node_files& files, std::string& file_name, const node_id& node,
                                           incarnation_id incarnation, const state_store_options& options, int code);

/// Finishes or discards a replacement of raft.db that was cut short anywhere. To be called before the directory is
/// judged.
void finish_recovery(node_files& files);

}  // namespace coordinator
