// When does an ability appear as models grow? Accuracy and loss against size for two tasks that
// need as many dependent steps as they have symbols, both asked for the steps:
//
//   chain    running sums of `length` digits modulo 10
//   parity   running parities of `parity_bits` bits: the same with two symbols, and easier
//
// Accuracy can jump where nothing jumps underneath (Schaeffer et al. 2023): exact match is about
// the product of the step accuracies, so the loss per token and the accuracy by position stand
// beside it, and a claim asks whether the loss leaves its plateau where the accuracy does.
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/join.h"
#include "experiments/sweep.h"
#include "experiments/tasks/chain.h"
#include "experiments/tasks/parity.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kChain = "chain";
constexpr const char* kParity = "parity";
constexpr const char* kVariant = "cot";

// Claims share one error rate: each is judged at 1 - .05 / kClaims (Bonferroni).
constexpr int kClaims = 4;
constexpr double kConfidence = 1 - 0.05 / kClaims;
constexpr double kSolved = 0.95;
constexpr double kMargin = 0.10;    // above chance: not learned
constexpr double kLossRatio = 0.1;  // of the plateau: left it

struct Options {
  SweepOptions sweep;  // widths, steps and batch_size are the chain's
  int32_t length = 8;
  std::vector<int32_t> parity_widths;
  int32_t parity_bits = 12;
  int32_t parity_steps = 400;
  int32_t parity_batch_size = 128;
};

using Sizes = std::map<int64_t, std::vector<const Cell*>>;

Sizes sizes_of(const StudyResult& result, const char* task) {
  Sizes sizes;
  for (const Cell* cell : claim_cells(result, task, kVariant)) {
    sizes[cell->parameters].push_back(cell);
  }
  return sizes;
}

Interval interval_of(const Cell& cell) {
  const ArmResult* arm = cell.find_arm("cot");
  const auto hits = std::llround(arm->exact_match * static_cast<double>(arm->n));
  return clopper_pearson(hits, arm->n, kConfidence);
}

std::string seeds_text(const std::vector<const Cell*>& cells) {
  std::vector<std::string> parts;
  for (const Cell* cell : cells) {
    const ArmResult* arm = cell->find_arm("cot");
    parts.push_back(fmt::format("{:.3f} (loss {:.3g})", arm->exact_match, arm->loss_per_token));
  }
  return join(parts, ", ");
}

std::string table_text(const Sizes& sizes) {
  std::vector<std::string> parts;
  for (const auto& [parameters, cells] : sizes) {
    parts.push_back(fmt::format("{} parameters: {}", parameters, seeds_text(cells)));
  }
  return join(parts, "; ");
}

// The smallest size is at chance and the largest solves the task, in every seed.
Claim judge_emergence(const StudyResult& result, const char* task, const char* statement) {
  Claim claim{fmt::format("{}_emerges", task), statement};
  const Sizes sizes = sizes_of(result, task);
  std::vector<Verdict> verdicts;
  if (sizes.size() > 1) {
    for (const Cell* cell : sizes.begin()->second) {
      verdicts.push_back(at_chance(interval_of(*cell), cell->chance, kMargin));
    }
    for (const Cell* cell : sizes.rbegin()->second) {
      verdicts.push_back(at_least(interval_of(*cell), kSolved));
    }
  }
  claim.verdict = all_of(verdicts);
  claim.evidence = table_text(sizes);
  return claim;
}

// Every size that solves the task has left the loss of the smallest size by a factor of ten: the
// jump is not made by the metric alone.
Claim judge_loss(const StudyResult& result, const char* task) {
  Claim claim{fmt::format("{}_loss", task),
              fmt::format("{}: wherever exact match is at least .95, the loss per answer token is "
                          "at most a tenth of the smallest size's in every seed.",
                          task)};
  const Sizes sizes = sizes_of(result, task);
  double plateau = std::numeric_limits<double>::infinity();
  if (!sizes.empty()) {
    for (const Cell* cell : sizes.begin()->second) {
      plateau = std::min(plateau, cell->find_arm("cot")->loss_per_token);
    }
  }
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const auto& [parameters, cells] : sizes) {
    for (const Cell* cell : cells) {
      const ArmResult* arm = cell->find_arm("cot");
      if (arm->exact_match < kSolved || parameters == sizes.begin()->first) continue;
      const double ratio = arm->loss_per_token / plateau;
      verdicts.push_back(ratio <= kLossRatio ? Verdict::kPass : Verdict::kFail);
      evidence.push_back(
          fmt::format("{} parameters seed {}: {:.3f}", parameters, cell->seed, ratio));
    }
  }
  claim.verdict = all_of(verdicts);
  claim.evidence = evidence.empty() ? "no larger size solves the task"
                                    : "loss over the smallest size's: " + join(evidence, "; ");
  return claim;
}

class Emergence : public Study {
 public:
  std::string_view name() const override { return "emergence"; }
  std::string_view title() const override { return "Abilities against size"; }
  std::string_view question() const override {
    return "From what size do models answer by steps, and does their loss turn where their "
           "accuracy does?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    if (scale == "full") {
      sweep.widths = {4, 6, 8, 12, 16, 24, 32, 64, 128};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.learning_rates = {0.32, 0.16, 0.08};
      sweep.steps = 1000;
      sweep.batch_size = 256;
      sweep.checkpoint_interval = 500;
      sweep.evaluation_rows = 1000;
      options_.parity_bits = 16;
      options_.parity_widths = {4, 6, 8, 12, 16, 24, 32};
      options_.parity_steps = 1000;
      options_.parity_batch_size = 256;
    } else {
      sweep.widths = {4, 8, 12, 16, 24};
      sweep.learning_rates = {0.16};
      sweep.steps = 400;
      sweep.batch_size = 96;
      options_.parity_widths = {4, 8, 16};
    }
  }

  void add_fields(ConfigTable& table) override {
    add_sweep_fields(table, options_.sweep);
    table.add("length", &options_.length, "digits in a chain problem").at_least(2).at_most(1000);
    table.add("parity_widths", &options_.parity_widths, "n_embd of each size of the parity task")
        .at_least(2);
    table.add("parity_bits", &options_.parity_bits, "bits in a parity problem")
        .at_least(2)
        .at_most(1000);
    table.add("parity_steps", &options_.parity_steps, "optimizer steps of the parity task")
        .at_least(1);
    table.add("parity_batch_size", &options_.parity_batch_size, "sequences a step of parity")
        .at_least(1);
  }

  void check_options() const override { check_sweep_options(options_.sweep); }

  void run(StudyRun& run) override {
    tasks::ChainOptions chain_options;
    chain_options.length = options_.length;
    chain_options.arms = {"cot"};
    const tasks::ChainTask chain(chain_options);
    const auto parity = tasks::make_parity(options_.parity_bits, {"cot"});
    for (const int32_t width : options_.parity_widths) {
      Experiment experiment = base(kParity, *parity, width);
      experiment.steps = options_.parity_steps;
      experiment.batch_size = options_.parity_batch_size;
      run_experiment(run, options_.sweep, experiment);
    }
    for (const int32_t width : options_.sweep.widths) {
      run_experiment(run, options_.sweep, base(kChain, chain, width));
    }
  }

  void judge(StudyResult& result) const override {
    result.claims = {
        judge_emergence(result, kChain,
                        "The chain task answered by steps: the smallest size is within .10 of "
                        "chance and the largest has exact match of at least .95, in every seed."),
        judge_emergence(result, kParity,
                        "Parity answered by steps: the smallest size is within .10 of chance and "
                        "the largest has exact match of at least .95, in every seed."),
        judge_loss(result, kChain), judge_loss(result, kParity)};
    const SweepOptions& sweep = options_.sweep;
    result.settings = {
        {"chain", fmt::format("{} digits, {} steps of {} sequences", options_.length, sweep.steps,
                              sweep.batch_size)},
        {"parity", fmt::format("{} bits, {} steps of {} sequences", options_.parity_bits,
                               options_.parity_steps, options_.parity_batch_size)},
        {"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
        {"test items", fmt::to_string(sweep.test_items)},
        {"confidence of claims", fmt::format("{:.4f} (.95 over {} claims)", kConfidence, kClaims)}};
    result.caveats = {
        "Chance is one in ten for the chain task and one in two for parity: compare each with its "
        "own line.",
        "Parity prompts that the test asks are kept out of training. Chain problems are drawn "
        "afresh at every step, out of 10^8 for eight digits.",
        "These sizes say when an ability appears at this recipe and budget, not what a task needs: "
        "smaller models succeed with more steps."};
  }

 private:
  Experiment base(const char* task, const tasks::Task& data, int32_t width) const {
    Experiment experiment;
    experiment.task = task;
    experiment.variant = kVariant;
    experiment.data = &data;
    experiment.width = width;
    experiment.n_layer = options_.sweep.n_layer;
    experiment.steps = options_.sweep.steps;
    experiment.batch_size = options_.sweep.batch_size;
    experiment.seeds = options_.sweep.seeds;
    experiment.learning_rates = learning_rates(options_.sweep, width);
    return experiment;
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::Emergence study;
  return surtsey::experiments::run_study(argc, argv, study);
}
