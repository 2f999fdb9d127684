#include "experiments/commands/sweep.h"

#include "experiments/commands/study_program.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>

#include "experiments/base/json_text.h"
#include "experiments/results/record.h"
#include "experiments/sweeps/sweep_directory.h"
#include "experiments/train/options.h"
#include "graph/error.h"

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

std::string waiting_time(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string mebibytes(uint64_t bytes) { return fmt::format("{:.1f} MiB", double(bytes) / (1 << 20)); }

void print_plan(const std::vector<SweepPack>& packs) {
  double flops = 0, seconds = 0;
  uint64_t most = 0;
  size_t cells = 0;
  fmt::print("pack  hash              models  parameters     GFLOP       memory  expected  cells\n");
  for (const SweepPack& pack : packs) {
    const std::vector<std::string> names = pack.cells();
    fmt::print("{:4}  {}  {:6}  {:10}  {:8.2f}  {:>11}  {:>8}  {}{}\n", pack.index, pack.hash, names.size(),
               pack.cost.parameters, pack.cost.flops / 1e9, mebibytes(pack.cost.bytes),
               pack.expected_seconds > 0 ? waiting_time(pack.expected_seconds) : "?", names.front(),
               names.size() > 1 ? fmt::format(" .. {}", names.back()) : "");
    flops += pack.cost.flops;
    seconds += pack.expected_seconds;
    most = std::max(most, pack.cost.bytes);
    cells += names.size();
  }
  fmt::print("{} cells in {} packs: {:.4g} TFLOP, at most {} at once{}\n", cells, packs.size(), flops / 1e12,
             mebibytes(most),
             seconds > 0 ? fmt::format(", about {} of training on one device", waiting_time(seconds)) : "");
}

}  // namespace

void sweep_plan(const SweepPlanOptions& options) {
  check(!options.directory.empty(), "--out: say where the sweep's directory is to be");
  if (!options.study.empty()) {
    names_a_study(options.study);
    std::vector<std::string> words = {"shard", "--out", options.directory, "--scale", options.scale};
    if (!options.file.empty()) words.insert(words.end(), {"--config", options.file});
    if (!options.device.empty()) words.insert(words.end(), {"--device", options.device});
    if (!options.measure) words.push_back("--no-timing");
    words.insert(words.end(), options.keys.begin(), options.keys.end());
    run_study_program(options.study, std::move(words));
  }
  SweepKeys keys;
  ConfigTable table;
  add_sweep_keys(table, keys);
  if (!options.file.empty()) table.load_file(options.file);
  table.override_all(options.keys);
  check_sweep_keys(keys);
  engine::Device device =
      engine::Device::open({.select = options.device, .f16 = parse_dtype(keys.options.dtype) == graph::DType::f16});
  std::vector<SweepPack> packs = plan_packs(keys, device.info());
  const bool planned = fs::exists(fs::path(options.directory) / "plan.json");
  if (options.measure && !planned) measure_packs(packs, device);
  const SweepDirectory directory = SweepDirectory::create(options.directory, table.to_toml(), packs);
  print_plan(directory.packs());
  if (planned) fmt::print(stderr, "{} was planned before, just so\n", options.directory);
}

std::string sweep_help() {
  SweepKeys keys;
  ConfigTable table;
  add_sweep_keys(table, keys);
  return "Keys, in SWEEP.toml or as --key=value:\n" + table.help();
}

void sweep_status(const SweepStatusOptions& options) {
  const SweepDirectory directory = SweepDirectory::open(options.directory);
  const std::optional<double> left = directory.seconds_left();
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const SweepPack& pack : directory.packs()) {
      list.push_back({{"index", pack.index},
                      {"hash", pack.hash},
                      {"state", name(directory.state(pack))},
                      {"cells", pack.cells()},
                      {"error", directory.failure(pack)}});
    }
    const nlohmann::ordered_json status = {{"packs", list},
                                           {"seconds_left", left ? nlohmann::ordered_json(*left) : nullptr}};
    fmt::print("{}\n", json_text(status, 2));
    return;
  }
  size_t finished = 0;
  for (const SweepPack& pack : directory.packs()) {
    const PackState state = directory.state(pack);
    finished += state == PackState::kFinished ? 1 : 0;
    const std::string why = state == PackState::kFailed ? ": " + directory.failure(pack) : "";
    fmt::print("{:4}  {:8}  {}{}\n", pack.index, name(state), pack.cells().front(), why);
  }
  fmt::print("{} of {} packs are finished{}\n", finished, directory.packs().size(),
             left && *left > 0 ? fmt::format(", about {} of training left on one device", waiting_time(*left)) : "");
}

void sweep_collect(const std::string& path) {
  const SweepDirectory directory = SweepDirectory::open(path);
  if (!directory.study().name.empty()) run_study_program(directory.study().name, {"collect", "--out", path});
  const StudyResult all = directory.collect();
  const std::string table = sweep_table_csv(all);
  write_file_atomic(directory.path() / "table.csv", table);
  write_file_atomic(directory.path() / "table.jsonl", sweep_table_jsonl(all));
  write_file_atomic(directory.path() / kResultFile, to_json(all));
  fmt::print("{}", table);
  size_t cells = 0;
  for (const SweepPack& pack : directory.packs()) cells += pack.cells().size();
  fmt::print(stderr, "{} of {} cells are finished\n", all.cells.size(), cells);
}

}  // namespace surtsey::experiments::commands
