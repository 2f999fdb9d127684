// Does a network understand long after it has learned by heart? Modular addition from part of its
// table (Power et al. 2022): with weight decay the accuracy on pairs that training never shows
// should rise to one long after that on trained pairs has, and without weight decay not within the
// budget.
//
// Models are asked at steps that grow geometrically; how often, is how exactly the two moments are
// known.
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/evaluate/answers.h"
#include "experiments/evaluate/interview.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/modular.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kDecay = "weight decay";
constexpr const char* kNoDecay = "no weight decay";
constexpr const char* kFirst[] = {"trained from step", "held out from step"};

struct Options {
  SweepOptions sweep;  // its learning rate is not divided by the width here; one width
  tasks::ModularOptions data;
  int32_t n_head = 4;
  double weight_decay = 1;
  int32_t warmup_steps = 10;
  double growth = 1.2;  // of the step from one question to the next
  // Bounds of the claims.
  double by_heart = 0.99;    // accuracy on trained pairs
  double understood = 0.95;  // accuracy on held-out pairs
  double ratio = 5;          // of the two steps
};

std::string at_step(const char* arm, int64_t step) { return fmt::format("{} at {}", arm, step); }

// Steps after which models are asked, the last of the run included.
std::vector<int64_t> asked_steps(const Options& options) {
  std::vector<int64_t> steps;
  double next = 10;
  while (static_cast<int64_t>(next) < options.sweep.steps) {
    steps.push_back(static_cast<int64_t>(next));
    next = std::max(next + 1, next * options.growth);
  }
  steps.push_back(options.sweep.steps);
  return steps;
}

// The step of a moment, or nothing: it never came.
double moment(const Cell& cell, size_t which) {
  const Measure* found = cell.find_measure(kFirst[which]);
  return found != nullptr ? found->mean : std::numeric_limits<double>::infinity();
}

Judgement judge_delay(const StudyResult& result, const Options& options) {
  const auto cells = claim_cells(result, "", kDecay);
  std::vector<double> ratios;
  std::vector<std::string> evidence;
  bool memorised = true;
  for (const Cell* cell : cells) {
    const double trained = moment(*cell, 0), held_out = moment(*cell, 1);
    memorised = memorised && std::isfinite(trained);
    ratios.push_back(held_out / trained);
    evidence.push_back(fmt::format("seed {}: {} and {}", cell->seed, trained, held_out));
  }
  std::sort(ratios.begin(), ratios.end());
  const std::string text = "steps: " + join(evidence, "; ");
  if (ratios.empty() || !memorised || !std::isfinite(ratios[ratios.size() / 2])) {
    return {Verdict::kInconclusive, text + " (inf: not within the budget)", count_seeds(cells)};
  }
  return {ratios[ratios.size() / 2] >= options.ratio ? Verdict::kPass : Verdict::kFail,
          fmt::format("{}; median ratio {:.1f}", text, ratios[ratios.size() / 2]), count_seeds(cells)};
}

Judgement judge_no_decay(const StudyResult& result, const Options& options, double confidence) {
  const auto cells = claim_cells(result, "", kNoDecay);
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const Cell* cell : cells) {
    const ArmResult& arm = *cell->find_arm("held_out");
    verdicts.push_back(at_most(exact_match_interval(arm, confidence), options.understood));
    if (!std::isfinite(moment(*cell, 0))) verdicts.push_back(Verdict::kInconclusive);
    evidence.push_back(fmt::format("seed {}: {:.3f}, trained {:.3f}", cell->seed, arm.exact_match,
                                   cell->find_arm("trained")->exact_match));
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

Figure curves_figure(const StudyResult& result, const Options& options) {
  Figure figure{"Accuracy while training goes on",
                "Means over seeds; dashed: pairs that training never shows.",
                {"steps", true},
                {"accuracy", false},
                {},
                {}};
  for (const char* variant : {kDecay, kNoDecay}) {
    for (const char* arm : {"trained", "held_out"}) {
      FigureSeries& series = figure.series.emplace_back();
      series.name = fmt::format("{}, {}", variant, arm);
      series.marks = false;
      series.dashed = arm == std::string_view("held_out");
      for (const int64_t step : asked_steps(options)) {
        std::vector<double> accuracy;
        for (const Cell* cell : claim_cells(result, "", variant)) {
          const Measure* found = cell->find_measure(at_step(arm, step));
          if (found != nullptr) accuracy.push_back(found->mean);
        }
        if (!accuracy.empty()) series.points.push_back({double(step), mean(accuracy)});
      }
    }
  }
  return figure;
}

// How much of either half of the table the models know, as training goes on.
class Watching : public Interview {
 public:
  Watching(const Options& options, const tasks::ModularTask& task) : options_(options), task_(task) {}

  std::vector<int64_t> steps(int64_t) const override { return asked_steps(options_); }

  void ask(Evaluator& evaluator, int64_t step, bool last, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    const double bounds[] = {options_.by_heart, options_.understood};
    for (int32_t arm = 0; arm < 2; ++arm) {
      const ArmAnswers answers = evaluator.answer(task_, arm, options_.sweep.test_items, 0);
      if (last) add_answer_lines(task_, cells, answers, samples);
      const auto items = static_cast<int64_t>(answers.items.size());
      const std::string& name = task_.arms()[static_cast<size_t>(arm)];
      for (size_t e = 0; e < cells.size(); ++e) {
        int64_t right = 0;
        for (size_t i = 0; i < answers.items.size(); ++i) {
          right += answers.responses[e][i] == answers.items[i].answer()[0] ? 1 : 0;
        }
        const double share = static_cast<double>(right) / static_cast<double>(items);
        const double error = std::sqrt(share * (1 - share) / static_cast<double>(items));
        cells[e].measures.push_back({at_step(name.c_str(), step), share, error, items});
        if (share < bounds[arm] || cells[e].find_measure(kFirst[arm]) != nullptr) continue;
        cells[e].measures.push_back({kFirst[arm], static_cast<double>(step), 0, 1});
      }
    }
  }

 private:
  const Options& options_;
  const tasks::ModularTask& task_;
};

class Grokking : public Study {
 public:
  std::string_view name() const override { return "grokking"; }
  std::string_view title() const override { return "By heart first, understood later"; }
  std::string_view question() const override {
    return "Does the accuracy on pairs that training never shows follow that on trained pairs, "
           "long after, and only with weight decay?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.learning_rates = {1e-3};
    sweep.test_items = 10000;
    if (scale == "quick") {
      sweep.widths = {32};
      sweep.n_layer = 1;
      sweep.seeds = {0};
      sweep.steps = 400;
      sweep.batch_size = 240;
      sweep.evaluation_rows = 256;
      sweep.learning_rates = {4e-3};
      options_.data.modulus = 31;
      options_.growth = 1.5;
      return;
    }
    sweep.widths = {128};
    sweep.seeds = scale == "paper" ? std::vector<int32_t>{0, 1, 2, 3, 4} : std::vector<int32_t>{0, 1, 2};
    sweep.steps = 100000;
    sweep.batch_size = 512;
    sweep.evaluation_rows = 2500;
    sweep.log_interval = 500;
  }

  void add_fields(ConfigTable& table) override {
    SweepOptions& sweep = options_.sweep;
    table.add("widths", &sweep.widths, "n_embd, one").at_least(2);
    table.add("n_layer", &sweep.n_layer, "blocks").at_least(1);
    table.add("n_head", &options_.n_head, "heads").at_least(1);
    table.add("learning_rates", &sweep.learning_rates, "of AdamW after the warm-up, one").at_least(0);
    table.add("weight_decay", &options_.weight_decay, "where there is one").at_least(0);
    table.add("warmup_steps", &options_.warmup_steps, "linear").at_least(0);
    table.add("steps", &sweep.steps, "optimizer steps").at_least(1);
    table.add("batch_size", &sweep.batch_size, "pairs a step").at_least(1);
    add_run_fields(table, sweep, false);
    table.add("modulus", &options_.data.modulus, "of the addition").at_least(3);
    table.add("trained_share", &options_.data.trained_share, "of the pairs").at_least(0.05).at_most(0.95);
    table.add("growth", &options_.growth, "of the step from one question to the next").at_least(1.01);
    table.add("by_heart", &options_.by_heart, "claims: accuracy on trained pairs that counts").at_least(0).at_most(1);
    table.add("understood", &options_.understood, "claims: accuracy on held-out pairs that counts")
        .at_least(0)
        .at_most(1);
    table.add("ratio", &options_.ratio, "claims: so many times later").at_least(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    check(options_.sweep.widths.size() == 1 && options_.sweep.learning_rates.size() == 1,
          "widths and learning_rates take one value each here");
    tasks::ModularTask task(options_.data);
    check_config(model());
  }

  void run(StudyRun& run) override {
    const tasks::ModularTask task(options_.data);
    const Watching watching(options_, task);
    const SweepOptions& sweep = options_.sweep;
    for (const char* variant : {kDecay, kNoDecay}) {
      Experiment experiment = sweep_experiment(sweep, "", variant, &task, sweep.widths.front());
      experiment.learning_rates = sweep.learning_rates;
      experiment.model = model();
      graph::OptimizerConfig optimizer;
      optimizer.beta2 = 0.98;
      optimizer.clip_norm = 0;
      optimizer.weight_decay = variant == kDecay ? options_.weight_decay : 0;
      optimizer.schedule = {graph::Decay::none, options_.warmup_steps};
      experiment.optimizer = optimizer;
      experiment.interview = &watching;
      run_experiment(run, sweep, experiment);
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    return {
        {"delay",
         fmt::format("With weight decay, in the median over seeds, accuracy on held-out pairs "
                     "reaches {} at no less than {} times the step at which accuracy on trained "
                     "pairs reaches {}.",
                     options.understood, options.ratio, options.by_heart),
         [=](const StudyResult& result, double) { return judge_delay(result, options); }},
        {"needs_decay",
         fmt::format("Without weight decay every model learns the trained pairs and stays below {} "
                     "on held-out pairs to the end of the run.",
                     options.understood),
         [=](const StudyResult& result, double confidence) { return judge_no_decay(result, options, confidence); }}};
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    result.settings = {
        {"table", fmt::format("addition modulo {}, {} of the pairs trained", options_.data.modulus,
                              options_.data.trained_share)},
        {"model", fmt::format("{} blocks of width {}, {} heads", sweep.n_layer, sweep.widths.front(), options_.n_head)},
        {"training", fmt::format("{} steps of {} pairs, warm-up {} steps, then constant", sweep.steps, sweep.batch_size,
                                 options_.warmup_steps)},
        {"learning rate", fmt::format("{}", sweep.learning_rates.front())},
        {"weight decay", fmt::format("{} or 0", options_.weight_decay)},
        {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))}};
    result.figures = {curves_figure(result, options_)};
    result.caveats = {
        "Guessing is right once in as many times as there are numbers.",
        "Batches are drawn with replacement from the trained pairs, not in epochs.",
        fmt::format("A moment is known to a factor of {}: models are asked at such steps.", options_.growth),
        "The quick scale is a smoke run: it is too short for the claims, which then stay open."};
  }

 private:
  ModelConfig model() const {
    const SweepOptions& sweep = options_.sweep;
    ModelConfig config = recipe_config(sweep.n_layer, sweep.widths.front(), options_.data.modulus + 2, 5);
    config.n_head = options_.n_head;
    return config;
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::Grokking study;
  return surtsey::experiments::run_study(argc, argv, study);
}
