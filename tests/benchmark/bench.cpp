// Loads a running cluster with writes and says how fast they were answered: this project's nodes, or etcd's through
// its HTTP/JSON gateway, with the same client, value size and number of connections.

#include <httplib.h>
#include <openssl/evp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

using steady = std::chrono::steady_clock;

struct settings {
  std::vector<std::string> urls{"http://127.0.0.1:8080"};
  bool etcd = false;
  int clients = 64;
  double seconds = 5;
  double warm_up = 1;
  std::size_t value_size = 256;
  bool json = false;
};

struct outcome {
  std::vector<double> latencies_ms;
  std::uint64_t refused = 0;
};

std::string base64(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  auto n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                           reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(n));
  return text;
}

/// One connection that is kept: writes its own key again and again.
class writer {
 public:
  writer(const settings& s, const std::string& url, int number)
      : client_(url), etcd_(s.etcd), key_("bench-" + std::to_string(number)), value_(s.value_size, 'x') {
    client_.set_keep_alive(true);
    client_.set_tcp_nodelay(true);
    client_.set_read_timeout(10);
    client_.set_connection_timeout(1);
  }

  bool write() {
    if (!etcd_) {
      auto answer = client_.Put("/api/kv/" + key_, value_, "application/octet-stream");
      return answer && answer->status == 200;
    }
    nlohmann::json body{{"key", base64(key_)}, {"value", base64(value_)}};
    auto answer = client_.Post("/v3/kv/put", body.dump(), "application/json");
    return answer && answer->status == 200;
  }

 private:
  httplib::Client client_;
  bool etcd_;
  std::string key_;
  std::string value_;
};

double quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty())
    return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(q * static_cast<double>(sorted.size())))];
}

void report(const settings& s, const std::string& mode, std::vector<double> all, std::uint64_t refused,
            double seconds) {
  std::sort(all.begin(), all.end());
  auto rate = static_cast<double>(all.size()) / seconds;
  if (s.json) {
    nlohmann::json out{{"mode", mode},
                       {"peer", s.etcd ? "etcd" : "coordinator"},
                       {"clients", s.clients},
                       {"operations", all.size()},
                       {"refused", refused},
                       {"per_second", rate},
                       {"p50_ms", quantile(all, 0.5)},
                       {"p99_ms", quantile(all, 0.99)},
                       {"max_ms", all.empty() ? 0 : all.back()}};
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("%s, %s, %d clients: %.0f/s, p50 %.2f ms, p99 %.2f ms, longest %.2f ms, %llu refused\n", mode.c_str(),
              s.etcd ? "etcd" : "coordinator", s.clients, rate, quantile(all, 0.5), quantile(all, 0.99),
              all.empty() ? 0 : all.back(), static_cast<unsigned long long>(refused));
}

/// Closed loop: each client sends its next write when the last one was answered.
int run_write(const settings& s) {
  std::atomic<bool> counting{false};
  std::atomic<bool> done{false};
  std::vector<outcome> outcomes(static_cast<std::size_t>(s.clients));
  std::vector<std::thread> threads;
  for (int i = 0; i < s.clients; ++i)
    threads.emplace_back([&, i] {
      writer w{s, s.urls[static_cast<std::size_t>(i) % s.urls.size()], i};
      auto& mine = outcomes[static_cast<std::size_t>(i)];
      while (!done) {
        auto began = steady::now();
        bool ok = w.write();
        if (!counting)
          continue;
        if (ok)
          mine.latencies_ms.push_back(std::chrono::duration<double, std::milli>(steady::now() - began).count());
        else
          ++mine.refused;
      }
    });
  std::this_thread::sleep_for(std::chrono::duration<double>(s.warm_up));
  auto began = steady::now();
  counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(s.seconds));
  counting = false;
  auto seconds = std::chrono::duration<double>(steady::now() - began).count();
  done = true;
  for (auto& t : threads)
    t.join();
  std::vector<double> all;
  std::uint64_t refused = 0;
  for (auto& o : outcomes) {
    all.insert(all.end(), o.latencies_ms.begin(), o.latencies_ms.end());
    refused += o.refused;
  }
  report(s, "write", std::move(all), refused, seconds);
  return refused == 0 ? 0 : 1;
}

/// Writes to whichever of `urls` answers, one after the other, and prints the longest time between two accepted
/// writes: to be run while somebody kills the leader.
int run_gap(const settings& s) {
  auto end = steady::now() + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(s.seconds));
  auto last = steady::now();
  double longest = 0;
  std::size_t next = 0;
  std::uint64_t accepted = 0;
  auto w = std::make_unique<writer>(s, s.urls[next], 0);
  while (steady::now() < end) {
    if (w->write()) {
      auto now = steady::now();
      if (accepted++ != 0)
        longest = std::max(longest, std::chrono::duration<double, std::milli>(now - last).count());
      last = now;
    } else {
      next = (next + 1) % s.urls.size();
      w = std::make_unique<writer>(s, s.urls[next], 0);
    }
  }
  if (s.json)
    std::printf("%s\n",
                nlohmann::json{{"mode", "gap"}, {"accepted", accepted}, {"longest_ms", longest}}.dump().c_str());
  else
    std::printf("gap: %llu accepted, longest %.1f ms between two\n", static_cast<unsigned long long>(accepted),
                longest);
  return accepted > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{"Loads a running cluster and says how fast it answered.", "coordinator-bench"};
  app.require_subcommand(1);
  auto common = [&](CLI::App* sub) {
    sub->add_option("--url", s.urls, "Where to write, clients taken in turn")->delimiter(',')->capture_default_str();
    sub->add_flag("--etcd", s.etcd, "The other end is etcd's HTTP/JSON gateway");
    sub->add_option("--seconds", s.seconds, "How long to measure")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 3600.0));
    sub->add_option("--value-size", s.value_size, "Bytes of a value")
        ->capture_default_str()
        ->check(CLI::Range(1, 1 << 20));
    sub->add_flag("--json", s.json, "One JSON object instead of a line");
  };
  auto write = app.add_subcommand("write", "Writes as fast as the answers come");
  common(write);
  write->add_option("--clients", s.clients, "Connections at once")->capture_default_str()->check(CLI::Range(1, 1024));
  auto gap = app.add_subcommand("gap", "Longest time between two accepted writes, while somebody kills the leader");
  common(gap);
  CLI11_PARSE(app, argc, argv);
  return write->parsed() ? run_write(s) : run_gap(s);
}
