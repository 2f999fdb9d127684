#include "experiments/sweeps/sweep_directory.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "experiments/base/interrupt.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/results/environment.h"
#include "experiments/sweeps/ensemble_run.h"
#include "graph/error.h"
#include "shaders/cache_file.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kPlan = "plan.json";
constexpr const char* kPacksFolder = "packs";
constexpr const char* kRunsFolder = "runs";
constexpr const char* kFailed = "failed.json";
constexpr const char* kHashFact = "pack";
constexpr const char* kSecondsFact = "seconds";

json read_json(const fs::path& path) {
  const json object = json::parse(read_file(path), nullptr, false);
  check(object.is_object(), "'{}' is not a JSON object", path.string());
  return object;
}

std::string number(int64_t index) { return fmt::format("{:03}", index); }

std::string plan_hash(const std::vector<SweepPack>& packs) {
  std::string all;
  for (const SweepPack& pack : packs) all += pack.hash + "\n";
  return shaders::hash_name(all);
}

json pack_json(const SweepPack& pack) {
  return {{"index", pack.index},
          {"hash", pack.hash},
          {"spec", *pack.spec},
          {"waits_for", pack.waits_for},
          {"estimate",
           {{"parameters", pack.cost.parameters},
            {"flops", pack.cost.flops},
            {"bytes", pack.cost.bytes},
            {"seconds", pack.expected_seconds}}}};
}

SweepPack parse_pack(const fs::path& path) {
  const json saved = read_json(path);
  SweepPack pack;
  try {
    pack.index = saved.at("index").get<int64_t>();
    pack.hash = saved.at("hash").get<std::string>();
    pack.spec = saved.at("spec");
    const json& estimate = saved.at("estimate");
    pack.cost = {estimate.at("parameters").get<int64_t>(), estimate.at("flops").get<double>(),
                 estimate.at("bytes").get<uint64_t>()};
    pack.expected_seconds = estimate.at("seconds").get<double>();
    pack.waits_for = saved.value("waits_for", std::vector<int64_t>());
  } catch (const json::exception& error) {
    throw UserError(fmt::format("{}: {}", path.string(), error.what()));
  }
  check(spec_hash(*pack.spec) == pack.hash,
        "{}: the specification was changed since it was planned; plan another directory", path.string());
  return pack;
}

// What failed.json says: a later failure, of a disk that is full by now say, must not hide what came first.
struct Failure {
  std::string first, last;
  int64_t count = 0;
};

// Of a file that is torn the cause is not known, which is no reason to know nothing of the other packs.
Failure read_failure(const fs::path& path) {
  const json saved = json::parse(read_file(path), nullptr, false);
  const auto text = [&](const char* key, const std::string& other) {
    return saved.is_object() && saved.contains(key) && saved[key].is_string() ? saved[key].get<std::string>() : other;
  };
  const std::string first = text("error", "unknown");
  const bool counted = saved.is_object() && saved.contains("failures") && saved["failures"].is_number_integer();
  return {first, text("last", first), counted ? saved["failures"].get<int64_t>() : 1};
}

// Never throws: what is thrown already is the cause.
void note_failure(const fs::path& path, const std::string& error) {
  try {
    Failure failure{error, error, 0};
    if (fs::exists(path)) failure = read_failure(path);
    const json saved = {{"error", failure.first}, {"last", error}, {"failures", failure.count + 1}};
    write_file_atomic(path, json_text(saved, 2) + "\n");
  } catch (const std::exception& problem) {
    fmt::print(stderr, "warning: {}\n", problem.what());
  }
}

PackResult run_spec(engine::Device& device, const json& spec, const fs::path& checkpoints) {
  const RunnablePack runnable(spec);
  return run_pack(device, {.options = runnable.options,
                           .experiment = runnable.experiment,
                           .members = runnable.members,
                           .folders = {checkpoints},
                           .resume = true});
}

std::string fact(const StudyResult& result, std::string_view key) {
  for (const auto& [name, value] : result.settings) {
    if (name == key) return value;
  }
  return "";
}

}  // namespace

std::string_view name(PackState state) {
  constexpr std::string_view kNames[] = {"waiting", "running", "stopped", "failed", "finished"};
  return kNames[static_cast<size_t>(state)];
}

SweepDirectory SweepDirectory::create(const fs::path& path, const std::string& toml,
                                      const std::vector<SweepPack>& packs, const PlannedStudy& study) {
  const std::string hash = plan_hash(packs);
  if (fs::exists(path / kPlan)) {
    check(read_json(path / kPlan).value("hash", "") == hash, "'{}' holds another plan: choose another directory",
          path.string());
    return open(path);
  }
  std::error_code error;
  fs::create_directories(path / kPacksFolder, error);
  check(!error, "cannot create '{}': {}", (path / kPacksFolder).string(), error.message());
  write_file_atomic(config(path), toml);
  for (const SweepPack& pack : packs) {
    write_file_atomic(path / kPacksFolder / (number(pack.index) + ".json"), json_text(pack_json(pack), 2) + "\n");
  }
  json plan = {{"packs", packs.size()}, {"hash", hash}};
  if (!study.name.empty()) plan.update({{"study", study.name}, {"scale", study.scale}});
  write_file_atomic(path / kPlan, plan.dump(2) + "\n");
  return open(path);
}

SweepDirectory SweepDirectory::open(const fs::path& path) {
  check(fs::exists(path / kPlan), "'{}' holds no plan: make one with `surtsey sweep plan`", path.string());
  const json plan = read_json(path / kPlan);
  SweepDirectory directory(fs::absolute(path));
  directory.study_ = {plan.value("study", ""), plan.value("scale", "")};
  for (int64_t i = 0; i < plan.value("packs", int64_t{0}); ++i) {
    directory.packs_.push_back(parse_pack(path / kPacksFolder / (number(i) + ".json")));
    check(directory.packs_.back().index == i, "{}: pack {} stands in the place of pack {}", path.string(),
          directory.packs_.back().index, i);
  }
  check(plan_hash(directory.packs_) == plan.value("hash", ""), "'{}': the packs are not those that were planned",
        path.string());
  return directory;
}

void SweepDirectory::forget(const fs::path& path) {
  if (!fs::exists(path)) return;
  const FolderLock lock = FolderLock::take(path);
  if (!fs::exists(path / kPlan)) return;
  std::vector<FolderLock> held;
  if (fs::exists(path / kRunsFolder))
    for (const fs::directory_entry& run : fs::directory_iterator(path / kRunsFolder))
      held.push_back(FolderLock::take(run));
  // The plan first: without it the rest is not taken for one, wherever this ends.
  for (const fs::path& part : {path / kPlan, config(path), path / kPacksFolder, path / kRunsFolder}) {
    std::error_code error;
    fs::remove_all(part, error);
    check(!error, "'{}' cannot be removed: {}", part.string(), error.message());
  }
}

const SweepPack& SweepDirectory::pack(int64_t index) const {
  check(0 <= index && index < static_cast<int64_t>(packs_.size()), "there is no pack {}: '{}' has {}, numbered from 0",
        index, path_.string(), packs_.size());
  return packs_[static_cast<size_t>(index)];
}

fs::path SweepDirectory::run_path(const SweepPack& pack) const { return path_ / kRunsFolder / number(pack.index); }

std::optional<FolderLock> SweepDirectory::lock(const SweepPack& pack) const {
  // A pack has one owner, in one process too.
  if (FolderLock::is_held(run_path(pack))) return {};
  return FolderLock::try_take(run_path(pack));
}

bool SweepDirectory::locked(const SweepPack& pack) const { return FolderLock::is_held(run_path(pack)); }

std::optional<StudyResult> SweepDirectory::result(const SweepPack& pack) const {
  const fs::path path = run_path(pack) / kResultFile;
  if (!fs::exists(path)) return {};
  StudyResult result;
  try {
    result = load_result(path);
  } catch (const UserError& error) {
    if (warned_.insert(pack.index).second)
      fmt::print(stderr, "warning: pack {} counts as not done and is run again, its result cannot be read: {}\n",
                 pack.index, error.what());
    return {};
  }
  check(fact(result, kHashFact) == pack.hash, "{}: is the result of another specification", path.string());
  return result;
}

std::string SweepDirectory::failure(const SweepPack& pack) const {
  const fs::path path = run_path(pack) / kFailed;
  if (!fs::exists(path)) return "";
  const Failure failure = read_failure(path);
  if (failure.last == failure.first) return failure.first;
  return fmt::format("{} (the last of {} times: {})", failure.first, failure.count, failure.last);
}

PackState SweepDirectory::state(const SweepPack& pack) const {
  const fs::path run = run_path(pack);
  if (result(pack)) return PackState::kFinished;
  if (locked(pack)) return PackState::kRunning;
  if (fs::exists(run / kFailed)) return PackState::kFailed;
  return fs::exists(run / "checkpoints") ? PackState::kStopped : PackState::kWaiting;
}

void SweepDirectory::run(const SweepPack& pack, engine::Device& device, const std::vector<std::string>& command,
                         const Work& work) {
  const fs::path run = run_path(pack), checkpoints = run / "checkpoints";
  std::error_code error;
  const auto start = std::chrono::steady_clock::now();
  try {
    // Lines of a run that was killed before its result: the pack says them again.
    RunDirectory directory(run, RunDirectory::Mode::kReplace);
    directory.write_environment(describe_environment(device.info(), command));
    const PackResult found = work ? work(checkpoints) : run_spec(device, *pack.spec, checkpoints);
    for (const MetricLine& line : found.metrics) directory.append(line);
    for (const SampleLine& line : found.samples) directory.append(line);
    StudyResult result;
    result.study = "sweep";
    result.scale = "pack " + number(pack.index);
    result.device = device_facts(device.info());
    result.cells = found.cells;
    double seconds = 0;
    for (const Cell& cell : found.cells) seconds += cell.train_seconds;
    // Compiling and evaluating count; training may have begun in an earlier process.
    const auto now = std::chrono::steady_clock::now();
    seconds = std::max(seconds, std::chrono::duration<double>(now - start).count());
    result.settings = {{kHashFact, pack.hash}, {kSecondsFact, fmt::format("{:.3f}", seconds)}};
    directory.write_result(result);
    fs::remove(run / kFailed, error);
    fs::remove_all(checkpoints, error);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& problem) {
    note_failure(run / kFailed, problem.what());
    throw;
  }
}

std::optional<double> SweepDirectory::seconds_left() const {
  // Without a measurement FLOPs stand for seconds.
  double done = 0, took = 0, left = 0;
  bool measured = true;
  for (const SweepPack& pack : packs_) measured = measured && pack.expected_seconds > 0;
  for (const SweepPack& pack : packs_) {
    const double expected = measured ? pack.expected_seconds : pack.cost.flops;
    if (const auto finished = result(pack)) {
      done += expected;
      took += std::strtod(fact(*finished, kSecondsFact).c_str(), nullptr);
    } else {
      left += expected;
    }
  }
  if (left == 0) return 0;
  if (done > 0) return left * took / done;
  if (measured) return left;
  return {};
}

StudyResult SweepDirectory::collect() const {
  StudyResult all;
  all.study = "sweep";
  all.scale = "sweep";
  all.title = path_.filename().string();
  for (const SweepPack& pack : packs_) {
    const auto finished = result(pack);
    if (!finished) continue;
    if (all.device.empty()) all.device = finished->device;
    all.cells.insert(all.cells.end(), finished->cells.begin(), finished->cells.end());
  }
  return all;
}

namespace {

using CollectedRow = std::vector<std::pair<const char*, nlohmann::ordered_json>>;

std::vector<CollectedRow> table_rows(const StudyResult& result) {
  std::vector<CollectedRow> rows;
  for (const Cell& cell : result.cells) {
    for (const ArmResult& arm : cell.arms) {
      rows.push_back({{"cell", cell.cell},
                      {"task", cell.task},
                      {"n_layer", cell.n_layer},
                      {"n_embd", cell.n_embd},
                      {"parameters", cell.parameters},
                      {"seed", cell.seed},
                      {"learning_rate", cell.learning_rate},
                      {"steps", cell.steps},
                      {"tokens", cell.tokens},
                      {"flops", cell.flops},
                      {"validation_loss", cell.validation_loss.value_or(std::nan(""))},
                      {"arm", arm.arm},
                      {"n", arm.n},
                      {"exact_match", arm.exact_match},
                      {"chain_exact_match", arm.chain_exact_match},
                      {"ci95_low", arm.ci95.low},
                      {"ci95_high", arm.ci95.high},
                      {"loss_per_token", arm.loss_per_token},
                      {"loss_per_token_stderr", arm.loss_stderr},
                      {"chance", cell.chance}});
    }
  }
  return rows;
}

}  // namespace

std::string sweep_table_csv(const StudyResult& result) {
  std::string text;
  for (const CollectedRow& row : table_rows(result)) {
    std::vector<std::string> names, values;
    for (const auto& [name, value] : row) {
      names.push_back(name);
      values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
    }
    if (text.empty()) text = join(names, ",") + "\n";
    text += join(values, ",") + "\n";
  }
  return text;
}

std::string sweep_table_jsonl(const StudyResult& result) {
  std::string text;
  for (const CollectedRow& row : table_rows(result)) {
    nlohmann::ordered_json line;
    for (const auto& [name, value] : row) line[name] = value;
    text += json_text(line) + "\n";
  }
  return text;
}

}  // namespace surtsey::experiments
