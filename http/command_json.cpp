#include "http/command_json.hpp"

#include <set>

#include "actors/commands.hpp"
#include "http/render.hpp"
#include "http/task_json.hpp"

namespace coordinator {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t any_size = 64u << 20;

// ---- One list of fields for each command, for both directions ----

template <class A>
void fields(A&, tick&) {}
template <class A>
void fields(A& a, open_session& x) {
  a("node", x.node.value), a("incarnation", x.incarnation.value), a("boot_id", x.boot_id);
}
template <class A>
void fields(A& a, put_key& x) {
  a("key", x.key), a.bytes("value", x.value), a("if_match", x.if_match);
  a("if_none_match", x.if_none_match), a("if_exists", x.if_exists);
}
template <class A>
void fields(A& a, delete_key& x) {
  a("key", x.key), a("if_match", x.if_match), a("if_exists", x.if_exists);
}
template <class A>
void fields(A& a, register_worker& x) {
  a("worker_id", x.worker_id), a("host", x.host), a("port", x.port), a.capabilities("capabilities", x);
  a("slots", x.slots), a("status", x.status);
}
template <class A>
void fields(A& a, set_worker_status& x) {
  a("worker_id", x.worker_id), a("status", x.status), a("current_task", x.current_task);
}
template <class A>
void fields(A& a, drain_worker& x) {
  a("worker_id", x.worker_id);
}
template <class A>
void fields(A& a, remove_worker& x) {
  a("worker_id", x.worker_id);
}
template <class A>
void fields(A& a, submit_tasks& x) {
  a.tasks("tasks", x.tasks);
}
template <class A>
void fields(A& a, claim_tasks& x) {
  a("worker_id", x.worker_id), a("max_tasks", x.max_tasks);
}
template <class A>
void fields(A& a, complete_task& x) {
  a("task_id", x.task_id), a("worker_id", x.worker_id), a("attempt", x.attempt), a.object("result", x.result_json);
}
template <class A>
void fields(A& a, fail_task& x) {
  a("task_id", x.task_id), a("worker_id", x.worker_id), a("attempt", x.attempt), a("error", x.error);
  a("retryable", x.retryable), a.object("result", x.result_json);
}
template <class A>
void fields(A& a, cancel_task& x) {
  a("task_id", x.task_id);
}
template <class A>
void fields(A& a, attempt_ref& x) {
  a("task_id", x.task_id), a("attempt", x.attempt);
}
template <class A>
void fields(A& a, mark_running& x) {
  a("attempts", x.attempts);
}
template <class A>
void fields(A& a, expired_attempt& x) {
  a("task_id", x.attempt.task_id), a("attempt", x.attempt.attempt), a("reason", x.reason);
}
template <class A>
void fields(A& a, expire_attempts& x) {
  a("attempts", x.attempts);
}
template <class A>
void fields(A& a, mark_offline& x) {
  a("workers", x.workers);
}
template <class A>
void fields(A& a, worker_figures& x) {
  a("worker_id", x.worker_id), a("last_heartbeat_ms", x.last_heartbeat_ms), a("cpu_usage", x.cpu_usage);
  a("memory_usage", x.memory_usage), a("gpu_usage", x.gpu_usage), a("current_task", x.current_task);
}
template <class A>
void fields(A& a, report_figures& x) {
  a("workers", x.workers);
}
template <class A>
void fields(A& a, set_maintenance& x) {
  a("enabled", x.enabled);
}
template <class A>
void fields(A& a, retire_tasks& x) {
  a("finished_before_ms", x.finished_before_ms), a("limit", x.limit);
}
template <class A>
void fields(A& a, set_storage_alarm& x) {
  a("full", x.full);
}
template <class A>
void fields(A& a, member& x) {
  a("node_id", x.id.value), a("incarnation", x.incarnation.value), a("http_address", x.http_address);
  a("cluster_address", x.cluster_address), a("voter", x.voter);
}
template <class A>
void fields(A& a, membership& x) {
  a("members", x.members);
}
template <class A>
void envelope(A& a, command& x) {
  a("session", x.session), a("sequence", x.sequence), a("lowest_unanswered", x.lowest_unanswered);
  a("idempotency_key", x.idempotency_key), a("request_hash", x.request_hash);
}

// ---- To JSON ----

class writer {
 public:
  explicit writer(ordered_json& out) : out_(out) {}

  template <class T>
  void operator()(const char* name, const T& x) {
    out_[name] = value(x);
  }
  void operator()(const char* name, const std::optional<std::uint64_t>& x) {
    if (x)
      out_[name] = *x;
  }
  void bytes(const char* name, const std::string& x) { add_bytes(out_, name, x); }
  void object(const char* name, const std::string& text) {
    if (auto parsed = ordered_json::parse(text, nullptr, false); parsed.is_object())
      out_[name] = std::move(parsed);
  }
  /// As the worker gave them, a list or an object: the entry holds that text, too.
  void capabilities(const char* name, const register_worker& x) {
    auto given = ordered_json::parse(x.capabilities_json, nullptr, false);
    out_[name] = given.is_discarded() ? ordered_json(to_json(x.capabilities)) : given;
  }
  void tasks(const char* name, const std::vector<task_spec>& specs) {
    auto& list = out_[name] = ordered_json::array();
    for (auto& spec : specs)
      list.push_back(ordered_json::parse(spec.spec_json, nullptr, false));
  }

 private:
  template <class T>
  static ordered_json value(const T& x) {
    if constexpr (std::is_same_v<T, std::string> || std::is_arithmetic_v<T>) {
      return x;
    } else if constexpr (std::is_same_v<T, decimal>) {
      return x.value();
    } else if constexpr (std::is_enum_v<T>) {
      return to_string(x);
    } else {
      auto object = ordered_json::object();
      writer inner{object};
      // The lists of fields serve reading, too, and so take what could be changed.
      fields(inner, const_cast<T&>(x));
      return object;
    }
  }
  template <class T>
  static ordered_json value(const std::vector<T>& xs) {
    auto list = ordered_json::array();
    for (auto& x : xs)
      list.push_back(value(x));
    return list;
  }

  ordered_json& out_;
};

// ---- From JSON ----

std::optional<worker_status> from_word(std::string_view word, worker_status) {
  return worker_status_from(word);
}

std::optional<attempt_outcome> from_word(std::string_view word, attempt_outcome) {
  for (auto x : {attempt_outcome::lease_lost, attempt_outcome::worker_offline, attempt_outcome::timeout})
    if (word == to_string(x))
      return x;
  return std::nullopt;
}

class reader {
 public:
  reader(const json& object, std::string at, std::optional<problem>& failure)
      : object_(object), fields_(object, at, failure), at_(std::move(at)), failure_(failure) {}

  template <class T>
  void operator()(const char* name, T& x) {
    known_.insert(name);
    if constexpr (std::is_same_v<T, std::string>) {
      x = fields_.text(name, {}, any_size, true);
    } else if constexpr (std::is_same_v<T, bool>) {
      x = fields_.boolean(name, x);
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      x = fields_.natural(name, x);
    } else if constexpr (std::is_integral_v<T>) {
      x = static_cast<T>(fields_.integer(name, x, std::is_signed_v<T> ? INT64_MIN : 0,
                                         std::is_signed_v<T> ? INT64_MAX : static_cast<std::int64_t>(UINT32_MAX)));
    } else if constexpr (std::is_same_v<T, decimal>) {
      x = fields_.number(name, 0, -limits::capability_number, limits::capability_number);
    } else {
      auto word = fields_.text(name, std::string{to_string(x)}, 64);
      if (auto found = from_word(word, x))
        x = *found;
      else
        fields_.fail(name, "is not one of the words for it");
    }
  }
  void operator()(const char* name, std::optional<std::uint64_t>& x) {
    known_.insert(name);
    if (fields_.find(name))
      x = fields_.natural(name);
  }
  template <class T>
  void operator()(const char* name, std::vector<T>& xs) {
    each(name, [&](const json& value, const std::string& path) {
      reader inner{value, path, failure_};
      fields(inner, xs.emplace_back());
      inner.finish();
    });
  }
  void operator()(const char* name, std::vector<std::string>& xs) {
    known_.insert(name);
    xs = fields_.optional_ids(name);
  }
  void bytes(const char* name, std::string& x) {
    auto coded = std::string{name} + "_base64";
    known_.insert(coded);
    if (fields_.find(coded)) {
      auto decoded = from_base64(fields_.text(coded, {}, any_size));
      if (!decoded)
        fields_.fail(coded, "must be base64");
      x = decoded.value_or(std::string{});
    }
    if (!fields_.find(coded) || fields_.find(name))
      (*this)(name, x);
  }
  void object(const char* name, std::string& text) {
    known_.insert(name);
    text = fields_.object_text(name);
  }
  void capabilities(const char* name, register_worker& x) {
    known_.insert(name);
    x.capabilities = read_capabilities(fields_, name);
    if (auto value = fields_.find(name))
      x.capabilities_json = to_text(*value);
  }
  void tasks(const char* name, std::vector<task_spec>& specs) {
    each(name, [&](const json& value, const std::string& path) { specs.push_back(read_task(value, path, failure_)); });
  }

  /// To be called last: whatever no list of fields asked for is an error.
  void finish(std::initializer_list<const char*> also = {}) {
    known_.insert(also.begin(), also.end());
    if (object_.is_object())
      for (auto& [name, value] : object_.items())
        if (known_.count(name) == 0)
          fields_.fail(name, "is not known here");
  }

 private:
  template <class F>
  void each(const char* name, F&& f) {
    known_.insert(name);
    if (auto list = fields_.array(name))
      for (std::size_t i = 0; i < list->size() && !failure_; ++i)
        f((*list)[i], fields_.path_of(name) + "[" + std::to_string(i) + "]");
  }

  const json& object_;
  object_reader fields_;
  std::string at_;
  std::optional<problem>& failure_;
  std::set<std::string, std::less<>> known_;
};

/// A body of the type named; nothing for an unknown name.
template <std::size_t I = 0>
std::optional<command_body> body_of(std::string_view name) {
  if constexpr (I == std::variant_size_v<command_body>) {
    return std::nullopt;
  } else {
    command_body body{std::in_place_index<I>};
    if (name_of(body) == name)
      return body;
    return body_of<I + 1>(name);
  }
}

void read_command(const json& value, const std::string& at, command_body body, log_entry& entry,
                  std::optional<problem>& failure) {
  command c;
  reader in{value, at, failure};
  envelope(in, c);
  std::visit([&](auto& x) { fields(in, x); }, body);
  in.finish({"type"});
  if (failure)
    return;
  if (auto checked = validate(body); !checked.ok()) {
    failure = invalid(at + "." + checked.field, checked.detail);
    return;
  }
  c.body = std::move(body);
  entry.kind = entry_kind::command;
  entry.payload = encode(c);
}

}  // namespace

ordered_json command_to_json(const log_entry& entry) {
  ordered_json out;
  writer w{out};
  membership members;
  genesis founding;
  out["type"] = "unreadable";
  if (entry.kind == entry_kind::noop) {
    out["type"] = "noop";
  } else if (entry.kind == entry_kind::membership && from_bytes(entry.payload, members)) {
    out["type"] = "membership";
    fields(w, members);
  } else if (entry.kind == entry_kind::genesis && from_bytes(entry.payload, founding)) {
    out["type"] = "genesis";
    out["cluster_id"] = founding.cluster_id;
    fields(w, founding.founders);
  } else if (entry.kind == entry_kind::command) {
    if (auto c = decode(entry.payload)) {
      out["type"] = name_of(c->body);
      envelope(w, *c);
      std::visit([&](auto& x) { fields(w, x); }, c->body);
    }
  }
  return out;
}

log_entry read_entry(const json& value, const std::string& at, std::optional<problem>& failure) {
  log_entry entry;
  object_reader outer{value, at, failure};
  // Past this a number is no longer exact in every client, and a term no longer has room to grow.
  constexpr std::int64_t largest = std::int64_t{1} << 52;
  entry.term.value = static_cast<std::uint64_t>(outer.integer("term", 1, largest));
  outer.integer("index", 0, 0, largest);
  entry.time_ms = outer.integer("time_ms", 0, 0, largest);
  outer.allow_only({"term", "index", "time_ms", "command"});
  auto command = outer.require("command");
  if (!command)
    return entry;
  auto path = outer.path_of("command");
  object_reader inner{*command, path, failure};
  inner.require("type");
  auto type = inner.text("type", {}, 64);
  if (failure)
    return entry;
  if (type == "noop") {
    inner.allow_only({"type"});
  } else if (type == "membership") {
    membership members;
    reader in{*command, path, failure};
    fields(in, members);
    in.finish({"type"});
    entry.kind = entry_kind::membership;
    entry.payload = to_bytes(members);
  } else if (auto body = body_of(type)) {
    read_command(*command, path, std::move(*body), entry, failure);
  } else {
    inner.fail("type", "is not the name of a command");
  }
  return entry;
}

}  // namespace coordinator
