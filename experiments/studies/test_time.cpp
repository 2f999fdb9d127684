// What does more computation at the time of the question buy? Models that are not fully trained
// answer greedily and by k samples: a vote over them (maj@k) and the chance that one is right
// (pass@k), against the tokens that they cost.
//
//   chain  running sums, one path to the answer: what is not known is not known the same way in
//          every sample
//   paths  the same sum in an order that the answer chooses (tasks/paths.h): samples go different
//          ways, and err in different places
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/evaluate/answers.h"
#include "experiments/evaluate/interview.h"
#include "experiments/results/voting.h"
#include "experiments/statistics/curves.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/chain.h"
#include "experiments/tasks/paths.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kChain = "chain";
constexpr const char* kPaths = "paths";
constexpr const char* kVariant = "cot";
constexpr const char* kGreedy = "cot";

struct Options {
  SweepOptions sweep;  // widths, steps and batch_size are the chain's
  int32_t length = 8;
  int32_t paths_length = 5;
  int32_t paths_steps = 0;
  std::vector<int32_t> samples = {1, 2, 4, 8, 16};  // k, rising
  std::vector<double> temperatures = {0.5, 1};
  double margin = 0.05;  // claims: a difference that counts
  // Greedy accuracy of a model that knows something and not all: the others are not in the claims.
  double least = 0.2;
  double most = 0.9;
};

std::string temperature_arm(double temperature) { return fmt::format("T={}", temperature); }
std::string vote(int32_t k) { return fmt::format("maj@{}", k); }
std::string pass(int32_t k) { return fmt::format("pass@{}", k); }
std::string over_greedy(int32_t k) { return vote(k) + " - greedy"; }
std::string over_single(int32_t k) { return vote(k) + " - single"; }

const Measure& measure_of(const Cell& cell, double temperature, const std::string& name) {
  const Measure* found = cell.find_measure(temperature_arm(temperature) + "." + name);
  check(found != nullptr, "[test_time] '{}' has no measure '{}'", cell.cell, name);
  return *found;
}

// Above 0: no gain at all is not one.
Verdict gains(const Interval& gain) {
  if (gain.low > 0) return Verdict::kPass;
  return gain.high <= 0 ? Verdict::kFail : Verdict::kInconclusive;
}

// One measure of every model of a task at the highest temperature.
Judgement judge(const StudyResult& result, const Options& options, const char* task, const std::string& name,
                double confidence, const std::function<Verdict(const Interval&)>& rule) {
  std::vector<const Cell*> cells;
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const Cell* cell : claim_cells(result, task, kVariant)) {
    const double greedy = cell->find_arm(kGreedy)->exact_match;
    if (greedy >= options.least && greedy <= options.most) {
      cells.push_back(cell);
    } else {
      evidence.push_back(fmt::format("seed {}: left out, greedy {:.3f}", cell->seed, greedy));
    }
  }
  for (const Cell* cell : cells) {
    const Measure& measure = measure_of(*cell, options.temperatures.back(), name);
    const Interval interval = measure_interval(measure, confidence);
    verdicts.push_back(rule(interval));
    evidence.push_back(fmt::format("seed {}: {:.3f} [{:.3f}, {:.3f}], greedy {:.3f}", cell->seed, measure.mean,
                                   interval.low, interval.high, cell->find_arm(kGreedy)->exact_match));
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

Figure tokens_figure(const StudyResult& result, const Options& options, const char* task, int32_t answer_length) {
  Figure figure{fmt::format("{}: accuracy against tokens spent on a question", task),
                "Means over seeds and questions. Solid: a vote. Dashed: at least one sample is "
                "right.",
                {"tokens of the answers", true},
                {"share of questions", false},
                {}};
  const auto cells = claim_cells(result, task, kVariant);
  if (cells.empty()) return figure;
  std::vector<double> greedy;
  for (const Cell* cell : cells) greedy.push_back(cell->find_arm(kGreedy)->exact_match);
  figure.references = {{"greedy, one answer", mean(greedy)}, {"guessing", cells.front()->chance}};
  for (const double temperature : options.temperatures) {
    for (const bool voted : {true, false}) {
      FigureSeries& series = figure.series.emplace_back();
      series.name = temperature_arm(temperature) + (voted ? " maj@k" : " pass@k");
      series.dashed = !voted;
      for (const int32_t k : options.samples) {
        std::vector<double> shares;
        for (const Cell* cell : cells) {
          shares.push_back(measure_of(*cell, temperature, voted ? vote(k) : pass(k)).mean);
        }
        series.points.push_back({static_cast<double>(k) * answer_length, mean(shares)});
      }
    }
  }
  return figure;
}

// The greedy answer, and k samples of every question.
class Asking : public Interview {
 public:
  Asking(const Options& options, const tasks::Task& task) : options_(options), task_(task) {}

  void ask(Evaluator& evaluator, int64_t, bool, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    const SweepOptions& sweep = options_.sweep;
    const ArmAnswers greedy = evaluator.answer(task_, 0, sweep.test_items, static_cast<uint32_t>(sweep.test_seed));
    add_answer_lines(task_, cells, greedy, samples);
    for (const double temperature : options_.temperatures) {
      sample(evaluator.decoder(), temperature, cells, greedy, samples);
    }
  }

 private:
  // A line a sample, and a line a question with its votes.
  void sample(Decoder& decoder, double temperature, std::span<Cell> cells, const ArmAnswers& greedy,
              std::vector<SampleLine>& samples) const {
    const auto most = static_cast<size_t>(options_.samples.back());
    const auto block = static_cast<size_t>(task_.block_size());
    std::vector<DecodeRow> rows;
    for (const tasks::Item& item : greedy.items) {
      DecodeRow row;
      row.tokens.assign(block, task_.padding_token());
      std::copy(item.prompt().begin(), item.prompt().end(), row.tokens.begin());
      row.length = item.prompt_length;
      rows.insert(rows.end(), most, row);
    }
    const int32_t start = greedy.items.front().prompt_length;
    const int32_t length = greedy.items.front().answer_length;
    decoder.set_sampling(temperature, static_cast<uint32_t>(options_.sweep.test_seed));
    const auto written = decoder.decode(std::vector(cells.size(), rows), start, start + length, task_.padding_token());
    decoder.set_sampling(0, 0);
    for (size_t e = 0; e < cells.size(); ++e) {
      const auto greedy_responses = responses_of(greedy, e);
      for (size_t i = 0; i < greedy.items.size(); ++i) {
        std::vector<int32_t> finals;
        for (size_t s = 0; s < most; ++s) {
          const size_t first = (i * most + s) * block + static_cast<size_t>(start);
          const auto response = std::span(written[e]).subspan(first, static_cast<size_t>(length));
          finals.push_back(response.back());
          samples.push_back(answer_line(task_, cells[e].cell, greedy.items[i], i, response));
          samples.back().arm = temperature_arm(temperature) + " sample";
        }
        samples.push_back(
            voted_line(cells[e].cell, temperature, greedy.items[i], i, finals, greedy_responses[i].back()));
      }
    }
  }

  SampleLine voted_line(const std::string& cell, double temperature, const tasks::Item& item, size_t index,
                        const std::vector<int32_t>& finals, int32_t greedy) const {
    const int32_t target = item.answer().back(), winner = majority(finals);
    const auto right = std::count(finals.begin(), finals.end(), target);
    const auto count = static_cast<int64_t>(finals.size());
    SampleLine line;
    line.cell = cell;
    line.arm = temperature_arm(temperature);
    line.index = static_cast<int64_t>(index);
    line.prompt = task_.decode(item.prompt());
    line.target = task_.decode(std::vector{target});
    line.response = task_.decode(std::vector{winner});
    line.correct = line.chain_correct = winner == target;
    for (const int32_t k : options_.samples) {
      line.measures.emplace_back(vote(k), majority_at_k(finals, target, k));
      line.measures.emplace_back(pass(k), pass_at_k(count, right, k));
    }
    const double voted = line.correct ? 1 : 0;
    const int32_t most = options_.samples.back();
    line.measures.emplace_back(over_greedy(most), voted - (greedy == target ? 1 : 0));
    line.measures.emplace_back(over_single(most), voted - static_cast<double>(right) / static_cast<double>(count));
    return line;
  }

  const Options& options_;
  const tasks::Task& task_;
};

class TestTime : public Study {
 public:
  std::string_view name() const override { return "test_time"; }
  std::string_view title() const override { return "More answers to one question"; }
  std::string_view question() const override {
    return "Does a vote over sampled chains of thought beat one chain, and does it take several "
           "paths to the answer?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.widths = {16};
    sweep.learning_rates = {0.16};
    if (scale != "quick") {
      sweep.widths = {16, 32, 64};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.test_items = 1000;
      sweep.evaluation_rows = 4000;
      sweep.steps = 300;
      options_.paths_steps = 500;
      options_.samples = {1, 2, 4, 8, 16, 32, 64};
      if (scale == "full") return;
      // Wang et al. (2022) draw 40 samples at 0.5 to 0.7, the usual harness 64 at 0.2.
      sweep.widths = {16, 32, 64, 128, 256};
      sweep.seeds = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      sweep.test_items = 5000;
      options_.temperatures = {0.2, 0.5, 0.7, 1};
    } else {
      sweep.test_items = 500;
      sweep.evaluation_rows = 500;
      sweep.steps = 300;
      options_.paths_steps = 500;
    }
  }

  void add_fields(ConfigTable& table) override {
    add_sweep_fields(table, options_.sweep, false);
    table.add("length", &options_.length, "digits in a chain problem").at_least(2).at_most(1000);
    table.add("paths_length", &options_.paths_length, "digits in a paths problem").at_least(2).at_most(26);
    table.add("paths_steps", &options_.paths_steps, "optimizer steps of the paths task").at_least(1);
    table.add("samples", &options_.samples, "answers to a question: each k of maj@k and pass@k").at_least(1);
    table.add("temperatures", &options_.temperatures, "of the samples").at_least(0.01);
    table.add("least", &options_.least, "claims: greedy accuracy from which a model is in them").at_least(0).at_most(1);
    table.add("most", &options_.most, "claims: greedy accuracy up to which a model is in them").at_least(0).at_most(1);
    table.add("margin", &options_.margin, "claims: a difference of accuracies that counts").at_least(0).at_most(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    check(options_.sweep.learning_rates.size() == 1,
          "learning_rates: these models stop early on purpose, one rate is not chosen among others");
    const auto rising = [](const auto& list, const char* name) {
      check(!list.empty() && std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) == list.end(),
            "{} must rise", name);
    };
    rising(options_.samples, "samples");
    rising(options_.temperatures, "temperatures");
    tasks::PathsTask({.length = options_.paths_length});
  }

  void run(StudyRun& run) override {
    const tasks::ChainTask chain = make_chain();
    const tasks::PathsTask paths({.length = options_.paths_length});
    for (const int32_t width : options_.sweep.widths) {
      ask(run, kChain, chain, width, options_.sweep.steps);
      ask(run, kPaths, paths, width, options_.paths_steps);
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    const int32_t most = options.samples.back();
    const double hot = options.temperatures.back();
    std::vector<DeclaredClaim> claims;
    for (const char* task : {kChain, kPaths}) {
      claims.push_back({fmt::format("{}_beats_single", task),
                        fmt::format("{}, models whose greedy accuracy is in [{}, {}]: the vote over {} samples at "
                                    "temperature {} is right more often than one "
                                    "sample, in every such model.",
                                    task, options.least, options.most, most, hot),
                        [=](const StudyResult& result, double confidence) {
                          return judge(result, options, task, over_single(most), confidence, gains);
                        }});
    }
    claims.push_back(
        {"chain_not_greedy",
         fmt::format("chain: that vote beats the greedy answer by at most {}, in every such model.", options.margin),
         [=](const StudyResult& result, double confidence) {
           return judge(result, options, kChain, over_greedy(most), confidence,
                        [&](const Interval& gain) { return at_most(gain, options.margin); });
         }});
    claims.push_back({"paths_beats_greedy",
                      "paths: that vote is right more often than the greedy answer, in every such model.",
                      [=](const StudyResult& result, double confidence) {
                        return judge(result, options, kPaths, over_greedy(most), confidence, gains);
                      }});
    return claims;
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    const tasks::ChainTask chain = make_chain();
    const tasks::PathsTask paths({.length = options_.paths_length});
    result.settings = {
        {"chain", fmt::format("{} digits, {} steps of {} sequences", options_.length, sweep.steps, sweep.batch_size)},
        {"paths", fmt::format("{} digits, {} steps of {} sequences", options_.paths_length, options_.paths_steps,
                              sweep.batch_size)},
        {"samples of a question", fmt::to_string(options_.samples.back())},
        {"temperatures", fmt::format("{}", fmt::join(options_.temperatures, ", "))},
        {"learning rate", fmt::format("{} / d", sweep.learning_rates.front())},
        {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
        {"test items", fmt::to_string(sweep.test_items)}};
    result.figures = {tokens_figure(result, options_, kChain, chain.answer_length(0)),
                      tokens_figure(result, options_, kPaths, paths.answer_length(0))};
    result.caveats = {
        "These models are stopped early: a model that is always right, or always guesses, gains "
        "nothing from a vote, and is left out of the claims.",
        "pass@k knows which sample is right, which no vote does: it bounds what choosing among the "
        "samples could reach.",
        "Differences are paired by question; the unit of their intervals is the question, not the "
        "training.",
        "The greedy answer costs one answer's tokens, a vote k of them: compare at the same place "
        "of the axis."};
  }

 private:
  tasks::ChainTask make_chain() const {
    tasks::ChainOptions chain;
    chain.length = options_.length;
    chain.arms = {"cot"};
    return tasks::ChainTask(chain);
  }

  void ask(StudyRun& run, const char* name, const tasks::Task& data, int32_t width, int32_t steps) const {
    const Asking asking(options_, data);
    Experiment experiment = sweep_experiment(options_.sweep, name, kVariant, &data, width);
    experiment.steps = steps;
    experiment.interview = &asking;
    run_experiment(run, options_.sweep, experiment);
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::TestTime study;
  return surtsey::experiments::run_study(argc, argv, study);
}
