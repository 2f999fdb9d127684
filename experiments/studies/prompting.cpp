// What does the way of asking decide? The same weights under formats, numbers and orders of examples, an instruction
// and a chain, and what becomes of "A is better than B" when the format changes:
//
//   mixture     trained on eight of twelve formats, at every width
//   specialist  trained on the first format alone, at the largest width, on as many sequences
//
// Compared are the largest and the smallest mixture, and the largest mixture and the specialist.
#include "experiments/study/study.h"
#include "experiments/tasks/prompt_formats.h"

namespace surtsey::experiments {
namespace {

using tasks::prompt_formats;
using tasks::PromptFormat;

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{12, 24}, {32, 48, 64}, {64, 128}},
                   .n_layer = {2, 4},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .steps = {1200, 4000, 20'000},
                   .batch_size = {32, 256},
                   .seeds = {{0}, seeds(5)},
                   .test_items = {500, 2000}}) {}
  Key<int32_t> symbols{this, "symbols", {8, 10}, "symbols of rules and of sums", 3, 100};
  Key<int32_t> rules{this, "rules", {4, 16}, "permutations to memorise", 1, 1000};
  Key<int32_t> shots{this, "shots", {2, 5}, "examples before a question", 1, 99};
  Key<int32_t> length{this, "length", {4, 8}, "digits of a sum", 2, 100};

  double chance() const { return 1.0 / symbols; }
};

void check_keys(const Keys& k) {
  check(k.sweep.widths.size() > 1, "widths: a ranking wants two sizes at least");
  check_rising(k.sweep.widths, "widths");
  tasks::PromptFormatsTask({k.symbols, k.rules, k.shots, k.length});
}

void experiments(const Keys& k, Experiments& list) {
  tasks::PromptFormatsOptions options{k.symbols, k.rules, k.shots, k.length};
  const auto mixture = std::make_shared<tasks::PromptFormatsTask>(options);
  for (const int32_t width : k.sweep.widths) list.add("", "mixture", mixture, width);
  options.first_only = true;
  const auto specialist = std::make_shared<tasks::PromptFormatsTask>(options);
  list.add("", "specialist", specialist, k.sweep.widths.back()).rate_of = "mixture";
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
  int64_t first = 0, second = 0, open = 0;  // formats that put the one above, the other, or neither
  int64_t formats() const { return first + second + open; }
};

Ranking rank(const Cell& first, const Cell& second, double confidence) {
  Ranking ranking;
  for (const std::string& arm : format_arms()) {
    const Interval a = exact_match(arm).interval(first, confidence), b = exact_match(arm).interval(second, confidence);
    ranking.first += a.low > b.high ? 1 : 0;
    ranking.second += b.low > a.high ? 1 : 0;
    ranking.open += disjoint(a, b) ? 0 : 1;
  }
  return ranking;
}

std::string text_of(const Ranking& ranking) {
  const Interval share = wilson(ranking.first, ranking.formats());
  return fmt::format("better in {} of {} formats ({:.2f} [{:.2f}, {:.2f}]), worse in {}, undecided in {}",
                     ranking.first, ranking.formats(), double(ranking.first) / double(ranking.formats()), share.low,
                     share.high, ranking.second, ranking.open);
}

// Two models of a seed.
struct Pair {
  std::string name;
  const Cell *first = nullptr, *second = nullptr;
};
std::vector<Pair> pairs_of(const StudyResult& result, const std::string& name, const Pick& one, const Pick& other) {
  std::vector<Pair> list;
  for (const Cell* first : one.of(result))
    for (const Cell* second : other.of(result))
      if (first != second && first->seed == second->seed)
        list.push_back({fmt::format("{}, seed {}", name, first->seed), first, second});
  return list;
}
std::vector<Pair> sizes(const StudyResult& result) {
  return pairs_of(result, "largest against smallest", cells("", "mixture").largest(), cells("", "mixture").smallest());
}
std::vector<Pair> trainings(const StudyResult& result) {
  return pairs_of(result, "mixture against specialist", cells("", "mixture").largest(), cells("", "specialist"));
}

// Formats contradict each other on which of two models is better, each at the confidence that so many ask for. They do
// not, for sure, where all of them decide alike.
using PairsOf = std::vector<Pair> (*)(const StudyResult&);
Judge rankings(PairsOf pairs, Verdict contradiction, Verdict agreement) {
  return [=](const StudyResult& result, double confidence) {
    Parts parts;
    for (const auto& [name, first, second] : pairs(result)) {
      const Ranking sure = rank(*first, *second, corrected(confidence, 2 * prompt_formats().size()));
      const bool both = sure.first > 0 && sure.second > 0, alike = std::max(sure.first, sure.second) == sure.formats();
      parts.add(both    ? contradiction
                : alike ? agreement
                        : Verdict::kInconclusive,
                fmt::format("{}: {}", name, text_of(sure)), 1);
    }
    return parts.judgement();
  };
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
      {"sizes_agree",
       "In every seed every format says the same of the largest and the smallest size: which is better does not depend "
       "on the format that is read.",
       rankings(sizes, Verdict::kFail, Verdict::kPass)},
      {"trainings_contradict",
       "In every seed some format puts the mixture of the largest size above the specialist of its size, and another "
       "puts it below: who reads one format concludes the opposite of who reads another.",
       rankings(trainings, Verdict::kPass, Verdict::kFail)}};
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
  Cells all = cells("", "mixture").of(result);
  for (const Cell* cell : cells("", "specialist").of(result)) all.push_back(cell);
  for (const Cell* cell : all) {
    const std::string line = fmt::format("{}, {} wide, seed {}", cell->variant, cell->n_embd, cell->seed);
    for (size_t i = 0; i < formats.size(); ++i) with_interval(by_format, line, double(i + 1), *cell, formats[i]);
    const std::string size = fmt::format("{}, {} wide", cell->variant, cell->n_embd);
    by_shots.line(size, {.spread = true});
    for (int32_t shot = 0; shot < k.shots; ++shot)
      by_shots.add(size, {cell}, shot, exact_match(fmt::format("{}_shot", shot)));
    by_shots.add(size, {cell}, *k.shots, exact_match(first_format()));
  }
  return {by_format.figure(), by_shots.figure()};
}

// What a reader of one format alone would say, at the usual 95%.
Facts settings(const Keys&, const StudyResult& result) {
  Facts facts;
  for (const PairsOf pairs : {sizes, trainings})
    for (const auto& [name, first, second] : pairs(result))
      facts.emplace_back(name + ", one format read alone", text_of(rank(*first, *second, .95)));
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
         "Models are compared seed by seed on the same questions: intervals are of questions, not of trainings.",
         "The specialist has the learning rate of the mixture. Other formats have tokens that it has never seen: what "
         "it does not do there it could learn."},
    .settings = settings};

}  // namespace surtsey::experiments
