#include "tests/benchmark/workloads.hpp"

#include <openssl/evp.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace coordinator::bench {

using kind = workload::verdict::kind;

namespace {

std::string base64(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  auto n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                           reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(n));
  return text;
}

std::string key_name(std::size_t connection) {
  return "bench-" + std::to_string(connection);
}

workload::verdict plain(unsigned status) {
  return {status == 200 ? kind::done : kind::refused};
}

class writes : public workload {
 public:
  writes(peer_kind peer, std::size_t value_size) : peer_(peer), value_(value_size, 'x') {}

  std::string next(std::size_t connection) override {
    if (peer_ == peer_kind::coordinator)
      return http_text("PUT", "/api/kv/" + key_name(connection), value_);
    return http_text("POST", "/v3/kv/put",
                     R"({"key":")" + base64(key_name(connection)) + R"(","value":")" + base64(value_) + R"("})");
  }
  verdict answered(std::size_t, unsigned status, std::string_view) override { return plain(status); }

 private:
  peer_kind peer_;
  std::string value_;
};

class reads : public workload {
 public:
  reads(peer_kind peer, bool linearizable) : peer_(peer), linearizable_(linearizable) {}

  std::string next(std::size_t connection) override {
    if (peer_ == peer_kind::coordinator)
      return http_text("GET", "/api/kv/" + key_name(connection) + (linearizable_ ? "" : "?consistency=stale"), {});
    return http_text(
        "POST", "/v3/kv/range",
        R"({"key":")" + base64(key_name(connection)) + (linearizable_ ? R"("})" : R"(","serializable":true})"));
  }
  verdict answered(std::size_t, unsigned status, std::string_view body) override {
    // etcd says 200 for a key that it does not have.
    return {status == 200 && body.size() > 100 ? kind::done : kind::refused};
  }

 private:
  peer_kind peer_;
  bool linearizable_;
};

class claims : public workload {
 public:
  std::string next(std::size_t connection) override {
    auto& x = at(connection);
    if (x.task.empty())
      return http_text("POST", "/api/tasks/claim",
                       R"({"worker_id":")" + worker_name(connection) + R"(","max_tasks":1,"wait_ms":0})");
    return http_text("POST", "/api/tasks/" + x.task + "/complete",
                     R"({"worker_id":")" + worker_name(connection) + R"(","attempt":)" + std::to_string(x.attempt) +
                         R"(,"result":{"exit_code":0,"outcome":"passed","duration_ms":12,"output":"ok"}})");
  }

  verdict answered(std::size_t connection, unsigned status, std::string_view body) override {
    auto& x = at(connection);
    if (!x.task.empty()) {
      x.task.clear();
      return plain(status);
    }
    if (status != 200)
      return {kind::refused};
    auto given = nlohmann::json::parse(body).at("tasks");
    if (given.empty())
      return {kind::idle};
    x.task = given[0].at("task_id");
    x.attempt = given[0].at("attempt");
    return {kind::more};
  }

 private:
  struct held {
    std::string task;
    unsigned attempt = 0;
  };
  held& at(std::size_t connection) {
    if (connection >= held_.size())
      held_.resize(connection + 1);
    return held_[connection];
  }
  std::vector<held> held_;
};

class submits : public workload {
 public:
  explicit submits(std::size_t size) : size_(static_cast<unsigned>(size)) {
    auto tasks = nlohmann::json::array();
    for (std::size_t i = 0; i < size; ++i)
      tasks.push_back({{"run_id", "bench"}, {"type", "unit"}, {"command", {"true", std::to_string(i)}}});
    text_ = http_text("POST", "/api/tasks/submit", nlohmann::json{{"tasks", tasks}}.dump());
  }
  std::string next(std::size_t) override { return text_; }
  verdict answered(std::size_t, unsigned status, std::string_view) override {
    return {status == 200 ? kind::done : kind::refused, size_};
  }

 private:
  unsigned size_;
  std::string text_;
};

class heartbeats : public workload {
 public:
  explicit heartbeats(std::size_t workers) : workers_(workers) {}
  std::string next(std::size_t) override {
    const auto number = next_++ % workers_;
    return http_text("POST", "/api/workers/status",
                     R"({"worker_id":")" + worker_name(number) +
                         R"(","status":"idle","cpu_usage":12.5,"memory_usage":40.0,"running":[]})");
  }
  verdict answered(std::size_t, unsigned status, std::string_view) override { return plain(status); }

 private:
  std::size_t workers_;
  std::size_t next_ = 0;
};

class mix : public workload {
 public:
  explicit mix(std::size_t value_size)
      : writes_(peer_kind::coordinator, value_size), reads_(peer_kind::coordinator, true), submits_(1) {}

  std::string next(std::size_t connection) override { return part(connection).next(connection); }

  verdict answered(std::size_t connection, unsigned status, std::string_view body) override {
    auto said = part(connection).answered(connection, status, body);
    if (said.what != kind::more)
      ++turn_[connection];
    return said;
  }

 private:
  workload& part(std::size_t connection) {
    if (connection >= turn_.size())
      turn_.resize(connection + 1);
    switch (turn_[connection] % 10) {
      case 8:
        return submits_;
      case 9:
        return claims_;
      default:
        return turn_[connection] % 2 == 0 ? static_cast<workload&>(writes_) : reads_;
    }
  }

  writes writes_;
  reads reads_;
  submits submits_;
  claims claims_;
  std::vector<std::size_t> turn_;
};

}  // namespace

std::string_view to_string(peer_kind x) {
  return x == peer_kind::etcd ? "etcd" : "coordinator";
}

std::string http_text(std::string_view method, std::string_view path, std::string_view body) {
  std::string text;
  text.reserve(path.size() + body.size() + 128);
  text.append(method).append(" ").append(path).append(" HTTP/1.1\r\nHost: bench\r\n");
  if (method != "GET")
    text.append("Content-Type: application/json\r\nContent-Length: ")
        .append(std::to_string(body.size()))
        .append("\r\n");
  return text.append("\r\n").append(body);
}

std::string worker_name(std::size_t number) {
  return "bench-worker-" + std::to_string(number);
}

std::unique_ptr<workload> make_writes(peer_kind peer, std::size_t value_size) {
  return std::make_unique<writes>(peer, value_size);
}
std::unique_ptr<workload> make_reads(peer_kind peer, bool linearizable) {
  return std::make_unique<reads>(peer, linearizable);
}
std::unique_ptr<workload> make_claims() {
  return std::make_unique<claims>();
}
std::unique_ptr<workload> make_submits(std::size_t size) {
  return std::make_unique<submits>(size);
}
std::unique_ptr<workload> make_heartbeats(std::size_t workers) {
  return std::make_unique<heartbeats>(workers);
}
std::unique_ptr<workload> make_mix(std::size_t value_size) {
  return std::make_unique<mix>(value_size);
}

}  // namespace coordinator::bench
