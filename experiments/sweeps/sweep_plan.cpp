#include "experiments/sweeps/sweep_plan.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "experiments/sweeps/step_time.h"
#include "experiments/tasks/chain.h"
#include "experiments/tasks/parity.h"
#include "graph/error.h"
#include "shaders/cache_file.h"

namespace surtsey::experiments {
namespace {

using nlohmann::json;

const std::vector<std::string> kTasks = {"chain", "parity"};
constexpr int kSweepFormat = 1;  // of a specification; a change of what a key means raises it

std::unique_ptr<tasks::Task> make_task(const std::string& name, int32_t length, int32_t modulus,
                                       const std::vector<std::string>& arms) {
  if (name == "parity") return tasks::make_parity(length, arms, "lengths");
  check(name == "chain", "there is no task '{}' for sweeps", name);
  tasks::ChainOptions options;
  options.length = length;
  options.modulus = modulus;
  options.arms = arms;
  return std::make_unique<tasks::ChainTask>(options);
}

json spec_of(const SweepKeys& keys, const std::string& task, int32_t length, int32_t width,
             const std::vector<Member>& members) {
  const SweepOptions& options = keys.options;
  json list = json::array();
  for (const Member& member : members) {
    list.push_back({{"seed", member.seed}, {"learning_rate", member.learning_rate}});
  }
  return {{"format", kSweepFormat},
          {"task", task},
          {"length", length},
          {"modulus", keys.modulus},
          {"arms", keys.arms},
          {"n_layer", options.n_layer},
          {"n_embd", width},
          {"steps", options.steps},
          {"batch_size", options.batch_size},
          {"dtype", graph::name(parse_dtype(options.dtype))},
          {"members", list},
          {"test_items", options.test_items},
          {"test_seed", options.test_seed},
          {"validation_items", options.validation_items},
          {"selection_seed", options.selection_seed},
          {"evaluation_rows", options.evaluation_rows},
          {"log_interval", options.log_interval},
          {"checkpoint_interval", options.checkpoint_interval}};
}

}  // namespace

void add_sweep_keys(ConfigTable& table, SweepKeys& keys) {
  table.add("tasks", &keys.tasks, "what is learned").one_of(kTasks);
  table.add("lengths", &keys.lengths, "digits of a chain, bits of a parity").at_least(2).at_most(1000);
  table.add("modulus", &keys.modulus, "chain: running sums are taken modulo this").at_least(2).at_most(1000);
  table.add("arms", &keys.arms, "prompt kinds, each an equal share of the training")
      .one_of({"cot", "direct", "filler", "permuted"});
  add_sweep_fields(table, keys.options, false);
}

void check_sweep_keys(const SweepKeys& keys) {
  check_sweep_options(keys.options);
  check(!keys.tasks.empty(), "tasks is empty: there is nothing to train");
  check(!keys.lengths.empty(), "lengths is empty: there is nothing to train");
  const auto once = [](auto list, const char* name) {
    std::sort(list.begin(), list.end());
    check(std::adjacent_find(list.begin(), list.end()) == list.end(), "{}: a value is there twice", name);
  };
  once(keys.tasks, "tasks");
  once(keys.lengths, "lengths");
}

RunnablePack::RunnablePack(const json& spec) {
  try {
    check(spec.at("format").get<int>() == kSweepFormat, "the specification has format {}, this version runs {}",
          spec.at("format").dump(), kSweepFormat);
    data = make_task(spec.at("task"), spec.at("length"), spec.at("modulus"), spec.at("arms"));
    experiment.task = spec.at("task");
    experiment.variant = fmt::format("n{}", spec.at("length").get<int32_t>());
    experiment.width = spec.at("n_embd");
    experiment.n_layer = spec.at("n_layer");
    experiment.steps = spec.at("steps");
    experiment.batch_size = spec.at("batch_size");
    experiment.dtype = parse_dtype(spec.at("dtype").get<std::string>());
    options.test_items = spec.at("test_items");
    options.test_seed = spec.at("test_seed");
    options.validation_items = spec.at("validation_items");
    options.selection_seed = spec.at("selection_seed");
    options.evaluation_rows = spec.at("evaluation_rows");
    options.log_interval = spec.at("log_interval");
    options.checkpoint_interval = spec.at("checkpoint_interval");
    for (const json& member : spec.at("members")) {
      members.push_back({member.at("seed"), member.at("learning_rate")});
    }
  } catch (const json::exception& error) {
    throw UserError(fmt::format("a specification cannot be read: {}", error.what()));
  }
  check(!members.empty(), "a specification has no members");
  experiment.data = data.get();
  experiment.choose_rate = false;
}

std::vector<std::string> SweepPack::cells() const {
  if (spec->contains("cells")) return spec->at("cells").get<std::vector<std::string>>();
  const RunnablePack runnable(*spec);
  std::vector<std::string> names;
  for (const Member& member : runnable.members) {
    names.push_back(cell_name(runnable.experiment, member));
  }
  return names;
}

std::string spec_hash(const json& spec) { return shaders::hash_name(spec.dump()); }

std::vector<SweepPack> plan_packs(const SweepKeys& keys, const engine::DeviceInfo& device) {
  std::vector<SweepPack> packs;
  for (const std::string& task : keys.tasks) {
    for (const int32_t length : keys.lengths) {
      for (const int32_t width : keys.options.widths) {
        // The experiment with every member, then one pack after the other.
        RunnablePack whole(spec_of(keys, task, length, width, {Member{}}));
        whole.experiment.seeds = keys.options.seeds;
        whole.experiment.learning_rates = learning_rates(keys.options, width);
        for (const auto& members : pack_members(device, keys.options, whole.experiment)) {
          SweepPack& pack = packs.emplace_back();
          pack.spec = spec_of(keys, task, length, width, members);
          pack.hash = spec_hash(*pack.spec);
          pack.cost = pack_cost(device.target, whole.experiment, members);
        }
      }
    }
  }
  std::stable_sort(packs.begin(), packs.end(),
                   [](const SweepPack& a, const SweepPack& b) { return a.cost.flops > b.cost.flops; });
  for (size_t i = 0; i < packs.size(); ++i) packs[i].index = static_cast<int64_t>(i);
  return packs;
}

void measure_packs(std::vector<SweepPack>& packs, engine::Device& device) {
  if (packs.empty()) return;
  const auto measure = [&](const SweepPack& pack) {
    const RunnablePack runnable(*pack.spec);
    return StepMeasurement{pack.cost.flops / runnable.experiment.steps,
                           measure_step(device, runnable.experiment, runnable.members)};
  };
  const StepMeasurement large = measure(packs.front());
  const StepTime time = fit_step_time(packs.size() > 1 ? measure(packs.back()) : large, large);
  for (SweepPack& pack : packs) {
    pack.expected_seconds = time.seconds(pack.spec->at("steps").get<double>(), pack.cost.flops);
  }
}

}  // namespace surtsey::experiments
