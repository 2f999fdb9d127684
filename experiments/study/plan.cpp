#include "experiments/study/plan.h"

#include <algorithm>
#include <map>

#include "experiments/base/progress.h"
#include "experiments/sweeps/step_time.h"

namespace surtsey::experiments {
namespace {

// The largest step that is worth measuring for a plan: about a second.
constexpr double kCpuStepFlops = 20e9;
constexpr double kGpuStepFlops = 2e12;
constexpr int64_t kMostSteps = 16;
constexpr int64_t kLeastSteps = 3;

// Which pack of the scouted ones stands for small and which for large steps.
struct Yardsticks {
  std::optional<size_t> small, large;
};

double step_flops(const PackPlan& pack) {
  return pack.steps == 0 ? 0 : pack.cost.flops / static_cast<double>(pack.steps);
}

double most_step_flops(const engine::DeviceInfo& device) { return device.target.cpu ? kCpuStepFlops : kGpuStepFlops; }

Yardsticks choose(const std::vector<PackPlan>& packs, const engine::DeviceInfo& device) {
  Yardsticks chosen;
  for (size_t i = 0; i < packs.size(); ++i) {
    const double flops = step_flops(packs[i]);
    const double room = kMemoryShare * static_cast<double>(device.memory_bytes);
    if (flops == 0 || flops > most_step_flops(device) || static_cast<double>(packs[i].cost.bytes) > room) continue;
    if (!chosen.small || flops < step_flops(packs[*chosen.small])) chosen.small = i;
    if (!chosen.large || flops > step_flops(packs[*chosen.large])) chosen.large = i;
  }
  return chosen;
}

// Where every step is too large: one model and one sequence of the smallest, which gives a rate
// that a whole batch hardly falls below.
void expect_from_one_sequence(StudyPlan& plan, const std::vector<PlannedPack>& packs, engine::Device& device) {
  size_t smallest = 0;
  for (size_t i = 0; i < plan.packs.size(); ++i) {
    const double least = step_flops(plan.packs[smallest]), flops = step_flops(plan.packs[i]);
    if (flops > 0 && (least == 0 || flops < least)) smallest = i;
  }
  Experiment one = packs[smallest].experiment;
  one.batch_size = 1;
  const std::vector<Member> member = {packs[smallest].members.front()};
  StepMeasurement measured;
  measured.flops = pack_cost(device.info().target, one, member).flops / one.steps;
  if (measured.flops > most_step_flops(device.info())) {
    plan.timing = "no step of this study is small enough to be measured on this device";
    return;
  }
  measured.seconds = measure_step(device, one, member, kLeastSteps);
  const StepTime time = fit_step_time(measured, measured);
  for (PackPlan& pack : plan.packs) {
    pack.expected_seconds = time.seconds(static_cast<double>(pack.steps), pack.cost.flops);
  }
  plan.timing = fmt::format("measured one model of {} with one sequence ({:.3g} s a step)", plan.packs[smallest].cell,
                            measured.seconds);
}

void expect_times(StudyPlan& plan, const std::vector<PlannedPack>& packs, engine::Device& device) {
  const Yardsticks chosen = choose(plan.packs, device.info());
  if (!chosen.small) {
    if (plan.flops() > 0) {
      expect_from_one_sequence(plan, packs, device);
    } else {
      plan.timing = "nothing is trained";
    }
    return;
  }
  const auto measure = [&](size_t at) {
    const double flops = step_flops(plan.packs[at]);
    const auto steps =
        std::clamp(static_cast<int64_t>(2 * most_step_flops(device.info()) / flops), kLeastSteps, kMostSteps);
    return StepMeasurement{flops, measure_step(device, packs[at].experiment, packs[at].members, steps)};
  };
  const StepMeasurement small = measure(*chosen.small);
  const StepMeasurement large = *chosen.large == *chosen.small ? small : measure(*chosen.large);
  const StepTime time = fit_step_time(small, large);
  for (PackPlan& pack : plan.packs) {
    pack.expected_seconds = time.seconds(static_cast<double>(pack.steps), pack.cost.flops);
  }
  plan.timing = fmt::format("measured {} ({:.3g} s a step)", plan.packs[*chosen.large].cell, large.seconds);
  if (*chosen.small != *chosen.large) {
    plan.timing += fmt::format(" and {} ({:.3g} s a step)", plan.packs[*chosen.small].cell, small.seconds);
  }
}

// Packs of one key cost the same: they differ in seeds and learning rates only, and compiling them
// all is what would take time.
std::string cost_key(const Experiment& experiment, const std::vector<Member>& members) {
  const tasks::Task* data = experiment.data.get();
  std::string key = fmt::format("{} {} d{} L{} B{} x{} {} {} of {} {}", experiment.task,
                                data == nullptr ? experiment.variant : "", experiment.width, experiment.n_layer,
                                experiment.batch_size, experiment.steps, static_cast<int>(experiment.dtype),
                                members.size(), distinct_seeds(members).size(), experiment.trained != nullptr);
  if (data != nullptr) key += fmt::format(" V{} T{}", data->vocab_size(), data->block_size());
  if (experiment.model) key += json_text(*experiment.model);
  return key;
}

std::string gigaflops(double flops) { return fmt::format("{:.2f}", flops / 1e9); }

}  // namespace

double StudyPlan::flops() const {
  double sum = 0;
  for (const PackPlan& pack : packs) sum += pack.cost.flops;
  return sum;
}

double StudyPlan::seconds() const {
  double sum = 0;
  for (const PackPlan& pack : packs) sum += pack.expected_seconds;
  return sum;
}

int64_t StudyPlan::cells() const {
  size_t sum = 0;
  for (const PackPlan& pack : packs) sum += pack.models;
  return static_cast<int64_t>(sum);
}

uint64_t StudyPlan::most_bytes() const {
  uint64_t most = 0;
  for (const PackPlan& pack : packs) most = std::max(most, pack.cost.bytes);
  return most;
}

std::vector<PlannedPack> packs_of(const Study& study, const engine::DeviceInfo& device,
                                  std::vector<std::string>* left_out) {
  return packs_of(study.experiments(), *study.options, device, left_out);
}

std::vector<PackCost> costs_of(const std::vector<PlannedPack>& packs, const graph::Target& target) {
  std::map<std::string, PackCost> known;
  std::vector<PackCost> costs;
  for (const PlannedPack& pack : packs) {
    const auto [at, fresh] = known.try_emplace(cost_key(pack.experiment, pack.members));
    if (fresh && pack.counts()) at->second = pack_cost(target, pack.experiment, pack.members);
    costs.push_back(at->second);
  }
  return costs;
}

StudyPlan plan_study(const Study& study, engine::Device& device, bool timing) {
  StudyPlan plan;
  std::vector<PlannedPack> packs = packs_of(study, device.info(), &plan.left_out);
  std::erase_if(packs, [](const PlannedPack& pack) { return !pack.counts(); });
  const std::vector<PackCost> costs = costs_of(packs, device.info().target);
  for (size_t i = 0; i < packs.size(); ++i) {
    const PlannedPack& pack = packs[i];
    plan.packs.push_back({pack.name(), pack.members.size(), pack.selecting, pack.experiment.steps, costs[i]});
  }
  if (timing) {
    expect_times(plan, packs, device);
  } else {
    plan.timing = "no step was measured";
  }
  return plan;
}

std::string plan_text(const StudyPlan& plan, const engine::DeviceInfo& device) {
  std::string text = fmt::format("{:>6}  {:>10}  {:>7}  {:>12}  {:>9}  {:>11}  {}\n", "models", "parameters", "steps",
                                 "GFLOP", "MiB", "expected", "first cell");
  const bool timed = plan.seconds() > 0;
  for (const PackPlan& pack : plan.packs) {
    text += fmt::format("{:6}  {:10}  {:7}  {:>12}  {:9.1f}  {:>11}  {}{}\n", pack.models, pack.cost.parameters,
                        pack.steps, gigaflops(pack.cost.flops), static_cast<double>(pack.cost.bytes) / (1 << 20),
                        timed ? format_duration(pack.expected_seconds) : "?", pack.cell,
                        pack.selecting ? " (chooses the learning rate)" : "");
  }
  for (const std::string& one : plan.left_out) text += fmt::format("left out: {}\n", one);
  double selection = 0;
  for (const PackPlan& pack : plan.packs) selection += pack.selecting ? pack.cost.flops : 0;
  text += fmt::format(
      "{} models in {} packs: {:.4g} TFLOP of training ({:.4g} to choose learning rates), at most "
      "{:.1f} MiB at once\n",
      plan.cells(), plan.packs.size(), plan.flops() / 1e12, selection / 1e12,
      static_cast<double>(plan.most_bytes()) / (1 << 20));
  text += fmt::format("{}: {}{}\n", device.name,
                      timed ? fmt::format("about {} of training, ", format_duration(plan.seconds())) : "", plan.timing);
  return text;
}

}  // namespace surtsey::experiments
