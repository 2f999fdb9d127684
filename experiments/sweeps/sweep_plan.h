// What a sweep consists of: cells from keys, packs from cells, and what each pack costs. The packs of a study
// (study/shards.h) have specifications of their own, with their study and cells in it.
#pragma once

#include <memory>

#include "experiments/base/json.h"
#include "experiments/sweeps/pack.h"

namespace surtsey::experiments {

// The keys of SWEEP.toml. Cells are the cross product of tasks, lengths, widths, seeds and learning
// rates; those that differ in seed or learning rate only are packed.
struct SweepKeys {
  SweepOptions options;
  std::vector<std::string> tasks = {"chain"};
  std::vector<int32_t> lengths = {8};
  int32_t modulus = 10;
  std::vector<std::string> arms = {"cot", "direct"};
};
void add_sweep_keys(ConfigTable& table, SweepKeys& keys);
void check_sweep_keys(const SweepKeys& keys);

struct SweepPack {
  int64_t index = 0;
  std::string hash;
  HeldJson spec;
  PackCost cost;
  double expected_seconds = 0;  // of its training; 0: not measured
  // Packs whose cells choose its learning rate: they must be finished before it runs.
  std::vector<int64_t> waits_for = {};

  std::vector<std::string> cells() const;
};

// A pack that can run: the spec's task, experiment and members.
struct RunnablePack {
  explicit RunnablePack(const nlohmann::json& spec);
  RunnablePack(const RunnablePack&) = delete;
  RunnablePack& operator=(const RunnablePack&) = delete;

  std::unique_ptr<tasks::Task> data;
  SweepOptions options;
  Experiment experiment;
  std::vector<Member> members;
};

// 16 hexadecimal digits of a specification as it stands in a file.
std::string spec_hash(const nlohmann::json& spec);

// The packs of a configuration for a device, costed and numbered, the largest first.
std::vector<SweepPack> plan_packs(const SweepKeys& keys, const engine::DeviceInfo& device);

// Fills expected_seconds from steps of the largest and the smallest pack: a time a step that does
// not depend on size, and a rate in FLOP/s.
void measure_packs(std::vector<SweepPack>& packs, engine::Device& device);

}  // namespace surtsey::experiments
