// Does a network understand long after it has learned by heart? Modular addition from part of its table (Power et al.
// 2022): with weight decay the accuracy on pairs that training never shows should rise to one long after that on
// trained pairs has, and without weight decay not within the budget.
//
// Models are asked at steps that grow geometrically; how often, is how exactly the two moments are known.
#include "experiments/evaluate/interview.h"
#include "experiments/study/study.h"
#include "experiments/tasks/modular.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kVariants[] = {"weight decay", "no weight decay"};
constexpr const char* kFirst[] = {"trained from step", "held out from step"};

struct Keys : StudyKeys {
  // Learning rates are not divided by the width here; one of each.
  Keys()
      : StudyKeys({.widths = {{32}, {128}},
                   .n_layer = {1, 2},
                   .learning_rates = {{4e-3}, {1e-3}},
                   .steps = {400, 100'000},
                   .batch_size = {240, 512},
                   .seeds = {{0}, seeds(3), seeds(5)},
                   .selection = false,
                   .test_items = {10'000},
                   .evaluation_rows = {256, 2500},
                   .log_interval = {50, 500},
                   .checkpoint_interval = {0}}) {
    explain("widths", "n_embd, one");
    explain("learning_rates", "of AdamW after the warm-up, one");
    explain("batch_size", "pairs a step");
  }
  Key<int32_t> n_head{this, "n_head", {4}, "heads", 1, 1024};
  Key<double> weight_decay{this, "weight_decay", {1}, "where there is one", 0, 1000};
  Steps warmup_steps{this, "warmup_steps", {10}, "linear", 0};
  Key<int32_t> modulus{this, "modulus", {31, tasks::ModularOptions().modulus}, "of the addition", 3, 1000};
  Key<double> trained_share{this, "trained_share", {tasks::ModularOptions().trained_share}, "of the pairs", .05, .95};
  Key<double> growth{this, "growth", {1.5, 1.2}, "of the step from one question to the next", 1.01, 1000};
  Share by_heart{this, "by_heart", {.99}, "claims: accuracy on trained pairs that counts"};
  Share understood{this, "understood", {.95}, "claims: accuracy on held-out pairs that counts"};
  Key<double> ratio{this, "ratio", {5}, "claims: so many times later", 1, 1e6};

  tasks::ModularOptions table() const { return {.modulus = modulus, .trained_share = trained_share}; }

  ModelConfig model() const {
    ModelConfig config = recipe_config(sweep.n_layer, sweep.widths.front(), modulus + 2, 5);
    config.n_head = n_head;
    return config;
  }

  // Steps after which models are asked, the last of the run included.
  std::vector<int64_t> asked() const {
    std::vector<int64_t> steps;
    for (double next = 10; static_cast<int64_t>(next) < sweep.steps; next = std::max(next + 1, next * growth))
      steps.push_back(static_cast<int64_t>(next));
    steps.push_back(sweep.steps);
    return steps;
  }
};

void check_keys(const Keys& k) {
  check(k.sweep.widths.size() == 1 && k.sweep.learning_rates.size() == 1,
        "widths and learning_rates take one value each here");
  tasks::ModularTask task(k.table());
  check_config(k.model());
}

std::string at_step(const std::string& arm, int64_t step) { return fmt::format("{} at {}", arm, step); }

// How much of either half of the table the models know, as training goes on.
struct Watching : InterviewOf<Keys, tasks::ModularTask> {
  using InterviewOf::InterviewOf;

  std::vector<int64_t> steps(int64_t) const override { return k.asked(); }

  void ask(Evaluator& evaluator, int64_t step, bool last, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    const double bounds[] = {k.by_heart, k.understood};
    for (int32_t arm = 0; arm < 2; ++arm) {
      const ArmAnswers answers = evaluator.answer(*task, arm, k.sweep.test_items, 0);
      if (last) add_answer_lines(*task, cells, answers, samples);
      for (size_t e = 0; e < cells.size(); ++e) {
        const std::string& name = task->arms()[static_cast<size_t>(arm)];
        cells[e].measures.push_back(right_share(at_step(name, step), answers, e));
        if (cells[e].measures.back().mean < bounds[arm] || cells[e].find_measure(kFirst[arm]) != nullptr) continue;
        cells[e].measures.push_back({kFirst[arm], static_cast<double>(step), 0, 1});
      }
    }
  }
};

void experiments(const Keys& k, Experiments& list) {
  const auto task = std::make_shared<tasks::ModularTask>(k.table());
  const auto watching = std::make_shared<Watching>(k, task);
  for (const char* variant : kVariants) {
    Experiment& one = list.add("", variant, task, k.sweep.widths.front());
    one.learning_rates = k.sweep.learning_rates;
    one.model = k.model();
    one.optimizer = graph::OptimizerConfig{.beta2 = .98, .clip_norm = 0};
    one.optimizer->weight_decay = variant == kVariants[0] ? *k.weight_decay : 0;
    one.optimizer->schedule = {graph::Decay::none, k.warmup_steps};
    one.interview = watching;
  }
}

// The step of a moment; infinite: it never came.
double moment(const Cell& cell, size_t which) {
  const Measure* found = cell.find_measure(kFirst[which]);
  return found != nullptr ? found->mean : std::numeric_limits<double>::infinity();
}

Judgement judge_delay(const Keys& k, const StudyResult& result) {
  const Cells models = cells("", kVariants[0]).of(result);
  std::vector<double> ratios;
  std::vector<std::string> evidence;
  bool memorised = !without_diverged(models).empty();
  for (const Cell* cell : without_diverged(models)) {
    const double trained = moment(*cell, 0), held_out = moment(*cell, 1);
    memorised = memorised && std::isfinite(trained);
    ratios.push_back(held_out / trained);
    evidence.push_back(fmt::format("seed {}: {} and {}", cell->seed, trained, held_out));
  }
  std::sort(ratios.begin(), ratios.end());
  const std::string text = "steps: " + join(evidence, "; ");
  const double median = memorised ? ratios[ratios.size() / 2] : std::numeric_limits<double>::infinity();
  if (!std::isfinite(median))
    return {Verdict::kInconclusive, text + " (inf: not within the budget)", count_seeds(models)};
  return {pass_if(median >= k.ratio), fmt::format("{}; median ratio {:.1f}", text, median), std::ssize(ratios)};
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Test by_heart = {{}, [](const Cell& cell, double) {
                           return std::isfinite(moment(cell, 0)) ? Verdict::kPass : Verdict::kInconclusive;
                         }};
  return {{"delay",
           "With weight decay, in the median over seeds, accuracy on held-out pairs reaches {understood} at no less "
           "than {ratio} times the step at which accuracy on trained pairs reaches {by_heart}.",
           [&k](const StudyResult& result, double) { return judge_delay(k, result); }},
          {"needs_decay",
           "Without weight decay every model learns the trained pairs and stays below {understood} on held-out pairs "
           "to the end of the run.",
           every_seed(cells("", kVariants[1]), all_of({is(exact_match("held_out"), at_most(k.understood)), by_heart})
                                                   .beside(exact_match("trained").named("trained")))}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  Curves curves("Accuracy while training goes on", "Means over seeds; dashed: pairs that training never shows.",
                {"steps", true}, {"accuracy"});
  for (const char* variant : kVariants) {
    for (const char* arm : {"trained", "held_out"}) {
      const std::string line = fmt::format("{}, {}", variant, arm);
      curves.line(line, {.marks = false, .dashed = arm == std::string_view("held_out")});
      for (const Cell* cell : without_diverged(cells("", variant).of(result)))
        for (const int64_t step : k.asked())
          if (const Measure* found = cell->find_measure(at_step(arm, step)))
            curves.add(line, double(step), found->mean);
    }
  }
  return {curves.figure()};
}

}  // namespace

const StudyProgram kStudy =
    StudyOf<Keys>{.head = {"grokking", "By heart first, understood later",
                           "Does the accuracy on pairs that training never shows follow that on trained pairs, long "
                           "after, and only with weight decay?"},
                  .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
                  .caveats = {"Guessing is right once in as many times as there are numbers.",
                              "Batches are drawn with replacement from the trained pairs, not in epochs.",
                              "A moment is known to a factor of {growth}: models are asked at such steps.",
                              "The quick scale is a smoke run: it is too short for the claims, which then stay open."}};

}  // namespace surtsey::experiments
