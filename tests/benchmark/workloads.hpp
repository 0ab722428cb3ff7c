#pragma once

#include <memory>
#include <string>

#include "tests/benchmark/http_load.hpp"

namespace coordinator::bench {

enum class peer_kind { coordinator, etcd };

std::string_view to_string(peer_kind x);

/// A request to a server of its own connection: line, Host, Content-Length and body.
std::string http_text(std::string_view method, std::string_view path, std::string_view body);

/// Every connection writes its own key again and again. etcd is asked through its HTTP/JSON gateway.
std::unique_ptr<workload> make_writes(peer_kind peer, std::size_t value_size);
/// Every connection reads its own key, which `make_writes` has written. Linearizable, or of what the asked node has.
std::unique_ptr<workload> make_reads(peer_kind peer, bool linearizable);
/// Every connection is a worker: an operation is a task claimed and completed. There must be tasks.
std::unique_ptr<workload> make_claims();
/// Submits `size` tasks with each request.
std::unique_ptr<workload> make_submits(std::size_t size);
/// The heartbeats of that many registered workers, in turns.
std::unique_ptr<workload> make_heartbeats(std::size_t workers);
/// Of ten operations four writes, four linearizable reads, a submit of one task and a claim with its completion.
std::unique_ptr<workload> make_mix(std::size_t value_size);

/// The name of a worker that `make_heartbeats` and `make_claims` speak for.
std::string worker_name(std::size_t number);

}  // namespace coordinator::bench
