// What does the way of asking decide? The same weights under formats, numbers and orders of examples, an instruction
// and a chain, and what becomes of "A is better than B" when the format changes.
#include "experiments/study/study.h"
#include "experiments/tasks/prompt_formats.h"

namespace surtsey::experiments {
namespace {

using tasks::prompt_formats;
using tasks::PromptFormat;

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{16, 32}, {32, 48, 64}, {64, 128}},
                   .n_layer = {2, 4},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .steps = {500, 4000, 20'000},
                   .batch_size = {96, 256},
                   .seeds = {{0, 1}, seeds(5)},
                   .test_items = {500, 2000}}) {}
  Key<int32_t> symbols{this, "symbols", {10}, "symbols of rules and of sums", 3, 100};
  Key<int32_t> rules{this, "rules", {6, 16}, "permutations to memorise", 1, 1000};
  Key<int32_t> shots{this, "shots", {3, 5}, "examples before a question", 1, 99};
  Key<int32_t> length{this, "length", {6}, "digits of a sum", 2, 100};

  double chance() const { return 1.0 / symbols; }
};

void check_keys(const Keys& k) {
  check(k.sweep.widths.size() > 1, "widths: a ranking wants two sizes at least");
  check_rising(k.sweep.widths, "widths");
  tasks::PromptFormatsTask({k.symbols, k.rules, k.shots, k.length});
}

void experiments(const Keys& k, Experiments& list) {
  const auto task =
      std::make_shared<tasks::PromptFormatsTask>(tasks::PromptFormatsOptions{k.symbols, k.rules, k.shots, k.length});
  for (const int32_t width : k.sweep.widths) list.add("", "mixture", task, width);
}

std::vector<std::string> format_arms(std::optional<bool> held_out = {}) {
  std::vector<std::string> arms;
  for (const PromptFormat& format : prompt_formats()) {
    if (!held_out || format.held_out() == *held_out) arms.push_back(format.name());
  }
  return arms;
}

std::string first_format() { return prompt_formats().front().name(); }

// All examples of the first format, in every order.
std::vector<std::string> order_arms(const Keys& k) {
  std::vector<std::string> arms = {first_format()};
  for (int32_t turn = 1; turn < k.shots; ++turn) arms.push_back(fmt::format("order_{}", turn));
  return arms;
}

// The best and the worst arm differ by at most a bound, each at the confidence that so many arms ask for.
Test spread_at_most(const std::vector<std::string>& arms, double bound) {
  std::vector<Score> shown;
  for (const std::string& arm : arms) shown.push_back(exact_match(arm).named(arm));
  return {shown, [=](const Cell& cell, double confidence) {
            std::vector<Interval> intervals;
            for (const Score& score : shown)
              intervals.push_back(score.interval(cell, corrected(confidence, arms.size())));
            const auto extreme = [&](double Interval::* end, bool most) {
              std::vector<double> ends;
              for (const Interval& one : intervals) ends.push_back(one.*end);
              return most ? *std::max_element(ends.begin(), ends.end()) : *std::min_element(ends.begin(), ends.end());
            };
            // Between the highest and the lowest accuracy lies at least the one, at most the other.
            return at_most(Interval{extreme(&Interval::low, true) - extreme(&Interval::high, false),
                                    extreme(&Interval::high, true) - extreme(&Interval::low, false)},
                           bound);
          }};
}

Bound above_chance() {
  return [](const Interval& interval, const Cell& cell) { return at_least(interval, cell.chance); };
}

// ---- What a reader of one format would conclude ----

struct Ranking {
  int64_t wide = 0, narrow = 0, open = 0;  // formats that put the one above, the other, or neither
  int64_t formats() const { return wide + narrow + open; }
};

// Of the largest and the smallest model of a seed.
Ranking rank(const Cell& wide, const Cell& narrow, double confidence) {
  Ranking ranking;
  for (const std::string& arm : format_arms()) {
    const Interval a = exact_match(arm).interval(wide, confidence), b = exact_match(arm).interval(narrow, confidence);
    ranking.wide += a.low > b.high ? 1 : 0;
    ranking.narrow += b.low > a.high ? 1 : 0;
    ranking.open += disjoint(a, b) ? 0 : 1;
  }
  return ranking;
}

std::string text_of(const Ranking& ranking) {
  const Interval share = wilson(ranking.wide, ranking.formats());
  return fmt::format("the wider is better in {} of {} formats ({:.2f} [{:.2f}, {:.2f}]), worse in {}, undecided in {}",
                     ranking.wide, ranking.formats(), double(ranking.wide) / double(ranking.formats()), share.low,
                     share.high, ranking.narrow, ranking.open);
}

// (seed, largest, smallest), of seeds that have both.
struct Pair {
  uint32_t seed = 0;
  const Cell *wide = nullptr, *narrow = nullptr;
};
std::vector<Pair> pairs(const StudyResult& result) {
  std::vector<Pair> list;
  for (const Cell* wide : cells("", "mixture").largest().of(result))
    for (const Cell* narrow : cells("", "mixture").smallest().of(result))
      if (wide != narrow && wide->seed == narrow->seed) list.push_back({wide->seed, wide, narrow});
  return list;
}

// PASS of a seed: formats that decide agree. FAIL: they contradict each other, each at the confidence that so many
// formats ask for.
Judgement formats_agree(const StudyResult& result, double confidence) {
  Parts parts;
  for (const auto& [seed, wide, narrow] : pairs(result)) {
    const Ranking sure = rank(*wide, *narrow, corrected(confidence, 2 * prompt_formats().size()));
    const bool decided = sure.wide + sure.narrow > 0;
    parts.add(sure.wide > 0 && sure.narrow > 0 ? Verdict::kFail
              : decided                        ? Verdict::kPass
                                               : Verdict::kInconclusive,
              fmt::format("seed {}: {}", seed, text_of(sure)), 1);
  }
  return parts.judgement();
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Pick largest = cells("", "mixture").largest();
  const auto arm = [](const std::string& name) { return exact_match(name).named(name); };
  std::vector<Test> unseen;
  for (const std::string& name : format_arms(true)) unseen.push_back(is(arm(name), above_chance()));
  return {
      {"examples", "In every seed of the largest size {shots} examples answer more questions than none.",
       every_seed(largest, above(arm(first_format()), arm("0_shot")))},
      {"instruction",
       "In every seed of the largest size an instruction answers more questions than none, without examples.",
       every_seed(largest, above(arm("instructed"), arm("0_shot")))},
      {"chain", "In every seed of the largest size sums are right more often step by step than at once.",
       every_seed(largest, above(arm("cot"), arm("direct")))},
      {"formats",
       "In every seed of the largest size the best and the worst of the trained formats differ by at most what "
       "guessing "
       "gives, one in {symbols}.",
       every_seed(largest, spread_at_most(format_arms(false), k.chance()))},
      {"unseen_formats",
       "In every seed of the largest size every format that was never trained is above guessing, one in {symbols}.",
       every_seed(largest, all_of(unseen))},
      {"orders",
       "In every seed of the largest size the orders of the same examples differ by at most what guessing gives, one "
       "in "
       "{symbols}.",
       every_seed(largest, spread_at_most(order_arms(k), k.chance()))},
      {"ranking",
       "In every seed no format puts the largest size above the smallest while another puts it below: whatever format "
       "is read, who decides decides alike.",
       formats_agree}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  const auto with_interval = [](Curves& curves, const std::string& line, double x, const Cell& cell,
                                const std::string& arm) {
    const Interval interval = exact_match(arm).interval(cell, .95);
    curves.add(line, FigurePoint{x, exact_match(arm).value(cell), interval.low, interval.high});
  };
  std::string key;
  const std::vector<std::string> formats = format_arms();
  for (size_t i = 0; i < formats.size(); ++i) key += fmt::format("{}{} {}", i > 0 ? ", " : "", i + 1, formats[i]);
  Curves by_format("Accuracy by format, all examples",
                   fmt::format("One model a line, 95% intervals; a * was never trained. {}.", key), {"format"},
                   {"exact match"}, {{"guessing", k.chance()}});
  Curves by_shots("Accuracy by examples, the first format", "Means over seeds, with 95% intervals over them.",
                  {"examples"}, {"exact match"}, {{"guessing", k.chance()}});
  Curves rankings("Formats that decide between the largest and the smallest size",
                  "Share of formats whose 95% intervals are disjoint, with Wilson's interval over formats.", {"seed"},
                  {"share of formats"});
  for (const Cell* cell : cells("", "mixture").of(result)) {
    const std::string line = fmt::format("{} wide, seed {}", cell->n_embd, cell->seed);
    for (size_t i = 0; i < formats.size(); ++i) with_interval(by_format, line, double(i + 1), *cell, formats[i]);
    const std::string size = fmt::format("{} wide", cell->n_embd);
    by_shots.line(size, {.spread = true});
    for (int32_t shot = 0; shot < k.shots; ++shot)
      by_shots.add(size, {cell}, shot, exact_match(fmt::format("{}_shot", shot)));
    by_shots.add(size, {cell}, *k.shots, exact_match(first_format()));
  }
  for (const auto& [seed, wide, narrow] : pairs(result)) {
    const Ranking ranking = rank(*wide, *narrow, .95);
    for (const auto& [line, count] :
         {std::pair{"largest is better", ranking.wide}, {"smallest is better", ranking.narrow}}) {
      const Interval share = wilson(count, ranking.formats());
      rankings.add(line, FigurePoint{double(seed), double(count) / double(ranking.formats()), share.low, share.high});
    }
  }
  return {by_format.figure(), by_shots.figure(), rankings.figure()};
}

// What a reader of one format alone would say, at the usual 95%.
Facts settings(const Keys&, const StudyResult& result) {
  Facts facts;
  for (const auto& [seed, wide, narrow] : pairs(result))
    facts.emplace_back(fmt::format("one format read alone, seed {}", seed), text_of(rank(*wide, *narrow, .95)));
  return facts;
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"prompting", "What the way of asking decides",
             "How much of an accuracy is the format, the examples, their order, an instruction or a chain, and does a "
             "comparison of two models survive another format?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats =
        {"The rules are memorised in training: examples and instructions choose among known rules, as in few_shot.",
         "Formats differ in one token at most in each place, and a third of them are new combinations of trained "
         "parts: a language has more ways to ask.",
         "The share of formats has Wilson's interval as if formats were drawn from many; there are twelve, and "
         "their results are not independent, as they share weights and questions.",
         "Sizes are compared seed by seed on the same questions: the intervals are of questions, not of trainings."},
    .settings = settings};

}  // namespace surtsey::experiments
