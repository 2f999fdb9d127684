#include "experiments/results/record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "experiments/results/metrics_export.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

[[noreturn]] void fail(std::string_view what, const fs::path& path) {
  throw UserError(fmt::format("[record] cannot {} '{}': {}", what, path.string(), std::strerror(errno)));
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : path_(path), fd_(open(path.c_str(), flags, 0644)) {
    if (fd_ < 0) fail("write", path);
  }
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  void write_all(std::string_view content) {
    while (!content.empty()) {
      const ssize_t written = ::write(fd_, content.data(), content.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail("write", path_);
      content.remove_prefix(static_cast<size_t>(written));
    }
  }
  void sync() {
    // Some file systems cannot sync a directory; that is no loss of what was asked of them.
    if (fsync(fd_) != 0 && errno != EINVAL && errno != ENOTSUP) fail("sync", path_);
  }

 private:
  fs::path path_;
  int fd_;
};

void append_synced(const fs::path& path, std::string& lines) {
  if (lines.empty()) return;
  Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC);
  file.write_all(lines);
  file.sync();
  lines.clear();
}

std::string read_if_exists(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file.good()) text << file.rdbuf();
  return text.str();
}

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

Json facts_json(const Facts& facts) {
  Json json = Json::object();
  for (const auto& [name, value] : facts) json[name] = value;
  return json;
}

constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kSamples = "samples.jsonl";
constexpr const char* kResult = "result.json";

}  // namespace

void write_file_atomic(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".tmp";
  {
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
    file.write_all(content);
    file.sync();
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) fail("replace", path);
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  Descriptor(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC).sync();
}

std::string to_json_line(const MetricLine& metric) {
  Json json = {{"cell", metric.cell}, {"step", metric.step}, {"tokens", metric.tokens}};
  for (const auto& [name, value] : metric.values) json[name] = value;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

MetricLine parse_metric(std::string_view line, std::string_view source) {
  MetricLine metric;
  try {
    const Json json = Json::parse(line);
    for (const auto& [name, value] : json.items()) {
      if (name == "cell") {
        metric.cell = value.get<std::string>();
      } else if (name == "step") {
        metric.step = value.get<int64_t>();
      } else if (name == "tokens") {
        metric.tokens = value.get<int64_t>();
      } else if (value.is_number()) {
        metric.values.emplace_back(name, value.get<double>());
      }
    }
  } catch (const Json::exception& error) {
    throw UserError(fmt::format("{}: {}", source, error.what()));
  }
  return metric;
}

std::vector<MetricLine> load_metrics(const fs::path& path) {
  std::vector<MetricLine> metrics;
  const std::string text = read_if_exists(path);
  for_each_line(text, [&](std::string_view line, size_t number) {
    metrics.push_back(parse_metric(line, fmt::format("{}:{}", path.string(), number)));
  });
  return metrics;
}

RunDirectory::RunDirectory(fs::path directory, Mode mode) : directory_(std::move(directory)) {
  check(!directory_.empty(), "[record] the output directory has no name");
  std::error_code error;
  fs::create_directories(directory_, error);
  check(!error, "[record] cannot create the output directory '{}': {}", directory_.string(), error.message());
  check(fs::is_directory(directory_), "[record] '{}' is not a directory", directory_.string());
  const fs::path probe = directory_ / ".writable";
  Descriptor(probe, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC).write_all("1");
  fs::remove(probe, error);

  if (mode == Mode::kResume) return;
  for (const char* name : {kResult, kMetrics, kSamples}) {
    if (!fs::exists(directory_ / name)) continue;
    check(mode == Mode::kReplace, "[record] '{}' already holds a run ({}): resume it, or choose another directory",
          directory_.string(), name);
    if (!fs::remove(directory_ / name, error)) fail("remove", directory_ / name);
  }
}

RunDirectory::~RunDirectory() {
  try {
    flush();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
  }
}

void RunDirectory::write_config(std::string_view toml) { write_file_atomic(directory_ / "config.toml", toml); }

void RunDirectory::write_environment(const Environment& environment) {
  const Json json = {{"device", facts_json(environment.device)},
                     {"host", facts_json(environment.host)},
                     {"versions", facts_json(environment.versions)},
                     {"commit", environment.commit},
                     {"command", environment.command}};
  write_file_atomic(directory_ / "env.json", json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void RunDirectory::append(const MetricLine& metric) { metrics_ += experiments::to_json_line(metric) + "\n"; }

void RunDirectory::append(const SampleLine& sample) { samples_ += experiments::to_json_line(sample) + "\n"; }

void RunDirectory::flush() {
  append_synced(directory_ / kMetrics, metrics_);
  append_synced(directory_ / kSamples, samples_);
}

void RunDirectory::keep_only(const std::vector<std::string>& cells) {
  flush();
  for (const char* name : {kMetrics, kSamples}) {
    const fs::path path = directory_ / name;
    if (!fs::exists(path)) continue;
    const std::string text = read_if_exists(path);
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
  write_file_atomic(directory_ / kResult, to_json(result));
}

}  // namespace surtsey::experiments
