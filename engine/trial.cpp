#include "engine/trial.h"

#include "engine/session.h"
#include "engine/tuned_tiles.h"
#include "graph/functions.h"
#include "shaders/cache_file.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

namespace surtsey::engine {
namespace {

constexpr shaders::CacheKind kTrialFile{.magic = 0x52565253, .format = 1, .max_payload = 64u << 10};  // "SRVR"

// What else the first kernels use that is optional and has been the end of drivers, likeliest first.
constexpr const char* kSuspects[] = {"int64_words", "cooperative_matrix", "buffer_address"};

bool contains(const std::vector<std::string>& list, const std::string& one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}

std::string joined(const std::vector<std::string>& list, const char* between) {
  std::string text;
  for (const std::string& one : list) text += (text.empty() ? "" : between) + one;
  return text;
}

std::string identity_of(const DeviceInfo& info) {
  const bool address = info.target.addressing == graph::Addressing::address;
  return fmt::format("{}\n{}\n{}", tile_identity(info), address ? "address" : "descriptor", joined(info.features, ","));
}

}  // namespace

Trial survive(const DeviceInfo& info, const std::function<ChildResult(const std::vector<std::string>&)>& attempt) {
  Trial trial;
  std::string death, step;
  for (;;) {
    const ChildResult result = attempt(trial.without);
    if (result.death.empty()) break;
    if (death.empty()) {
      death = result.death;
      step = result.progress.empty() ? "being opened" : result.progress;
    }
    std::vector<std::string> suspects(std::begin(kSuspects), std::end(kSuspects));
    if (result.progress == kCheckingMatrices) suspects = {"cooperative_matrix"};
    const auto next = std::find_if(suspects.begin(), suspects.end(), [&](const std::string& row) {
      return contains(info.features, row) && !contains(trial.without, row);
    });
    if (next == suspects.end())
      throw DeviceError(
          "", "", "", "",
          fmt::format("the driver of {} ({}) ends its process ({}) while {}, whatever it does without. Use "
                      "another device (SURTSEY_DEVICE; `surtsey devices` lists them) or another version of "
                      "the driver",
                      info.name, info.driver, death, step));
    trial.without.push_back(*next);
  }
  if (!trial.without.empty())
    trial.told = fmt::format(
        "the driver of {} ({}) ends its process ({}) while {}; without {} it does not, so it is used "
        "without from now on",
        info.name, info.driver, death, step, joined(trial.without, ", "));
  return trial;
}

std::string trial_file(const std::string& directory, const DeviceInfo& info) {
  return fmt::format("{}/trial-{:016x}.bin", directory, shaders::hash64(identity_of(info)));
}

std::optional<Trial> kept_trial(const std::string& directory, const DeviceInfo& info) {
  std::vector<std::byte> payload;
  const std::string identity = identity_of(info);
  if (directory.empty() || shaders::load_cache_file(trial_file(directory, info), kTrialFile,
                                                    shaders::bytes_of(identity), payload) != shaders::CacheState::good)
    return std::nullopt;
  Trial trial;
  std::istringstream lines(std::string(reinterpret_cast<const char*>(payload.data()), payload.size()));
  std::getline(lines, trial.told);
  for (std::string row; std::getline(lines, row);) trial.without.push_back(row);
  return trial;
}

void keep_trial(const std::string& directory, const DeviceInfo& info, const Trial& trial) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  std::string text = trial.told + "\n";
  for (const std::string& row : trial.without) text += row + "\n";
  shaders::store_cache_file(trial_file(directory, info), kTrialFile, shaders::bytes_of(identity_of(info)),
                            shaders::bytes_of(text));
}

void run_first_kernels(Device& device) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const graph::Value a = g.parameter("a", {graph::DType::f32, {48, 32}}),
                     b = g.parameter("b", {graph::DType::f32, {32, 64}});
  const graph::Value product = graph::gelu_erf(graph::matmul(a, b)) * 0.5;
  program.outputs = {{"product", product}, {"rows", graph::sum(product * product, {1}, false)}};
  // In one segment: no timestamps are waited for.
  Session session(device, {.cache = std::string(), .segment_dispatches = 64, .quiet = true});
  const SessionProgram first = session.add_program("first", program);
  session.allocate();
  first.run();
}

}  // namespace surtsey::engine
