#include "experiments/results/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/json_text.h"
#include "experiments/results/environment.h"
#include "experiments/results/metrics_export.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Calls function(line, number) for each complete line.
template <class Function>
void for_each_line(std::string_view text, Function function) {
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return;
    function(text.substr(0, end), number);
    text.remove_prefix(end + 1);
  }
}

constexpr const char* kMetrics = "metrics.jsonl";

}  // namespace

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string to_json_line(const MetricLine& metric) {
  Json json = {{"cell", metric.cell}, {"step", metric.step}, {"tokens", metric.tokens}};
  for (const auto& [name, value] : metric.values) json[name] = value;
  if (metric.time > 0) json["time"] = std::round(metric.time * 1000) / 1000;
  return json_text(json);
}

MetricLine parse_metric(std::string_view line, std::string_view source) {
  MetricLine metric;
  metric.time = 0;
  try {
    const Json json = Json::parse(line);
    for (const auto& [name, value] : json.items()) {
      if (name == "cell") {
        metric.cell = value.get<std::string>();
      } else if (name == "step") {
        metric.step = value.get<int64_t>();
      } else if (name == "tokens") {
        metric.tokens = value.get<int64_t>();
      } else if (name == "time") {
        metric.time = value.get<double>();
      } else if (value.is_number()) {
        metric.values.emplace_back(name, value.get<double>());
      } else if (value.is_null()) {
        // JSON has no word for what is not finite.
        metric.values.emplace_back(name, std::nan(""));
      }
    }
  } catch (const Json::exception& error) {
    throw UserError(fmt::format("{}: {}", source, error.what()));
  }
  return metric;
}

std::vector<MetricLine> load_metrics(const fs::path& path) {
  std::vector<MetricLine> metrics;
  const std::string text = read_file_if_exists(path).value_or("");
  for_each_line(text, [&](std::string_view line, size_t number) {
    try {
      metrics.push_back(parse_metric(line, fmt::format("{}:{}", path.string(), number)));
    } catch (const UserError& error) {
      fmt::print(stderr, "warning: a line that is no metric is left out: {}\n", error.what());
    }
  });
  return metrics;
}

void forget_metrics_after(const std::filesystem::path& folder, int64_t step, int64_t asked,
                          std::string_view evaluation) {
  const std::filesystem::path path = folder / "metrics.jsonl";
  if (!std::filesystem::exists(path)) return;
  std::string kept;
  for (const MetricLine& line : load_metrics(path)) {
    const bool evaluates = std::any_of(line.values.begin(), line.values.end(),
                                       [&](const auto& value) { return value.first == evaluation; });
    if (line.step <= (evaluates ? asked : step)) kept += to_json_line(line) + "\n";
  }
  write_file_atomic(path, kept);
}

namespace {

fs::path named(fs::path directory) {
  check(!directory.empty(), "[record] the output directory has no name");
  return directory;
}

}  // namespace

RunDirectory::RunDirectory(fs::path directory, Mode mode)
    : directory_(named(std::move(directory))), lock_(FolderLock::take(directory_)) {
  remove_unfinished(directory_);
  const fs::path probe = directory_ / (std::string(kUnfinished) + "writable");
  write_file_synced(probe, "1");
  std::error_code error;
  fs::remove(probe, error);

  if (mode == Mode::kResume) return;
  for (const char* name : {kResultFile, kMetrics, kSamplesFile}) {
    if (!fs::exists(directory_ / name)) continue;
    check(mode == Mode::kReplace, "[record] '{}' already holds a run ({}): resume it, or choose another directory",
          directory_.string(), name);
    check(fs::remove(directory_ / name, error), "'{}' cannot be removed: {}", (directory_ / name).string(),
          error.message());
  }
}

RunDirectory::~RunDirectory() {
  try {
    flush();
  } catch (const std::exception& error) {
    note_lost_output(error.what());
  }
}

void RunDirectory::write_config(std::string_view toml) { write_file_atomic(directory_ / "config.toml", toml); }

void RunDirectory::write_environment(const Environment& environment) {
  experiments::write_environment(directory_, environment);
}

void RunDirectory::append(const MetricLine& metric) { metrics_ += experiments::to_json_line(metric) + "\n"; }

void RunDirectory::append(const SampleLine& sample) { samples_ += experiments::to_json_line(sample) + "\n"; }

void RunDirectory::flush() {
  for (const auto& [name, lines] : {std::pair{kMetrics, &metrics_}, {kSamplesFile, &samples_}}) {
    if (lines->empty()) continue;
    append_file_synced(directory_ / name, *lines);
    lines->clear();
  }
}

void RunDirectory::keep_only(const std::vector<std::string>& cells) {
  flush();
  for (const char* name : {kMetrics, kSamplesFile}) {
    const fs::path path = directory_ / name;
    const std::optional<std::string> content = read_file_if_exists(path);
    if (!content) continue;
    const std::string& text = *content;
    std::string kept;
    for_each_line(text, [&](std::string_view line, size_t) {
      const Json json = Json::parse(line, nullptr, false);
      if (!json.is_object() || !json.contains("cell") || !json["cell"].is_string()) return;
      const auto cell = json["cell"].get<std::string>();
      if (std::find(cells.begin(), cells.end(), cell) == cells.end()) return;
      kept.append(line);
      kept += '\n';
    });
    if (kept != text) write_file_atomic(path, kept);
  }
}

void RunDirectory::write_result(const StudyResult& result) {
  flush();
  export_metrics(directory_);
  write_file_atomic(directory_ / kResultFile, to_json(result));
}

}  // namespace surtsey::experiments
