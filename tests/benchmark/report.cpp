#include "tests/benchmark/report.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <set>
#include <stdexcept>

namespace coordinator::bench {

namespace {

std::string format(double x, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, x);
  return text;
}

/// With commas between thousands, as a rate is read.
std::string whole(double x) {
  auto text = format(x, 0);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

bool same_work(const measurement& a, const measurement& b) {
  return a.workload == b.workload && a.cluster_size == b.cluster_size && a.clients == b.clients;
}

nlohmann::json machine() {
  utsname name{};
  ::uname(&name);
  std::string model;
  std::ifstream file{"/proc/cpuinfo"};
  for (std::string line; std::getline(file, line) && model.empty();)
    if (line.starts_with("model name"))
      model = line.substr(line.find(':') + 2);
  const double memory =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 30);
  return {{"cores", ::sysconf(_SC_NPROCESSORS_ONLN)},
          {"processor", model},
          {"memory_gib", memory},
          {"kernel", std::string{name.sysname} + " " + name.release}};
}

std::string today() {
  char text[16];
  auto now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

nlohmann::json run_json(const measurement& x) {
  auto& load = x.load;
  return {{"per_second", load.per_second()},
          {"operations", load.operations},
          {"refused", load.refused},
          {"unanswered", load.broken},
          {"seconds", load.seconds},
          {"p50_ms", load.latency.quantile_ms(0.5)},
          {"p99_ms", load.latency.quantile_ms(0.99)},
          {"p999_ms", load.latency.quantile_ms(0.999)},
          {"longest_ms", load.latency.longest_ms()},
          {"longest_gap_ms", load.longest_gap_ms},
          {"resident_mb", x.resident_mb},
          {"leader_cpu_percent", x.cpu_percent},
          {"more", x.more}};
}

std::string rate_rows(const std::vector<summary>& all) {
  std::string text =
      "| workload | nodes | clients | at | a second | p50 ms | p99 ms | etcd a second | p50 ms | p99 ms | rate / etcd "
      "| "
      "p50 / etcd | p99 / etcd | MB a node |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (auto& x : all) {
    if (x.first.peer != peer_kind::coordinator || x.per_second <= 0)
      continue;
    text += "| " + x.first.workload + " | " + std::to_string(x.first.cluster_size) + " | " +
            std::to_string(x.first.clients) + " | " + x.first.at + " | " + whole(x.per_second) + " | " +
            format(x.p50_ms, 2) + " | " + format(x.p99_ms, 2) + " | ";
    if (auto* etcd = beside(all, x))
      text += whole(etcd->per_second) + " | " + format(etcd->p50_ms, 2) + " | " + format(etcd->p99_ms, 2) + " | " +
              format(x.per_second / etcd->per_second, 2) + " | " + format(x.p50_ms / etcd->p50_ms, 2) + " | " +
              format(x.p99_ms / etcd->p99_ms, 2) + " | ";
    else
      text += "| | | | | | ";
    text += format(x.resident_mb, 0) + " |\n";
  }
  return text;
}

/// Figures that only some workloads have: each with the median of the runs and the worst.
std::string other_rows(const std::vector<summary>& all) {
  std::string text =
      "| workload | nodes | of | figure | median | lowest | highest |\n| --- | --- | --- | --- | --- | --- | --- |\n";
  bool any = false;
  for (auto& x : all)
    for (auto& [name, value] : x.first.more.items()) {
      if (!value.is_number())
        continue;
      std::vector<double> values;
      for (auto& run : x.runs)
        values.push_back(run.more.at(name));
      auto [low, high] = std::minmax_element(values.begin(), values.end());
      text += "| " + x.first.workload + " | " + std::to_string(x.first.cluster_size) + " | " +
              std::string{to_string(x.first.peer)} + " | " + name + " | " + format(median(values), 2) + " | " +
              format(*low, 2) + " | " + format(*high, 2) + " |\n";
      any = true;
    }
  return any ? text : "";
}

void plot(const std::vector<summary>& all, const std::string& workload, const std::filesystem::path& file) {
  auto script = std::string{"set terminal svg size 720,420 background rgb 'white'\nset output '"} + file.string() +
                "'\nset logscale x 2\nset xlabel 'clients'\nset ylabel 'a second'\nset y2label 'p99, ms'\n"
                "set ytics nomirror\nset y2tics\nset yrange [0:*]\nset y2range [0:*]\nset key top left\nset title '" +
                workload + "'\nplot ";
  std::string data;
  std::string sep;
  for (auto peer : {peer_kind::coordinator, peer_kind::etcd}) {
    std::string points;
    for (auto& x : all)
      if (x.first.workload == workload && x.first.peer == peer && x.first.cluster_size == 3)
        points += std::to_string(x.first.clients) + " " + format(x.per_second, 1) + " " + format(x.p99_ms, 3) + "\n";
    if (points.empty())
      continue;
    const std::string name{to_string(peer)};
    script += sep + "'-' using 1:2 with linespoints lw 2 title '" + name +
              ", a second', '-' using 1:3 axes x1y2 with " + "linespoints dashtype 2 title '" + name + ", p99 ms'";
    data += points + "e\n" + points + "e\n";
    sep = ", ";
  }
  if (data.empty())
    return;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> gnuplot{::popen("gnuplot", "w"), ::pclose};
  if (!gnuplot)
    throw std::runtime_error("gnuplot cannot be run: install gnuplot-nox");
  script += "\n" + data;
  std::fwrite(script.data(), 1, script.size(), gnuplot.get());
  if (::pclose(gnuplot.release()) != 0)
    throw std::runtime_error("gnuplot failed: is gnuplot-nox installed?");
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::sort(values.begin(), values.end());
  const auto middle = values.size() / 2;
  return values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<summary> summarize(const std::vector<measurement>& all) {
  std::vector<summary> result;
  for (auto& x : all) {
    auto known = std::find_if(result.begin(), result.end(),
                              [&](const summary& s) { return s.first.peer == x.peer && same_work(s.first, x); });
    if (known == result.end()) {
      result.push_back({});
      known = std::prev(result.end());
      known->first = x;
    }
    known->runs.push_back(x);
  }
  for (auto& s : result) {
    auto of = [&](auto figure) {
      std::vector<double> values;
      for (auto& run : s.runs)
        values.push_back(figure(run));
      return median(values);
    };
    s.per_second = of([](auto& x) { return x.load.per_second(); });
    s.p50_ms = of([](auto& x) { return x.load.latency.quantile_ms(0.5); });
    s.p99_ms = of([](auto& x) { return x.load.latency.quantile_ms(0.99); });
    s.resident_mb = of([](auto& x) { return x.resident_mb; });
    s.cpu_percent = of([](auto& x) { return x.cpu_percent; });
  }
  return result;
}

const summary* beside(const std::vector<summary>& all, const summary& ours) {
  auto found = std::find_if(all.begin(), all.end(), [&](const summary& x) {
    return x.first.peer == peer_kind::etcd && same_work(x.first, ours.first);
  });
  return found == all.end() ? nullptr : &*found;
}

nlohmann::json to_json(const std::vector<summary>& all, const std::string& command) {
  auto results = nlohmann::json::array();
  for (auto& x : all) {
    nlohmann::json row{{"workload", x.first.workload},
                       {"peer", to_string(x.first.peer)},
                       {"cluster_size", x.first.cluster_size},
                       {"clients", x.first.clients},
                       {"at", x.first.at},
                       {"unit", x.first.unit},
                       {"per_second", x.per_second},
                       {"p50_ms", x.p50_ms},
                       {"p99_ms", x.p99_ms},
                       {"resident_mb", x.resident_mb},
                       {"leader_cpu_percent", x.cpu_percent},
                       {"runs", nlohmann::json::array()}};
    for (auto& run : x.runs)
      row["runs"].push_back(run_json(run));
    if (auto* etcd = x.first.peer == peer_kind::coordinator ? beside(all, x) : nullptr)
      row["to_etcd"] = {{"per_second", x.per_second / etcd->per_second},
                        {"p50", x.p50_ms / etcd->p50_ms},
                        {"p99", x.p99_ms / etcd->p99_ms},
                        {"resident", x.resident_mb / etcd->resident_mb}};
    results.push_back(std::move(row));
  }
  return {{"date", today()}, {"machine", machine()}, {"command", command}, {"results", results}};
}

std::string to_tables(const std::vector<summary>& all) {
  auto others = other_rows(all);
  return rate_rows(all) + (others.empty() ? "" : "\n" + others);
}

void draw(const std::vector<summary>& all, const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::set<std::string> workloads;
  for (auto& x : all)
    if (x.per_second > 0 && x.runs.size() > 0)
      workloads.insert(x.first.workload);
  for (auto& each : workloads)
    plot(all, each, directory / ("bench-" + each + ".svg"));
}

}  // namespace coordinator::bench
