// E04: when does an ability appear as models grow? Accuracy and loss against size, one model a task
// (a mixture would move the thresholds), with held-out prompts:
//
//   chain         running sums of `length` digits modulo 10, asked for the steps
//   parity        running parities of `parity_bits` bits: the same with two symbols, and easier
//   direct_sum    the sum of `direct_length` digits modulo 10, at once
//   unscramble    which of 256 pseudo-words has these letters
//   postfix       programs for a stack machine, scored by running them
//   shell_game    where the ball is after twelve swaps, asked for the steps
//   addition      three digits, the sum reversed; addition_plain has its first digit first, and
//                 addition_scratchpad writes digits and carries down before it (E03 without end of
//                 data: studies/addition_formats has the finite sets of Lee et al.)
//   variables     four assignments, asked for the value of each
//   false_belief  where an agent believes the ball to be; judged on false beliefs alone
//
// Accuracy can jump where nothing jumps underneath (Schaeffer et al. 2023): exact match is about
// the product of the step accuracies, so the loss per token and the accuracy by position stand
// beside it, and a claim asks whether the loss leaves its plateau where the accuracy does.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "experiments/base/join.h"
#include "experiments/statistics/threshold.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/budgets.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/addition.h"
#include "experiments/tasks/false_belief.h"
#include "experiments/tasks/parity.h"
#include "experiments/tasks/postfix.h"
#include "experiments/tasks/shell_game.h"
#include "experiments/tasks/unscramble.h"
#include "experiments/tasks/variables.h"

namespace surtsey::experiments {
namespace {

struct Options;

// One ability: how it is made, and how models of it are trained.
struct Ability {
  std::string name;
  std::string arm;      // what claims are about
  std::string variant;  // of cells
  // Place in the order of appearance that was measured before, with another implementation, at up
  // to 1000 steps: thresholds of later places are claimed to be higher.
  int32_t place = 0;
  std::unique_ptr<tasks::Task> (*make)(const Options&);
  // Left empty or zero: what the sweep has.
  std::vector<int32_t> widths = {};
  int32_t steps = 0;
  int32_t batch_size = 0;
};

std::vector<Ability> all_abilities();

struct Options {
  SweepOptions sweep;
  std::vector<Ability> abilities = all_abilities();
  std::vector<std::string> tasks;  // names of those that run
  int32_t length = 8;
  int32_t direct_length = 3;
  int32_t parity_bits = 12;
  bool balanced_beliefs = false;
  // Other budgets, under which every size is trained again: of the steps, and at equal FLOPs.
  std::vector<double> step_shares;
  std::vector<double> equal_gigaflops;
  // Bounds of the claims.
  double solved = 0.95;
  double chance_margin = 0.10;  // above chance: not learned
  double loss_ratio = 0.1;      // of the plateau: left it

  std::vector<Budget> budgets() const { return budgets_of(step_shares, equal_gigaflops); }

  std::vector<Ability> chosen() const {
    std::vector<Ability> list;
    for (const std::string& name : tasks) {
      for (const Ability& ability : abilities) {
        if (ability.name == name) list.push_back(ability);
      }
    }
    return list;
  }
};

std::unique_ptr<tasks::Task> make_chain(int32_t length, const char* arm) {
  tasks::ChainOptions options;
  options.length = length;
  options.arms = {arm};
  return std::make_unique<tasks::ChainTask>(options);
}

template <class T>
std::unique_ptr<tasks::Task> make_default(const Options&) {
  return std::make_unique<T>();
}

template <tasks::Addition::Format kFormat>
std::unique_ptr<tasks::Task> make_addition(const Options&) {
  return std::make_unique<tasks::Addition>(3, kFormat);
}

std::vector<Ability> all_abilities() {
  using tasks::Task;
  using Format = tasks::Addition::Format;
  const auto chain = [](const Options& o) { return make_chain(o.length, "cot"); };
  const auto sum = [](const Options& o) { return make_chain(o.direct_length, "direct"); };
  const auto parity = [](const Options& o) -> std::unique_ptr<Task> {
    return tasks::make_parity(o.parity_bits, {"cot"});
  };
  const auto belief = [](const Options& o) -> std::unique_ptr<Task> {
    return std::make_unique<tasks::FalseBelief>(6, o.balanced_beliefs);
  };
  return {{"chain", "cot", "cot", 1, chain},
          {"parity", "cot", "cot", 0, parity},
          {"direct_sum", "direct", "direct", 1, sum},
          {"unscramble", "direct", "direct", 1, make_default<tasks::Unscramble>},
          {"postfix", "direct", "direct", 0, make_default<tasks::Postfix>},
          {"shell_game", "cot", "cot", 1, make_default<tasks::ShellGame>},
          {"addition", "direct", "direct", 2, make_default<tasks::Addition>},
          {"addition_plain", "direct", "direct", 2, make_addition<Format::plain>},
          {"addition_scratchpad", "direct", "direct", 2, make_addition<Format::scratchpad>},
          {"variables", "cot", "cot", 3, make_default<tasks::Variables>},
          {"false_belief", "false_belief", "steps", 3, belief}};
}

using Sizes = std::map<int64_t, std::vector<const Cell*>>;

Sizes sizes_of(const StudyResult& result, const Ability& ability) {
  Sizes sizes;
  for (const Cell* cell : claim_cells(result, ability.name, ability.variant)) {
    sizes[cell->parameters].push_back(cell);
  }
  return sizes;
}

std::string seeds_text(const std::vector<const Cell*>& cells, const Ability& ability) {
  std::vector<std::string> parts;
  for (const Cell* cell : cells) {
    const ArmResult* arm = cell->find_arm(ability.arm);
    parts.push_back(fmt::format("{:.3f} (loss {:.3g})", arm->exact_match, arm->loss_per_token));
    // What else a model was asked, such as beliefs that are true.
    for (const ArmResult& other : cell->arms) {
      if (other.arm != ability.arm) {
        parts.back() += fmt::format(" [{} {:.3f}]", other.arm, other.exact_match);
      }
    }
  }
  return join(parts, ", ");
}

std::string table_text(const Sizes& sizes, const Ability& ability) {
  std::vector<std::string> parts;
  for (const auto& [parameters, cells] : sizes) {
    parts.push_back(fmt::format("{} parameters: {}", parameters, seeds_text(cells, ability)));
  }
  return join(parts, "; ");
}

// The smallest size is at chance and the largest solves the task, in every seed.
Judgement judge_emergence(const StudyResult& result, const Ability& ability, double margin, double solved,
                          double confidence) {
  const Sizes sizes = sizes_of(result, ability);
  std::vector<Verdict> verdicts;
  if (sizes.size() > 1) {
    for (const Cell* cell : sizes.begin()->second) {
      verdicts.push_back(
          at_chance(exact_match_interval(*cell->find_arm(ability.arm), confidence), cell->chance, margin));
    }
    for (const Cell* cell : sizes.rbegin()->second) {
      verdicts.push_back(at_least(exact_match_interval(*cell->find_arm(ability.arm), confidence), solved));
    }
  }
  return {all_of(verdicts), table_text(sizes, ability),
          count_seeds(claim_cells(result, ability.name, ability.variant))};
}

// Every size that solves the task has left the loss of the smallest size by a factor of ten: the
// jump is not made by the metric alone.
Judgement judge_loss(const StudyResult& result, const Ability& ability, double solved, double loss_ratio,
                     double confidence) {
  const Sizes sizes = sizes_of(result, ability);
  Interval plateau{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  std::vector<const Cell*> cells;
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const auto& [parameters, of_size] : sizes) {
    for (const Cell* cell : of_size) {
      const ArmResult* arm = cell->find_arm(ability.arm);
      const Interval loss = loss_interval(*arm, confidence);
      if (parameters == sizes.begin()->first) {
        plateau.low = std::min(plateau.low, loss.low);
        plateau.high = std::min(plateau.high, loss.high);
        continue;
      }
      if (arm->exact_match < solved) continue;
      const Interval ratio{loss.low / plateau.high, loss.high / plateau.low};
      verdicts.push_back(at_most(ratio, loss_ratio));
      cells.push_back(cell);
      evidence.push_back(
          fmt::format("{} parameters seed {}: {:.3f} to {:.3f}", parameters, cell->seed, ratio.low, ratio.high));
    }
  }
  return {
      all_of(verdicts),
      evidence.empty() ? "no larger size solves the task" : "loss over the smallest size's: " + join(evidence, "; "),
      count_seeds(cells)};
}

std::optional<ThresholdFit> fit(const StudyResult& result, const Ability& ability, double confidence) {
  return threshold_of(claim_cells(result, ability.name, ability.variant), ability.arm, confidence);
}

std::string threshold_text(const ThresholdFit& fit) {
  const std::string half = fmt::format("half-way at {:.0f} parameters ({:.0f} to {:.0f})", fit.size50,
                                       fit.size50_interval.low, fit.size50_interval.high);
  if (fit.sizes < kThresholdSizes) {
    return fmt::format("{}; {} sizes, {} are needed", half, fit.sizes, kThresholdSizes);
  }
  return fmt::format("{}, {:.2f} decades wide, AICc gain {:.1f}, {} sizes", half, fit.width, fit.aicc_gain(),
                     fit.sizes);
}

Judgement judge_threshold(const StudyResult& result, const Ability& ability, double confidence) {
  const auto found = fit(result, ability, confidence);
  if (!found) return {Verdict::kInconclusive, "fewer than two sizes", 0};
  return {sharp(*found), threshold_text(*found), count_seeds(claim_cells(result, ability.name, ability.variant))};
}

// Thresholds of abilities at different places have disjoint intervals, in the order of the places.
Judgement judge_order(const StudyResult& result, const std::vector<Ability>& abilities, double confidence) {
  struct Fitted {
    const Ability* ability;
    ThresholdFit fit;
  };
  const double each = 1 - (1 - confidence) / std::max<double>(1, static_cast<double>(abilities.size()));
  std::vector<Fitted> list;
  std::vector<std::string> evidence;
  int64_t seeds = 0;
  for (const Ability& ability : abilities) {
    const auto found = fit(result, ability, each);
    if (!found) continue;
    list.push_back({&ability, *found});
    evidence.push_back(ability.name + " " + threshold_text(*found));
    const int64_t own = count_seeds(claim_cells(result, ability.name, ability.variant));
    seeds = seeds == 0 ? own : std::min(seeds, own);
  }
  std::vector<Verdict> verdicts;
  for (const Fitted& early : list) {
    for (const Fitted& late : list) {
      if (early.ability->place >= late.ability->place) continue;
      const bool enough = std::min(early.fit.sizes, late.fit.sizes) >= kThresholdSizes;
      verdicts.push_back(enough ? above(late.fit.size50_interval, early.fit.size50_interval) : Verdict::kInconclusive);
    }
  }
  return {all_of(verdicts), join(evidence, "; "), seeds};
}

class Emergence : public Study {
 public:
  std::string_view name() const override { return "emergence"; }
  std::string_view title() const override { return "Abilities against size"; }
  std::string_view question() const override {
    return "From what size do models answer by steps, and does their loss turn where their "
           "accuracy does?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    if (scale != "quick") {
      sweep.widths = {4, 6, 8, 12, 16, 24, 32, 64, 128};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.learning_rates = {0.32, 0.16, 0.08};
      sweep.steps = 1000;
      sweep.batch_size = 256;
      sweep.checkpoint_interval = 500;
      sweep.evaluation_rows = 1000;
      for (const Ability& one : options_.abilities) options_.tasks.push_back(one.name);
      options_.parity_bits = 16;
      options_.step_shares = {0.25, 0.5, 2};
      options_.equal_gigaflops = {50, 200, 800};
      ability("parity").widths = {4, 6, 8, 12, 16, 24, 32};
      if (scale == "full") return;
      // Ten seeds, as thresholds want; what small models of the full scale do not solve, larger
      // ones may (variables, false beliefs).
      sweep.widths = {4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512};
      sweep.seeds = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      sweep.steps = 4000;
      sweep.test_items = 10'000;
    } else {
      options_.tasks = {"chain", "parity", "unscramble"};
      sweep.widths = {8, 16, 32};
      sweep.learning_rates = {0.16};
      sweep.steps = 500;
      sweep.batch_size = 128;
      const auto set = [&](const char* name, std::vector<int32_t> widths, int32_t steps, int32_t batch_size) {
        Ability& one = ability(name);
        one.widths = std::move(widths);
        one.steps = steps;
        one.batch_size = batch_size;
      };
      set("chain", {4, 8, 12, 16, 24}, 400, 96);
      set("parity", {4, 8, 16}, 400, 128);
      set("unscramble", {}, 250, 128);
      set("direct_sum", {}, 750, 128);
      set("postfix", {4, 8, 16}, 300, 128);
      set("shell_game", {}, 400, 128);
      set("addition", {}, 800, 128);
      set("addition_plain", {}, 800, 128);
      set("addition_scratchpad", {}, 800, 128);
      set("variables", {}, 800, 128);
      set("false_belief", {}, 800, 128);
    }
  }

  void add_fields(ConfigTable& table) override {
    std::vector<std::string> names;
    for (const Ability& one : options_.abilities) names.push_back(one.name);
    table.add("tasks", &options_.tasks, "abilities to train, one model each").one_of(names);
    add_sweep_fields(table, options_.sweep);
    for (Ability& one : options_.abilities) {
      table.add(one.name + "_widths", &one.widths, fmt::format("n_embd of each size of {}; empty: widths", one.name))
          .at_least(2);
      table.add(one.name + "_steps", &one.steps, fmt::format("optimizer steps of {}; 0: steps", one.name)).at_least(0);
      table
          .add(one.name + "_batch_size", &one.batch_size,
               fmt::format("sequences a step of {}; 0: batch_size", one.name))
          .at_least(0);
    }
    table.add("length", &options_.length, "digits in a chain problem").at_least(2).at_most(1000);
    table.add("direct_length", &options_.direct_length, "digits in a direct sum").at_least(2).at_most(1000);
    table.add("parity_bits", &options_.parity_bits, "bits in a parity problem").at_least(2).at_most(1000);
    table.add("balanced_beliefs", &options_.balanced_beliefs,
              "half of the training sequences of false_belief hold one; else as they come");
    table
        .add("step_shares", &options_.step_shares,
             "every size is trained again for these shares of its steps: thresholds against tokens")
        .at_least(1e-3);
    table
        .add("equal_gigaflops", &options_.equal_gigaflops,
             "and again with so many GFLOP for every size: thresholds at equal FLOPs")
        .at_least(1e-3);
    table.add("solved", &options_.solved, "claims: exact match from which a task is solved").at_least(0).at_most(1);
    table.add("chance_margin", &options_.chance_margin, "claims: exact match so far above chance is still at chance")
        .at_least(0)
        .at_most(1);
    table
        .add("loss_ratio", &options_.loss_ratio,
             "claims: share of the smallest size's loss below which it has left its plateau")
        .at_least(0)
        .at_most(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    check(!options_.tasks.empty(), "tasks is empty: there is nothing to train");
    for (size_t i = 0; i < options_.tasks.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        check(options_.tasks[i] != options_.tasks[j], "tasks: {} is there twice", options_.tasks[i]);
      }
    }
  }

  void run(StudyRun& run) override {
    for (const Ability& one : options_.chosen()) {
      const auto task = one.make(options_);
      for (const int32_t width : one.widths.empty() ? options_.sweep.widths : one.widths) {
        const Experiment size = experiment(one, *task, width);
        const double rate = run_experiment(run, options_.sweep, size);
        run_budgets(run, options_.sweep, size, rate, options_.budgets());
      }
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    std::vector<DeclaredClaim> claims;
    const Options& options = options_;
    const double margin = options.chance_margin, solved = options.solved;
    const double ratio = options.loss_ratio;
    for (const Ability& one : options.chosen()) {
      claims.push_back({one.name + "_emerges",
                        fmt::format("{}: the smallest size is within {} of chance and the largest has exact "
                                    "match of at least {}, in every seed.",
                                    one.name, margin, solved),
                        [=](const StudyResult& result, double confidence) {
                          return judge_emergence(result, one, margin, solved, confidence);
                        }});
      claims.push_back({one.name + "_loss",
                        fmt::format("{}: wherever exact match is at least {}, the loss per answer token is at "
                                    "most {} of the smallest size's in every seed.",
                                    one.name, solved, ratio),
                        [=](const StudyResult& result, double confidence) {
                          return judge_loss(result, one, solved, ratio, confidence);
                        }});
      claims.push_back(
          {one.name + "_threshold",
           fmt::format("{}: exact match rises sharply, from 10% to 90% of its rise in less than {} "
                       "decades of parameters, and a threshold explains it better than a constant "
                       "or a line in log N; at least {} sizes.",
                       one.name, kSharpWidth, kThresholdSizes),
           [=](const StudyResult& result, double confidence) { return judge_threshold(result, one, confidence); }});
    }
    const std::vector<Ability> chosen = options.chosen();
    std::map<int32_t, std::vector<std::string>> places;
    for (const Ability& one : chosen) places[one.place].push_back(one.name);
    if (places.size() > 1) {
      std::vector<std::string> order;
      for (const auto& [place, names] : places) order.push_back(join(names, ", "));
      claims.push_back(
          {"order", fmt::format("Thresholds appear in this order, with disjoint intervals: {}.", join(order, " < ")),
           [=](const StudyResult& result, double confidence) { return judge_order(result, chosen, confidence); }});
    }
    return claims;
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    for (const Ability& one : options_.chosen()) {
      const Experiment size = experiment(one, *one.make(options_), sweep.widths.front());
      std::string text = fmt::format("{} steps of {} sequences", size.steps, size.batch_size);
      if (one.name == "chain") text = fmt::format("{} digits, {}", options_.length, text);
      if (one.name == "parity") text = fmt::format("{} bits, {}", options_.parity_bits, text);
      if (one.name == "direct_sum") text = fmt::format("{} digits, {}", options_.direct_length, text);
      if (one.name == "false_belief") {
        text += options_.balanced_beliefs ? ", half of them false beliefs" : ", as beliefs come";
      }
      result.settings.emplace_back(one.name, text);
    }
    const Facts common = {{"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
                          {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
                          {"test items", fmt::to_string(sweep.test_items)}};
    result.settings.insert(result.settings.end(), common.begin(), common.end());
    for (const Ability& one : options_.chosen()) {
      for (Figure& figure : budget_figures(result, one.name, one.variant, one.arm, options_.budgets())) {
        result.figures.push_back(std::move(figure));
      }
    }
    result.caveats = {
        "Chance differs between tasks, from one in two (parity) to one in thousands (addition): "
        "compare each with its own line.",
        "Prompts that a test asks are kept out of training, except where there are too many to "
        "meet one twice. Unscramble holds out scrambles, not words: it asks for words that the "
        "model has learned.",
        "A program counts as right when it computes the right number; the exact program is the "
        "whole answer. False beliefs are judged alone: on the mixture, a model that answers where "
        "the ball is looks good.",
        "Under other budgets a size keeps the learning rate that was chosen for its own steps.",
        "These sizes say when an ability appears at this recipe and budget, not what a task needs: "
        "smaller models succeed with more steps, and tasks differ in steps."};
  }

 private:
  Ability& ability(std::string_view name) {
    for (Ability& one : options_.abilities) {
      if (one.name == name) return one;
    }
    ensure(false, "[emergence] no ability '{}'", name);
    return options_.abilities.front();
  }

  Experiment experiment(const Ability& one, const tasks::Task& data, int32_t width) const {
    Experiment experiment = sweep_experiment(options_.sweep, one.name, one.variant, &data, width);
    if (one.steps > 0) experiment.steps = one.steps;
    if (one.batch_size > 0) experiment.batch_size = one.batch_size;
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
