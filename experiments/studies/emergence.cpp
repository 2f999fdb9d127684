// E04: when does an ability appear as models grow? Accuracy and loss against size, one model a task (a mixture would
// move the thresholds), with held-out prompts:
//
//   chain         running sums of `length` digits modulo 10, asked for the steps
//   parity        running parities of `parity_bits` bits: the same with two symbols, and easier
//   direct_sum    the sum of `direct_length` digits modulo 10, at once
//   unscramble    which of 256 pseudo-words has these letters
//   postfix       programs for a stack machine, scored by running them
//   shell_game    where the ball is after twelve swaps, asked for the steps
//   addition      three digits, the sum reversed; addition_plain has its first digit first, and addition_scratchpad
//                 writes digits and carries down before it (E03 without end of data: studies/addition_formats has the
//                 finite sets of Lee et al.)
//   variables     four assignments, asked for the value of each
//   false_belief  where an agent believes the ball to be; judged on false beliefs alone
//
// Accuracy can jump where nothing jumps underneath (Schaeffer et al. 2023): exact match is about the product of the
// step accuracies, so the loss per token and the accuracy by position stand beside it, and a claim asks whether the
// loss leaves its plateau where the accuracy does.
#include "experiments/study/study.h"
#include "experiments/sweeps/budgets.h"
#include "experiments/tasks/addition.h"
#include "experiments/tasks/false_belief.h"
#include "experiments/tasks/parity.h"
#include "experiments/tasks/postfix.h"
#include "experiments/tasks/shell_game.h"
#include "experiments/tasks/unscramble.h"
#include "experiments/tasks/variables.h"

namespace surtsey::experiments {
namespace {

struct Keys;

// One ability: how it is made, and how models of it are trained at each scale. No widths and 0: what the sweep has.
struct Ability {
  std::string name;
  std::string arm;      // what claims are about
  std::string variant;  // of cells
  // Place in the order of appearance that was measured before, with another implementation, at up to 1000 steps:
  // thresholds of later places are claimed to be higher.
  int place = 0;
  std::shared_ptr<tasks::Task> (*make)(const Keys&);
  int32_t quick_steps = 0, quick_batch = 0;
  Integers quick_widths = {}, full_widths = {};
  // Keys.
  Integers widths = {};
  int32_t steps = 0, batch_size = 0;

  Pick pick() const { return cells(name, variant); }
  Growth growth() const { return {name, {pick()}, arm, place}; }
};

std::vector<Ability> all_abilities();

struct Keys : StudyKeys {
  Keys()
      : StudyKeys(
            {.widths = {{8, 16, 32}, {4, 6, 8, 12, 16, 24, 32, 64, 128}, {4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512}},
             .n_layer = {2},
             .learning_rates = {{.16}, {.32, .16, .08}},
             .steps = {500, 1000, 4000},
             .batch_size = {128, 256},
             .test_items = {1000, 1000, 10'000}}) {
    const Words names = names_of(abilities);
    add("tasks", &tasks, {{"chain", "parity", "unscramble"}, names}, "abilities to train, one model each", kNone, kNone,
        names);
    for (Ability& one : abilities) {
      add(one.name + "_widths", &one.widths, {one.quick_widths, one.full_widths},
          fmt::format("n_embd of each size of {}; empty: widths", one.name), 2, kMostWidth);
      add(one.name + "_steps", &one.steps, {one.quick_steps, 0},
          fmt::format("optimizer steps of {}; 0: steps", one.name), 0, kMostSteps);
      add(one.name + "_batch_size", &one.batch_size, {one.quick_batch, 0},
          fmt::format("sequences a step of {}; 0: batch_size", one.name), 0, kMostBatch);
    }
  }

  std::vector<Ability> abilities = all_abilities();
  Words tasks;
  Key<int32_t> length{this, "length", {8}, "digits in a chain problem", 2, 1000};
  Key<int32_t> direct_length{this, "direct_length", {3}, "digits in a direct sum", 2, 1000};
  Key<int32_t> parity_bits{this, "parity_bits", {12, 16}, "bits in a parity problem", 2, 1000};
  Key<bool> balanced_beliefs{
      this, "balanced_beliefs", {false}, "half of the training sequences of false_belief hold one; else as they come"};
  Key<Numbers> step_shares =
      Key<Numbers>(this, "step_shares", {{}, {.25, .5, 2}},
                   "every size is trained again for these shares of its steps: thresholds against tokens", 1e-3, 1000);
  Key<Numbers> equal_gigaflops =
      Key<Numbers>(this, "equal_gigaflops", {{}, {50, 200, 800}},
                   "and again with so many GFLOP for every size: thresholds at equal FLOPs", 1e-3, 1e12);
  Share solved{this, "solved", {.95}, "claims: exact match from which a task is solved"};
  Share chance_margin{this, "chance_margin", {.1}, "claims: exact match so far above chance is still at chance"};
  Share loss_ratio{
      this, "loss_ratio", {.1}, "claims: share of the smallest size's loss below which it has left its plateau"};

  std::vector<Budget> budgets() const { return budgets_of(step_shares, equal_gigaflops); }
  // Abilities that are trained, in the order of `tasks`.
  std::vector<Ability> chosen() const {
    std::vector<Ability> list;
    for (const std::string& name : tasks) list.push_back(*std::ranges::find(abilities, name, &Ability::name));
    return list;
  }
};

template <class T, auto... kArguments>
std::shared_ptr<tasks::Task> make(const Keys&) {
  return std::make_shared<T>(kArguments...);
}

std::shared_ptr<tasks::Task> chain(int32_t length, const char* arm) {
  return std::make_shared<tasks::ChainTask>(tasks::ChainOptions{.length = length, .arms = {arm}});
}

std::shared_ptr<tasks::Task> parity(const Keys& k) { return tasks::make_parity(k.parity_bits, {"cot"}, "parity_bits"); }

std::shared_ptr<tasks::Task> false_belief(const Keys& k) {
  return std::make_shared<tasks::FalseBelief>(6, *k.balanced_beliefs);
}

std::vector<Ability> all_abilities() {
  using Format = tasks::Addition::Format;
  return {
      {"chain", "cot", "cot", 1, [](const Keys& k) { return chain(k.length, "cot"); }, 400, 96, {4, 8, 12, 16, 24}},
      {"parity", "cot", "cot", 0, parity, 400, 128, {4, 8, 16}, {4, 6, 8, 12, 16, 24, 32}},
      {"direct_sum", "direct", "direct", 1, [](const Keys& k) { return chain(k.direct_length, "direct"); }, 750, 128},
      {"unscramble", "direct", "direct", 1, make<tasks::Unscramble>, 250, 128},
      {"postfix", "direct", "direct", 0, make<tasks::Postfix>, 300, 128, {4, 8, 16}},
      {"shell_game", "cot", "cot", 1, make<tasks::ShellGame>, 400, 128},
      {"addition", "direct", "direct", 2, make<tasks::Addition>, 800, 128},
      {"addition_plain", "direct", "direct", 2, make<tasks::Addition, 3, Format::plain>, 800, 128},
      {"addition_scratchpad", "direct", "direct", 2, make<tasks::Addition, 3, Format::scratchpad>, 800, 128},
      {"variables", "cot", "cot", 3, make<tasks::Variables>, 800, 128},
      {"false_belief", "false_belief", "steps", 3, false_belief, 800, 128}};
}

void check_keys(const Keys& k) {
  check_some(k.tasks, "tasks");
  check_once(k.tasks, "tasks");
}

void experiments(const Keys& k, Experiments& list) {
  for (const Ability& ability : k.chosen()) {
    const auto task = ability.make(k);
    for (const int32_t width : ability.widths.empty() ? k.sweep.widths : ability.widths) {
      Experiment& one = list.add(ability.name, ability.variant, task, width);
      if (ability.steps > 0) one.steps = ability.steps;
      if (ability.batch_size > 0) one.batch_size = ability.batch_size;
      one.budgets = k.budgets();
    }
  }
}

// The smallest size is at chance and the largest solves the task, in every seed.
Judge emerges(const Keys& k, const Ability& ability) {
  const Score match = exact_match(ability.arm);
  const Judge start = every_seed(ability.pick().smallest(), is(match, near_chance(k.chance_margin)));
  const Judge end = every_seed(ability.pick().largest(), is(match, at_least(k.solved)));
  return [=](const StudyResult& result, double confidence) {
    const Cells all = ability.pick().of(result);
    const Verdict verdict = all_of(std::vector{start(result, confidence).verdict, end(result, confidence).verdict});
    return Judgement{by_size(all).size() > 1 ? verdict : Verdict::kInconclusive,
                     evidence_of(all, {match, loss(ability.arm).named("loss")}), count_seeds(all)};
  };
}

// Every size that solves the task has left the loss of the smallest size by a factor: the jump is not made by the
// metric alone.
Judge leaves_its_plateau(const Keys& k, const Ability& ability) {
  return [&k, ability](const StudyResult& result, double confidence) {
    Interval plateau{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    const Cells small = ability.pick().smallest().of(result);
    for (const Cell* cell : without_diverged(small)) {
      const Interval start = loss_interval(cell->arm(ability.arm), confidence);
      plateau = {std::min(plateau.low, start.low), std::min(plateau.high, start.high)};
    }
    Cells larger = ability.pick().where(exact_match(ability.arm), k.solved).of(result);
    std::erase_if(larger, [&](const Cell* cell) { return has(small, cell); });
    if (larger.empty()) return Judgement{Verdict::kInconclusive, "no larger size solves the task", 0};
    if (!std::isfinite(plateau.high)) return Judgement{Verdict::kInconclusive, "the smallest size diverged", 0};
    Parts parts;
    for (const Cell* cell : larger) {
      const Interval own = loss_interval(cell->arm(ability.arm), confidence);
      parts.add(at_most(Interval{own.low / plateau.high, own.high / plateau.low}, k.loss_ratio));
    }
    parts.say(fmt::format("the smallest size's loss is {:.3g}; loss of {}", plateau.high,
                          evidence_of(larger, {loss(ability.arm)})),
              count_seeds(larger));
    return parts.judgement();
  };
}

std::vector<ClaimRow> claims(const Keys& k) {
  std::vector<ClaimRow> rows;
  std::map<int, std::vector<std::string>> places;
  std::vector<Growth> growths;
  for (const Ability& one : k.chosen()) {
    const auto claim = [&](const char* about, const std::string& statement, Judge judge, const char* from) {
      rows.push_back({one.name + about, one.name + ": " + statement, std::move(judge), from});
    };
    claim("_emerges",
          "the smallest size is within {chance_margin} of chance and the largest has exact match of at least {solved}, "
          "in every seed.",
          emerges(k, one), "full");
    claim("_loss",
          "wherever exact match is at least {solved}, the loss per answer token is at most {loss_ratio} of the "
          "smallest size's in every seed.",
          leaves_its_plateau(k, one), "quick");
    claim("_threshold",
          fmt::format("exact match rises sharply, from 10% to 90% of its rise in less than {} decades of parameters, "
                      "and a threshold explains it better than a constant or a line in log N; at least {} sizes.",
                      kSharpWidth, kThresholdSizes),
          rises_sharply(one.growth()), "full");
    places[one.place].push_back(one.name);
    growths.push_back(one.growth());
  }
  if (places.size() < 2) return rows;
  std::vector<std::string> order;
  for (const auto& [place, names] : places) order.push_back(join(names, ", "));
  rows.push_back({"order", "Thresholds appear in this order, with disjoint intervals: " + join(order, " < ") + ".",
                  thresholds_in_order(growths)});
  return rows;
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  std::vector<Figure> list;
  for (const Ability& one : k.chosen())
    std::ranges::move(budget_figures(result, one.name, one.variant, one.arm, k.budgets()), std::back_inserter(list));
  return list;
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"emergence", "Abilities against size",
             "From what size do models answer by steps, and does their loss turn where their accuracy does?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {"Chance differs between tasks, from one in two (parity) to one in thousands (addition): compare each "
                "with its own line.",
                "Prompts that a test asks are kept out of training, except where there are too many to meet one twice. "
                "Unscramble holds out scrambles, not words: it asks for words that the model has learned.",
                "A program counts as right when it computes the right number; the exact program is the whole answer. "
                "False beliefs are judged alone: on the mixture, a model that answers where the ball is looks good.",
                "Under other budgets a size keeps the learning rate that was chosen for its own steps.",
                "These sizes say when an ability appears at this recipe and budget, not what a task needs: smaller "
                "models succeed with more steps, and tasks differ in steps."}};

}  // namespace surtsey::experiments
