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
//   with_permuted C, D and P, where P writes the same steps in an order that does not lead to the
//                 answer; trained like with_filler
//   depth         the joint mixture at other depths, at widths that keep the number of parameters
//
// Corrupting one step of the joint model's own chain shows whether the chain causes the answer.
// Giving it the right steps shows what of its errors are wrong steps, and what went on from them.
#include <algorithm>
#include <map>

#include "experiments/base/join.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/chain.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kJoint = "joint";
constexpr const char* kDirectOnly = "direct_only";
constexpr const char* kWithFiller = "with_filler";
constexpr const char* kWithPermuted = "with_permuted";
constexpr const char* kDepth = "depth";

struct Options {
  SweepOptions sweep;
  int32_t modulus = 10;
  int32_t length = 8;
  std::vector<int32_t> control_widths = {16};
  std::vector<std::string> controls = {kDirectOnly, kWithFiller};
  // Of the control `depth`: 8,184 and 7,764 parameters where the joint model of two layers of
  // width 16 has 7,088.
  std::vector<int32_t> depths = {1, 4};
  std::vector<int32_t> depth_widths = {24, 12};
  // Bounds of the claims.
  double solved = 0.95;
  double unsolved = 0.15;
  double near_chance = 0.20;
};

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

Judgement judge_gap(const StudyResult& result, const Options& options, double confidence) {
  Judgement judgement;
  std::vector<Verdict> sizes;
  std::vector<std::string> evidence;
  const auto all = claim_cells(result, "", kJoint);
  const auto widths = by_width(all);
  // "At some size" is as many chances as there are sizes.
  const double at = 1 - (1 - confidence) / std::max<double>(1, static_cast<double>(widths.size()));
  for (const auto& [width, cells] : widths) {
    std::vector<Verdict> seeds;
    for (const Cell* cell : cells) {
      const Interval cot = exact_match_interval(*cell->find_arm("cot"), at);
      const Interval direct = exact_match_interval(*cell->find_arm("direct"), at);
      seeds.push_back(at_least(cot, options.solved));
      seeds.push_back(at_most(direct, options.unsolved));
      seeds.push_back(above(cot, direct));
    }
    sizes.push_back(all_of(seeds));
    evidence.push_back(
        fmt::format("d={}: chain {}, direct {}", width, numbers(cells, "cot"), numbers(cells, "direct")));
  }
  return {any_of(sizes), join(evidence, "; "), count_seeds(all)};
}

Judgement judge_start(const StudyResult& result, const Options& options, double confidence) {
  const auto widths = by_width(claim_cells(result, "", kJoint));
  if (widths.empty()) return {};
  std::vector<Verdict> seeds;
  const auto& [width, cells] = *widths.begin();
  for (const Cell* cell : cells) {
    seeds.push_back(at_most(exact_match_interval(*cell->find_arm("cot"), confidence), options.near_chance));
  }
  return {all_of(seeds), fmt::format("d={}: {}", width, numbers(cells, "cot")), count_seeds(cells)};
}

// The sizes that solve the task with a chain are those whose chains can be causal.
Judgement judge_causal(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<const Cell*> cells;
  std::vector<std::string> evidence;
  for (const Cell* cell : claim_cells(result, "", kJoint)) {
    const ArmResult* cot = cell->find_arm("cot");
    if (cot->exact_match < options.solved || !cell->faithfulness) continue;
    const auto moved = std::llround(*cell->faithfulness * static_cast<double>(cot->n));
    verdicts.push_back(at_least(clopper_pearson(moved, cot->n, confidence), options.solved));
    cells.push_back(cell);
    evidence.push_back(fmt::format("d={} seed {}: {:.3f}", cell->n_embd, cell->seed, *cell->faithfulness));
  }
  return {all_of(verdicts), evidence.empty() ? "no model solves the task with a chain" : join(evidence, "; "),
          count_seeds(cells)};
}

Judgement judge_control(const StudyResult& result, const Options& options, const char* variant, const char* arm,
                        double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  const auto cells = claim_cells(result, "", variant);
  for (const Cell* cell : cells) {
    const ArmResult* found = cell->find_arm(arm);
    verdicts.push_back(at_most(exact_match_interval(*found, confidence), options.unsolved));
    evidence.push_back(fmt::format("d={} L={} seed {} lr {:.3g}: {:.3f}", cell->n_embd, cell->n_layer, cell->seed,
                                   cell->learning_rate, found->exact_match));
    // A control that could not learn the chain either would say less.
    if (const ArmResult* cot = cell->find_arm("cot")) {
      evidence.back() += fmt::format(" (chain {:.3f} in the same model)", cot->exact_match);
    }
  }
  return {all_of(verdicts), evidence.empty() ? "the control was not trained" : join(evidence, "; "),
          count_seeds(cells)};
}

// Of the sizes that solve the task with their own chains; the others are evidence.
Judgement judge_given(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<const Cell*> cells;
  std::vector<std::string> evidence;
  for (const Cell* cell : claim_cells(result, "", kJoint)) {
    const ArmResult *own = cell->find_arm("cot"), *given = cell->find_arm(kGivenArm);
    if (given == nullptr) continue;
    evidence.push_back(fmt::format("d={} seed {}: {:.3f} (own steps {:.3f})", cell->n_embd, cell->seed,
                                   given->exact_match, own->exact_match));
    if (own->exact_match < options.solved) continue;
    verdicts.push_back(at_least(exact_match_interval(*given, confidence), options.solved));
    cells.push_back(cell);
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

class ChainOfThought : public Study {
 public:
  std::string_view name() const override { return "chain_of_thought"; }
  std::string_view title() const override { return "Chain of thought against direct answers"; }
  std::string_view question() const override {
    return "Does a prompt that asks for steps unlock a computation that the same weights cannot do "
           "directly, and from what size?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    if (scale == "quick") {
      // A third of the tokens of configs/chain_of_thought/batch192.toml in as many steps.
      sweep.batch_size = 64;
      sweep.selection_steps = 100;
      sweep.save_models = true;
    } else {
      sweep.widths = {4, 8, 16, 32, 64, 128, 256};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.learning_rates = {0.32, 0.16, 0.08};
      sweep.steps = 2000;
      sweep.selection_steps = 0;
      sweep.batch_size = 256;
      sweep.checkpoint_interval = 500;
      sweep.evaluation_rows = 1000;
      options_.control_widths = {16, 64};
      options_.controls = {kDirectOnly, kWithFiller, kWithPermuted, kDepth};
      if (scale == "full") return;
      // Published tables are of other problems (serial_tasks); this is the ladder of E01 carried
      // on.
      sweep.widths = {4, 8, 16, 32, 64, 128, 256, 512};
      sweep.seeds = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      sweep.test_items = 10'000;
      options_.length = 16;
      options_.control_widths = {16, 64, 256};
    }
  }

  void add_fields(ConfigTable& table) override {
    add_sweep_fields(table, options_.sweep);
    table.add("modulus", &options_.modulus, "running sums are taken modulo this").at_least(2).at_most(1000);
    table.add("length", &options_.length, "digits in a problem").at_least(2).at_most(1000);
    table.add("control_widths", &options_.control_widths, "n_embd of the controls; an empty list trains none")
        .at_least(2);
    table.add("controls", &options_.controls, "which of them are trained")
        .one_of({kDirectOnly, kWithFiller, kWithPermuted, kDepth});
    table.add("depths", &options_.depths, "n_layer of each model of the control 'depth'").at_least(1);
    table.add("depth_widths", &options_.depth_widths, "n_embd of each of them").at_least(2);
    table.add("solved", &options_.solved, "claims: exact match from which the task is solved").at_least(0).at_most(1);
    table.add("unsolved", &options_.unsolved, "claims: exact match up to which it is not").at_least(0).at_most(1);
    table.add("near_chance", &options_.near_chance, "claims: the same for the smallest size").at_least(0).at_most(1);
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
    check(options_.depths.size() == options_.depth_widths.size(),
          "depths has {} numbers and depth_widths {}: they go together", options_.depths.size(),
          options_.depth_widths.size());
  }

  void run(StudyRun& run) override {
    const tasks::ChainTask joint = task({"cot", "direct"});
    const tasks::ChainTask direct = task({"direct"});
    const tasks::ChainTask filler = task({"cot", "direct", "filler"});
    const tasks::ChainTask permuted = task({"cot", "direct", "permuted"});
    for (const int32_t width : options_.sweep.widths) {
      Experiment experiment = base(kJoint, joint, width);
      experiment.corrupt_arm = "cot";
      experiment.given_arm = "cot";
      const double chosen = run_experiment(run, options_.sweep, experiment);
      if (!has(options_.control_widths, width)) continue;

      if (trains(kDirectOnly)) {
        Experiment direct_only = base(kDirectOnly, direct, width);
        direct_only.choose_rate = false;
        run_experiment(run, options_.sweep, direct_only);
      }
      const auto third_prompt = [&](const char* variant, const tasks::Task& data) {
        if (!trains(variant)) return;
        Experiment control = base(variant, data, width);
        control.choose_rate = false;
        control.learning_rates = {chosen};
        control.steps = options_.sweep.steps * 3 / 2;
        run_experiment(run, options_.sweep, control);
      };
      third_prompt(kWithFiller, filler);
      third_prompt(kWithPermuted, permuted);
    }
    if (!trains(kDepth)) return;
    for (size_t i = 0; i < options_.depths.size(); ++i) {
      Experiment depth = base(kDepth, joint, options_.depth_widths[i]);
      depth.n_layer = options_.depths[i];
      run_experiment(run, options_.sweep, depth);
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    const auto control = [options](const char* variant, const char* arm) {
      return [=](const StudyResult& result, double confidence) {
        return judge_control(result, options, variant, arm, confidence);
      };
    };
    std::vector<DeclaredClaim> claims = {
        {"gap",
         fmt::format("At some size every seed has chain-of-thought exact match of at least {} and "
                     "direct exact match of at most {} from the same weights, with disjoint "
                     "intervals.",
                     options.solved, options.unsolved),
         [options](const StudyResult& result, double confidence) { return judge_gap(result, options, confidence); }},
        {"start",
         fmt::format("The smallest size is near chance even with a chain: exact match of at most "
                     "{} in every seed, where guessing gives {:.3g}.",
                     options.near_chance, 1.0 / options.modulus),
         [options](const StudyResult& result, double confidence) { return judge_start(result, options, confidence); }},
        {"causal",
         fmt::format("Wherever a seed's chain-of-thought exact match is at least {0}, corrupting "
                     "one of its steps moves the final answer by exactly the injected amount in a "
                     "share of at least {0} of cases.",
                     options.solved),
         [options](const StudyResult& result, double confidence) { return judge_causal(result, options, confidence); }},
        {"steps_given",
         fmt::format("Wherever a seed's chain-of-thought exact match is at least {0}, so is that of "
                     "the last step alone with all right steps before it given.",
                     options.solved),
         [options](const StudyResult& result, double confidence) { return judge_given(result, options, confidence); }}};
    const auto add_control = [&](const char* name, const char* variant, const char* arm, const std::string& statement) {
      const bool sized = !options.control_widths.empty() || std::string_view(variant) == kDepth;
      if (!trains(variant) || !sized) return;
      claims.push_back({name, statement, control(variant, arm)});
    };
    add_control("direct_only", kDirectOnly, "direct",
                fmt::format("A model that trains on direct answers alone, with at least the FLOPs "
                            "of the chain-of-thought arm, has exact match of at most {} in every "
                            "seed at every learning rate of the grid.",
                            options.unsolved));
    add_control("filler", kWithFiller, "filler",
                fmt::format("As many filler tokens as a chain has steps do not replace the steps: "
                            "exact match of at most {} in every seed, after training on them.",
                            options.unsolved));
    add_control("permuted", kWithPermuted, "permuted",
                fmt::format("The steps in an order that does not lead to the answer do not replace "
                            "the chain: exact match of at most {} in every seed, after training on "
                            "them.",
                            options.unsolved));
    add_control("depth", kDepth, "direct",
                fmt::format("Depth does not replace the steps: with {} layers at about as many "
                            "parameters, direct exact match is at most {} in every seed.",
                            fmt::join(options.depths, ", "), options.unsolved));
    return claims;
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    result.settings = {
        {"task", fmt::format("running sums of {} digits modulo {}", options_.length, options_.modulus)},
        {"steps", fmt::to_string(sweep.steps)},
        {"batch", fmt::format("{} sequences of {} tokens", sweep.batch_size, 2 * options_.length + 2)},
        {"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
        {"learning rates chosen by", fmt::format("held-out loss of seed {} after {} steps", sweep.selection_seed,
                                                 sweep.selection_steps > 0 ? sweep.selection_steps : sweep.steps)},
        {"test items", fmt::to_string(sweep.test_items)}};
    result.caveats = {
        "Fresh random problems at every step: training and test loss are the same quantity, and "
        "memory plays no part.",
        "The chain starts with a copy of the first digit. Without it the first step is a lookup of "
        "two operands unlike the others, and one bad position holds the final answer at chance "
        "while most steps are right: read the accuracy by position.",
        "The loss is a mean over answer tokens, so the prompt that asks for a chain weighs more "
        "than the one that asks for the answer alone. The direct_only control has no such bias.",
        "The controls with filler tokens and with permuted chains are models of their own that "
        "train half as long again, so that they see each prompt kind as often as the joint model "
        "does; their learning rate is the one chosen for the joint model of their size.",
        "The controls were trained at " + widths_text(options_.control_widths) +
            " only; 'depth' has widths of its own, so that its sizes are about equal.",
        "A chain that is causal here says nothing about chains of models that learned from text."};
  }

 private:
  static std::string widths_text(const std::vector<int32_t>& widths) {
    return widths.empty() ? "no size" : fmt::format("d = {}", fmt::join(widths, ", "));
  }

  static bool has(const std::vector<int32_t>& list, int32_t value) {
    return std::find(list.begin(), list.end(), value) != list.end();
  }
  bool trains(const char* control) const {
    const auto& list = options_.controls;
    return std::find(list.begin(), list.end(), control) != list.end();
  }

  tasks::ChainTask task(std::vector<std::string> arms) const {
    tasks::ChainOptions options;
    options.modulus = options_.modulus;
    options.length = options_.length;
    options.arms = std::move(arms);
    return tasks::ChainTask(options);
  }

  Experiment base(const char* variant, const tasks::Task& data, int32_t width) const {
    return sweep_experiment(options_.sweep, "", variant, &data, width);
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::ChainOfThought study;
  return surtsey::experiments::run_study(argc, argv, study);
}
