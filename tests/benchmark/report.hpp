#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/benchmark/measure.hpp"

namespace coordinator::bench {

/// The runs of one workload at one size, with the medians of what they measured.
struct summary {
  measurement first;  ///< Says what was measured.
  std::vector<measurement> runs;
  double per_second = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double resident_mb = 0;
  double cpu_percent = 0;
};

/// In the order in which they were first measured.
std::vector<summary> summarize(const std::vector<measurement>& all);

/// The same work against etcd; none if it was not measured.
const summary* beside(const std::vector<summary>& all, const summary& ours);

double median(std::vector<double> values);

/// For programs: machine, date, command, and of each summary the medians, each run, and the ratios to etcd.
nlohmann::json to_json(const std::vector<summary>& all, const std::string& command);

/// For people: Markdown tables, one of rates and one for each workload that has other figures.
std::string to_tables(const std::vector<summary>& all);

/// Rates and latencies over the number of clients as SVG, one file a workload; drawn by gnuplot. Throws
/// std::runtime_error if that cannot be run.
void draw(const std::vector<summary>& all, const std::filesystem::path& directory);

}  // namespace coordinator::bench
