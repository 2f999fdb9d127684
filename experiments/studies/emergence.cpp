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

struct Options {
  SweepOptions sweep;  // widths, steps and batch_size are the chain's
  int32_t length = 8;
  std::vector<int32_t> parity_widths;
  int32_t parity_bits = 12;
  int32_t parity_steps = 400;
  int32_t parity_batch_size = 128;
  // Bounds of the claims.
  double solved = 0.95;
  double chance_margin = 0.10;  // above chance: not learned
  double loss_ratio = 0.1;      // of the plateau: left it
};

using Sizes = std::map<int64_t, std::vector<const Cell*>>;

Sizes sizes_of(const StudyResult& result, const char* task) {
  Sizes sizes;
  for (const Cell* cell : claim_cells(result, task, kVariant)) {
    sizes[cell->parameters].push_back(cell);
  }
  return sizes;
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
Judgement judge_emergence(const StudyResult& result, const Options& options, const char* task,
                          double confidence) {
  const Sizes sizes = sizes_of(result, task);
  std::vector<Verdict> verdicts;
  if (sizes.size() > 1) {
    for (const Cell* cell : sizes.begin()->second) {
      verdicts.push_back(at_chance(exact_match_interval(*cell->find_arm("cot"), confidence),
                                   cell->chance, options.chance_margin));
    }
    for (const Cell* cell : sizes.rbegin()->second) {
      verdicts.push_back(
          at_least(exact_match_interval(*cell->find_arm("cot"), confidence), options.solved));
    }
  }
  return {all_of(verdicts), table_text(sizes), count_seeds(claim_cells(result, task, kVariant))};
}

// Every size that solves the task has left the loss of the smallest size by a factor of ten: the
// jump is not made by the metric alone.
Judgement judge_loss(const StudyResult& result, const Options& options, const char* task,
                     double confidence) {
  const Sizes sizes = sizes_of(result, task);
  Interval plateau{std::numeric_limits<double>::infinity(),
                   std::numeric_limits<double>::infinity()};
  std::vector<const Cell*> cells;
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const auto& [parameters, of_size] : sizes) {
    for (const Cell* cell : of_size) {
      const ArmResult* arm = cell->find_arm("cot");
      const Interval loss = loss_interval(*arm, confidence);
      if (parameters == sizes.begin()->first) {
        plateau.low = std::min(plateau.low, loss.low);
        plateau.high = std::min(plateau.high, loss.high);
        continue;
      }
      if (arm->exact_match < options.solved) continue;
      const Interval ratio{loss.low / plateau.high, loss.high / plateau.low};
      verdicts.push_back(at_most(ratio, options.loss_ratio));
      cells.push_back(cell);
      evidence.push_back(fmt::format("{} parameters seed {}: {:.3f} to {:.3f}", parameters,
                                     cell->seed, ratio.low, ratio.high));
    }
  }
  return {all_of(verdicts),
          evidence.empty() ? "no larger size solves the task"
                           : "loss over the smallest size's: " + join(evidence, "; "),
          count_seeds(cells)};
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
    table.add("solved", &options_.solved, "claims: exact match from which a task is solved")
        .at_least(0)
        .at_most(1);
    table
        .add("chance_margin", &options_.chance_margin,
             "claims: exact match so far above chance is still at chance")
        .at_least(0)
        .at_most(1);
    table
        .add("loss_ratio", &options_.loss_ratio,
             "claims: share of the smallest size's loss below which it has left its plateau")
        .at_least(0)
        .at_most(1);
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

  std::vector<DeclaredClaim> claims() const override {
    std::vector<DeclaredClaim> claims;
    const Options options = options_;
    for (const char* task : {kChain, kParity}) {
      claims.push_back(
          {fmt::format("{}_emerges", task),
           fmt::format("{} answered by steps: the smallest size is within {} of chance and the "
                       "largest has exact match of at least {}, in every seed.",
                       task, options.chance_margin, options.solved),
           [=](const StudyResult& result, double confidence) {
             return judge_emergence(result, options, task, confidence);
           }});
    }
    for (const char* task : {kChain, kParity}) {
      claims.push_back(
          {fmt::format("{}_loss", task),
           fmt::format("{}: wherever exact match is at least {}, the loss per answer token is at "
                       "most {} of the smallest size's in every seed.",
                       task, options.solved, options.loss_ratio),
           [=](const StudyResult& result, double confidence) {
             return judge_loss(result, options, task, confidence);
           }});
    }
    return claims;
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    result.settings = {
        {"chain", fmt::format("{} digits, {} steps of {} sequences", options_.length, sweep.steps,
                              sweep.batch_size)},
        {"parity", fmt::format("{} bits, {} steps of {} sequences", options_.parity_bits,
                               options_.parity_steps, options_.parity_batch_size)},
        {"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
        {"test items", fmt::to_string(sweep.test_items)}};
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
    experiment.dtype = parse_dtype(options_.sweep.dtype);
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
