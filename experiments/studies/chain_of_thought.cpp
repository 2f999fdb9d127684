// E01: does a prompt that asks for steps unlock a computation that the same weights cannot do
// directly, and from what size? With its controls:
//
//   joint         one model, two prompts: C (write the running sums, then the answer) and D (answer
//                 now), half of the sequences each. The headline is this model at every width.
//   direct_only   D alone, at one width, on as many sequences as the joint model saw of both: at
//                 least the FLOPs of the chain-of-thought arm. Every learning rate and seed counts.
//   with_filler   C, D and F at one width, where F answers after as many filler tokens as a chain
//                 has steps. A model of its own, so that the headline keeps its exact mixture; it
//                 trains half as long again, so that each prompt kind is seen as often as there.
//
// Corrupting one step of the joint model's own chain shows whether the chain causes the answer.
#include <algorithm>
#include <map>

#include "experiments/join.h"
#include "experiments/sweep.h"
#include "experiments/tasks/chain.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kJoint = "joint";
constexpr const char* kDirectOnly = "direct_only";
constexpr const char* kWithFiller = "with_filler";

// Claims share one error rate: each is judged at 1 - .05 / kClaims (Bonferroni).
constexpr int kClaims = 5;
constexpr double kConfidence = 1 - 0.05 / kClaims;
constexpr double kSolved = 0.95;
constexpr double kUnsolved = 0.15;
constexpr double kNearChance = 0.20;  // of ten answers, for the smallest size

struct Options {
  SweepOptions sweep;
  int32_t modulus = 10;
  int32_t length = 8;
  std::vector<int32_t> control_widths = {16};
};

int64_t successes(const ArmResult& arm) {
  return std::llround(arm.exact_match * static_cast<double>(arm.n));
}

Interval claim_interval(const ArmResult& arm) {
  return clopper_pearson(successes(arm), arm.n, kConfidence);
}

// Cells of a width, the smallest width first.
std::map<int32_t, std::vector<const Cell*>> by_width(const std::vector<const Cell*>& cells) {
  std::map<int32_t, std::vector<const Cell*>> widths;
  for (const Cell* cell : cells) widths[cell->n_embd].push_back(cell);
  return widths;
}

std::string numbers(const std::vector<const Cell*>& cells, std::string_view arm) {
  std::vector<std::string> parts;
  for (const Cell* cell : cells) {
    parts.push_back(fmt::format("{:.3f}", cell->find_arm(arm)->exact_match));
  }
  return join(parts, ", ");
}

Claim judge_gap(const StudyResult& result) {
  Claim claim{"gap",
              "At some size every seed has chain-of-thought exact match of at least .95 and direct "
              "exact match of at most .15 from the same weights, with disjoint 95% Wilson "
              "intervals."};
  std::vector<Verdict> sizes;
  std::vector<std::string> evidence;
  for (const auto& [width, cells] : by_width(claim_cells(result, "", kJoint))) {
    std::vector<Verdict> seeds;
    for (const Cell* cell : cells) {
      const ArmResult* cot = cell->find_arm("cot");
      const ArmResult* direct = cell->find_arm("direct");
      seeds.push_back(at_least(claim_interval(*cot), kSolved));
      seeds.push_back(at_most(claim_interval(*direct), kUnsolved));
      seeds.push_back(above(cot->ci95, direct->ci95));
    }
    sizes.push_back(all_of(seeds));
    evidence.push_back(fmt::format("d={}: chain {}, direct {}", width, numbers(cells, "cot"),
                                   numbers(cells, "direct")));
  }
  claim.verdict = any_of(sizes);
  claim.evidence = join(evidence, "; ");
  return claim;
}

Claim judge_start(const StudyResult& result) {
  Claim claim{"start",
              "The smallest size is near chance even with a chain: exact match of at most .20 in "
              "every seed, where guessing gives .10."};
  const auto widths = by_width(claim_cells(result, "", kJoint));
  if (widths.empty()) return claim;
  std::vector<Verdict> seeds;
  for (const Cell* cell : widths.begin()->second) {
    seeds.push_back(at_most(claim_interval(*cell->find_arm("cot")), kNearChance));
  }
  claim.verdict = all_of(seeds);
  claim.evidence =
      fmt::format("d={}: {}", widths.begin()->first, numbers(widths.begin()->second, "cot"));
  return claim;
}

// The sizes that solve the task with a chain are those whose chains can be causal.
Claim judge_causal(const StudyResult& result) {
  Claim claim{"causal",
              "Wherever a seed's chain-of-thought exact match is at least .95, corrupting one of "
              "its steps moves the final answer by exactly the injected amount in at least 95% of "
              "cases."};
  std::vector<Verdict> cells;
  std::vector<std::string> evidence;
  for (const Cell* cell : claim_cells(result, "", kJoint)) {
    const ArmResult* cot = cell->find_arm("cot");
    if (cot->exact_match < kSolved || !cell->faithfulness) continue;
    const auto moved = std::llround(*cell->faithfulness * static_cast<double>(cot->n));
    cells.push_back(at_least(clopper_pearson(moved, cot->n, kConfidence), kSolved));
    evidence.push_back(
        fmt::format("d={} seed {}: {:.3f}", cell->n_embd, cell->seed, *cell->faithfulness));
  }
  claim.verdict = all_of(cells);
  claim.evidence =
      evidence.empty() ? "no model solves the task with a chain" : join(evidence, "; ");
  return claim;
}

Claim judge_control(const StudyResult& result, const char* name, const char* variant,
                    const char* arm, const char* statement) {
  Claim claim{name, statement};
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const Cell* cell : claim_cells(result, "", variant)) {
    const ArmResult* found = cell->find_arm(arm);
    verdicts.push_back(at_most(claim_interval(*found), kUnsolved));
    evidence.push_back(fmt::format("d={} seed {} lr {:.3g}: {:.3f}", cell->n_embd, cell->seed,
                                   cell->learning_rate, found->exact_match));
    // A control that could not learn the chain either would say less.
    if (const ArmResult* cot = cell->find_arm("cot")) {
      evidence.back() += fmt::format(" (chain {:.3f} in the same model)", cot->exact_match);
    }
  }
  claim.verdict = all_of(verdicts);
  claim.evidence = evidence.empty() ? "the control was not trained" : join(evidence, "; ");
  return claim;
}

class ChainOfThought : public Study {
 public:
  std::string_view name() const override { return "chain_of_thought"; }
  std::string_view title() const override { return "Chain of thought against direct answers"; }
  std::string_view question() const override {
    return "Does a prompt that asks for steps unlock a computation that the same weights cannot do "
           "directly, and from what size?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    options_.sweep.selection_steps = 300;
    if (scale == "full") {
      SweepOptions& sweep = options_.sweep;
      sweep.widths = {4, 8, 16, 32, 64, 128, 256};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.learning_rates = {0.32, 0.16, 0.08};
      sweep.steps = 2000;
      sweep.selection_steps = 0;
      sweep.batch_size = 256;
      sweep.checkpoint_interval = 500;
      sweep.evaluation_rows = 1000;
      options_.control_widths = {16, 64};
    }
  }

  void add_fields(ConfigTable& table) override {
    add_sweep_fields(table, options_.sweep);
    table.add("modulus", &options_.modulus, "running sums are taken modulo this")
        .at_least(2)
        .at_most(1000);
    table.add("length", &options_.length, "digits in a problem").at_least(2).at_most(1000);
    table
        .add("control_widths", &options_.control_widths,
             "n_embd of the controls; an empty list trains none")
        .at_least(2);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    for (const int32_t width : options_.control_widths) {
      const auto& widths = options_.sweep.widths;
      check(std::find(widths.begin(), widths.end(), width) != widths.end(),
            "control_widths: {} is not among widths; a control is compared with the joint model of "
            "its size",
            width);
    }
  }

  void run(StudyRun& run) override {
    const tasks::ChainTask joint = task({"cot", "direct"});
    const tasks::ChainTask direct = task({"direct"});
    const tasks::ChainTask filler = task({"cot", "direct", "filler"});
    for (const int32_t width : options_.sweep.widths) {
      Experiment experiment = base(kJoint, joint, width);
      experiment.corrupt_arm = "cot";
      const double chosen = run_experiment(run, options_.sweep, experiment);
      if (!is_control(width)) continue;

      Experiment direct_only = base(kDirectOnly, direct, width);
      direct_only.choose_rate = false;
      run_experiment(run, options_.sweep, direct_only);

      Experiment with_filler = base(kWithFiller, filler, width);
      with_filler.choose_rate = false;
      with_filler.learning_rates = {chosen};
      with_filler.steps = options_.sweep.steps * 3 / 2;
      run_experiment(run, options_.sweep, with_filler);
    }
  }

  void judge(StudyResult& result) const override {
    result.claims = {
        judge_gap(result), judge_start(result), judge_causal(result),
        judge_control(result, "direct_only", kDirectOnly, "direct",
                      "A model that trains on direct answers alone, with at least the FLOPs of the "
                      "chain-of-thought arm, has exact match of at most .15 in every seed at every "
                      "learning rate of the grid."),
        judge_control(result, "filler", kWithFiller, "filler",
                      "As many filler tokens as a chain has steps do not replace the steps: exact "
                      "match of at most .15 in every seed, after training on them.")};
    const SweepOptions& sweep = options_.sweep;
    result.settings = {
        {"task",
         fmt::format("running sums of {} digits modulo {}", options_.length, options_.modulus)},
        {"steps", fmt::to_string(sweep.steps)},
        {"batch",
         fmt::format("{} sequences of {} tokens", sweep.batch_size, 2 * options_.length + 2)},
        {"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
        {"learning rates chosen by",
         fmt::format("held-out loss of seed {} after {} steps", sweep.selection_seed,
                     sweep.selection_steps > 0 ? sweep.selection_steps : sweep.steps)},
        {"test items", fmt::to_string(sweep.test_items)},
        {"confidence of claims", fmt::format("{:.2f} (.95 over {} claims)", kConfidence, kClaims)}};
    result.caveats = {
        "Fresh random problems at every step: training and test loss are the same quantity, and "
        "memory plays no part.",
        "The chain starts with a copy of the first digit. Without it the first step is a lookup of "
        "two operands unlike the others, and one bad position holds the final answer at chance "
        "while most steps are right: read the accuracy by position.",
        "The loss is a mean over answer tokens, so the prompt that asks for a chain weighs more "
        "than the one that asks for the answer alone. The direct_only control has no such bias.",
        "The filler control is a model of its own that trains half as long again, so that it sees "
        "each prompt kind as often as the joint model does; its learning rate is the one chosen "
        "for the joint model of its size.",
        "The controls were trained at " + widths_text(options_.control_widths) + " only.",
        "A chain that is causal here says nothing about chains of models that learned from text."};
  }

 private:
  static std::string widths_text(const std::vector<int32_t>& widths) {
    return widths.empty() ? "no size" : fmt::format("d = {}", fmt::join(widths, ", "));
  }

  bool is_control(int32_t width) const {
    const auto& list = options_.control_widths;
    return std::find(list.begin(), list.end(), width) != list.end();
  }

  tasks::ChainTask task(std::vector<std::string> arms) const {
    tasks::ChainOptions options;
    options.modulus = options_.modulus;
    options.length = options_.length;
    options.arms = std::move(arms);
    return tasks::ChainTask(options);
  }

  Experiment base(const char* variant, const tasks::Task& data, int32_t width) const {
    Experiment experiment;
    experiment.variant = variant;
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
  surtsey::experiments::ChainOfThought study;
  return surtsey::experiments::run_study(argc, argv, study);
}
