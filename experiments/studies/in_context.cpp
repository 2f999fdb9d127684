// What do models learn to do with what stands in their context? Three questions with known answers:
//
//   recall      E12: key-value recall. One layer cannot, two layers can (Olsson et al. 2022, Sanford et al.
//               2024): accuracy by how often the key occurred before.
//   few_shot    E13: which of K memorised permutations? Zero, one and few shots against the exact
//               Bayes posterior; and whether the residual stream holds the task (H3).
//   regression  E14: one layer of linear attention against one step of gradient descent, whose
//               loss has a closed form (von Oswald et al. 2023).
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/device_data/regression.h"
#include "experiments/evaluate/task_vectors.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/permutation.h"
#include "experiments/tasks/recall.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kRecall = "recall";
constexpr const char* kFewShot = "few_shot";
constexpr const char* kRegression = "regression";
constexpr int32_t kVectorPrompts = 1000;

struct Options {
  SweepOptions sweep;  // seeds, questions, logging
  std::vector<std::string> parts = {kRecall, kFewShot, kRegression};

  std::vector<int32_t> recall_widths = {32};
  std::vector<int32_t> recall_layers = {1, 2};
  std::vector<double> recall_rates = {0.112};  // times 1 / n_embd
  int32_t recall_keys = 8;
  int32_t recall_values = 16;
  int32_t recall_pairs = 16;
  int32_t recall_steps = 1200;
  int32_t recall_batch_size = 64;

  std::vector<int32_t> few_shot_tasks = {8};
  int32_t few_shot_width = 32;
  int32_t few_shot_layers = 3;
  std::vector<double> few_shot_rates = {0.16};  // times 1 / n_embd
  int32_t few_shot_symbols = 10;
  int32_t few_shot_shots = 4;
  int32_t few_shot_steps = 900;
  int32_t few_shot_batch_size = 128;

  int32_t regression_width = 32;
  std::vector<double> regression_rates = {0.01};
  int32_t regression_dimension = 10;
  int32_t regression_context = 10;
  int32_t regression_steps = 2000;
  int32_t regression_batch_size = 512;
  int32_t regression_test_sequences = 262'144;

  // Bounds of the claims.
  double one_layer = 0.30;
  double two_layers = 0.95;
  double seed_share = 0.8;
  double excess_loss = 0.1;
  double regret = 0.02;
  double vector_share = 0.8;
  double control_margin = 0.05;
  double loss_margin = 0.02;
  double cosine = 0.99;
};

std::string variant_of(int32_t tasks) { return fmt::format("K{}", tasks); }

bool has(const std::vector<std::string>& list, const char* word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// At least this share of the parts holds.
Verdict share_of(const std::vector<Verdict>& parts, double share) {
  const auto count = [&](Verdict verdict) {
    return static_cast<double>(std::count(parts.begin(), parts.end(), verdict));
  };
  const double wanted = std::ceil(share * static_cast<double>(parts.size()) - 1e-9);
  if (parts.empty()) return Verdict::kInconclusive;
  if (count(Verdict::kPass) >= wanted) return Verdict::kPass;
  const double open = count(Verdict::kInconclusive);
  return count(Verdict::kPass) + open < wanted ? Verdict::kFail : Verdict::kInconclusive;
}

// The recall models of every width, by depth.
std::map<int32_t, std::vector<const Cell*>> by_depth(const StudyResult& result) {
  std::map<int32_t, std::vector<const Cell*>> depths;
  for (const Cell* cell : claim_cells(result, kRecall, "dense")) {
    depths[cell->n_layer].push_back(cell);
  }
  return depths;
}

Judgement judge_one_layer(const StudyResult& result, const Options& options, double confidence) {
  const auto cells = by_depth(result)[1];
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const Cell* cell : cells) {
    const ArmResult* arm = cell->find_arm("1_prior");
    verdicts.push_back(at_most(exact_match_interval(*arm, confidence), options.one_layer));
    evidence.push_back(fmt::format("d={} seed {}: {:.3f}", cell->n_embd, cell->seed, arm->exact_match));
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

Judgement judge_two_layers(const StudyResult& result, const Options& options, double confidence) {
  const auto cells = by_depth(result)[2];
  std::map<int32_t, std::vector<Verdict>> by_width;
  std::vector<std::string> evidence;
  for (const Cell* cell : cells) {
    const ArmResult* arm = cell->find_arm("1_prior");
    by_width[cell->n_embd].push_back(at_least(exact_match_interval(*arm, confidence), options.two_layers));
    evidence.push_back(fmt::format("d={} seed {}: {:.3f}", cell->n_embd, cell->seed, arm->exact_match));
  }
  std::vector<Verdict> widths;
  for (const auto& [width, seeds] : by_width) widths.push_back(share_of(seeds, options.seed_share));
  return {any_of(widths), join(evidence, "; "), count_seeds(cells)};
}

// A measure of every shot of every model that learned `tasks` tasks, held against a bound.
Judgement judge_shots(const StudyResult& result, const Options& options, const char* measure, double bound,
                      double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const int32_t tasks : options.few_shot_tasks) {
    for (const Cell* cell : claim_cells(result, kFewShot, variant_of(tasks))) {
      cells.push_back(cell);
      std::vector<std::string> shots;
      for (const ArmResult& arm : cell->arms) {
        const Measure* found = cell->find_measure(arm.arm + "." + measure);
        ensure(found != nullptr, "[in_context] {} has no {}", cell->cell, measure);
        verdicts.push_back(at_most(measure_interval(*found, confidence), bound));
        shots.push_back(fmt::format("{:.4f}", found->mean));
      }
      evidence.push_back(fmt::format("K={} seed {}: {}", tasks, cell->seed, join(shots, ", ")));
    }
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// At some depth between the embeddings and the last norm.
Judgement judge_vectors(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const int32_t tasks : options.few_shot_tasks) {
    for (const Cell* cell : claim_cells(result, kFewShot, variant_of(tasks))) {
      const Measure* few_shot = cell->find_measure("few_shot");
      if (few_shot == nullptr) continue;  // one task has no other to compare with
      const Measure* zero_shot = cell->find_measure("zero_shot");
      // "At some depth" is as many chances as there are depths.
      const double at = 1 - (1 - confidence) / std::max(1, cell->n_layer - 1);
      std::vector<Verdict> depths;
      std::vector<std::string> shares;
      for (int32_t depth = 1; depth < cell->n_layer; ++depth) {
        const Measure* patched = cell->find_measure(fmt::format("patched.{}", depth));
        const Measure* control = cell->find_measure(fmt::format("control.{}", depth));
        const Interval kept = measure_interval(*patched, at);
        depths.push_back(all_of(std::vector{
            at_least(kept, options.vector_share * few_shot->mean), above(kept, measure_interval(*zero_shot, at)),
            at_most(measure_interval(*control, at), zero_shot->mean + options.control_margin)}));
        shares.push_back(fmt::format("{:.3f} ({:.3f})", patched->mean, control->mean));
      }
      cells.push_back(cell);
      verdicts.push_back(any_of(depths));
      evidence.push_back(
          fmt::format("K={} seed {}: few shots {:.3f}, none {:.3f}, patched (control) at depths from 1: {}", tasks,
                      cell->seed, few_shot->mean, zero_shot->mean, join(shares, ", ")));
    }
  }
  const Verdict verdict = all_of(verdicts);
  return {verdict, (verdict == Verdict::kFail ? "not supported at this depth; " : "") + join(evidence, "; "),
          count_seeds(cells)};
}

Judgement judge_loss(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  const auto cells = claim_cells(result, kRegression, "one_layer");
  for (const Cell* cell : cells) {
    const Measure* ratio = cell->find_measure("loss_over_optimum");
    const Interval interval = measure_interval(*ratio, confidence);
    verdicts.push_back(at_least(interval, 1 - options.loss_margin));
    verdicts.push_back(at_most(interval, 1 + options.loss_margin));
    evidence.push_back(
        fmt::format("seed {}: loss {:.4f}, {:.4f} of the optimum ({:.4f} to {:.4f}); the gradient step on the "
                    "same sequences {:.4f}",
                    cell->seed, cell->find_measure("loss")->mean, ratio->mean, interval.low, interval.high,
                    cell->find_measure("gradient_step_loss")->mean));
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

Judgement judge_cosine(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  const auto cells = claim_cells(result, kRegression, "one_layer");
  for (const Cell* cell : cells) {
    const Measure* cosine = cell->find_measure("cosine");
    verdicts.push_back(at_least(measure_interval(*cosine, confidence), options.cosine));
    evidence.push_back(fmt::format("seed {}: {:.5f}", cell->seed, cosine->mean));
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

class InContext : public Study {
 public:
  std::string_view name() const override { return "in_context"; }
  std::string_view title() const override { return "Learning in context"; }
  std::string_view question() const override {
    return "What does a model do with what stands in its context: from which depth can it recall, "
           "is it a Bayesian over the tasks it knows, does it take a step of gradient descent?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.seeds = {0};
    sweep.test_items = 2000;
    if (scale == "quick") {
      options_.recall_batch_size = 48;
      return;
    }
    sweep.seeds = {0, 1, 2, 3, 4};
    sweep.test_items = 10'000;
    sweep.evaluation_rows = 1000;
    sweep.checkpoint_interval = 500;
    options_.recall_widths = {16, 32, 64, 128, 256};
    options_.recall_layers = {1, 2, 3, 4};
    options_.recall_rates = {0.224, 0.112, 0.056};
    options_.recall_steps = 2400;
    options_.few_shot_tasks = {2, 8, 32, 128, 512};
    options_.few_shot_width = 128;
    options_.few_shot_layers = 6;
    options_.few_shot_rates = {0.32, 0.16, 0.08};
    options_.few_shot_steps = 5000;
    options_.few_shot_batch_size = 256;
    options_.regression_rates = {0.02, 0.01, 0.005};
    options_.regression_steps = 10'000;
    options_.regression_test_sequences = 1 << 20;
    if (scale == "full") return;
    options_.recall_pairs = 64;
    options_.recall_keys = 32;
    options_.recall_steps = 10'000;
    options_.few_shot_width = 256;
    options_.few_shot_steps = 50'000;
    options_.regression_dimension = 20;
    options_.regression_context = 40;
    options_.regression_width = 64;
    options_.regression_steps = 100'000;
  }

  void add_fields(ConfigTable& table) override {
    table.add("parts", &options_.parts, "what is studied").one_of({kRecall, kFewShot, kRegression});
    add_run_fields(table, options_.sweep);
    add_recall_fields(table);
    add_few_shot_fields(table);
    add_regression_fields(table);
    const auto bound = [&](const char* name, double* value, const char* help) {
      table.add(name, value, help).at_least(0).at_most(1);
    };
    bound("one_layer", &options_.one_layer, "claims: recall that one layer does not exceed");
    bound("two_layers", &options_.two_layers, "claims: recall from which two layers can");
    bound("seed_share", &options_.seed_share, "claims: in so many of the seeds");
    bound("excess_loss", &options_.excess_loss, "claims: nats that a model may lose to Bayes");
    bound("regret", &options_.regret, "claims: posterior probability that its answers may lack");
    bound("vector_share", &options_.vector_share, "claims: share of few-shot accuracy that a task vector keeps");
    bound("control_margin", &options_.control_margin,
          "claims: accuracy above zero shots that another task's vector may have");
    bound("loss_margin", &options_.loss_margin, "claims: relative distance from the closed form");
    bound("cosine", &options_.cosine, "claims: of predictions with those of a gradient step");
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    check(!options_.parts.empty(), "parts is empty: there is nothing to train");
    for (const auto* list : {&options_.recall_rates, &options_.few_shot_rates, &options_.regression_rates}) {
      check(!list->empty(), "a list of learning rates is empty: there is nothing to train");
    }
    check(options_.regression_width > options_.regression_dimension,
          "regression_width is {}: a token has {} numbers, and fewer channels cannot hold it",
          options_.regression_width, options_.regression_dimension + 1);
  }

  void run(StudyRun& run) override {
    if (has(options_.parts, kRecall)) run_recall(run);
    if (has(options_.parts, kFewShot)) run_few_shot(run);
    if (has(options_.parts, kRegression)) run_regression(run);
  }

  std::vector<DeclaredClaim> claims() const override;
  void describe(StudyResult& result) const override;

 private:
  void add_recall_fields(ConfigTable& table) {
    Options& o = options_;
    table.add("recall_widths", &o.recall_widths, "n_embd of the recall models").at_least(2);
    table.add("recall_layers", &o.recall_layers, "their depths").at_least(1);
    table.add("recall_rates", &o.recall_rates, "peak learning rates, times 1 / n_embd").at_least(0);
    table.add("recall_keys", &o.recall_keys, "different keys").at_least(2);
    table.add("recall_values", &o.recall_values, "different values").at_least(2);
    table.add("recall_pairs", &o.recall_pairs, "pairs in a sequence").at_least(4);
    table.add("recall_steps", &o.recall_steps, "optimizer steps").at_least(1);
    table.add("recall_batch_size", &o.recall_batch_size, "sequences a step").at_least(1);
  }

  void add_few_shot_fields(ConfigTable& table) {
    Options& o = options_;
    table.add("few_shot_tasks", &o.few_shot_tasks, "K: permutations to memorise; one model each").at_least(1);
    table.add("few_shot_width", &o.few_shot_width, "n_embd").at_least(2);
    table.add("few_shot_layers", &o.few_shot_layers, "blocks").at_least(1);
    table.add("few_shot_rates", &o.few_shot_rates, "peak learning rates, times 1 / n_embd").at_least(0);
    table.add("few_shot_symbols", &o.few_shot_symbols, "symbols that are permuted").at_least(2);
    table.add("few_shot_shots", &o.few_shot_shots, "most examples before a question").at_least(0);
    table.add("few_shot_steps", &o.few_shot_steps, "optimizer steps").at_least(1);
    table.add("few_shot_batch_size", &o.few_shot_batch_size, "sequences a step").at_least(1);
  }

  void add_regression_fields(ConfigTable& table) {
    Options& o = options_;
    table.add("regression_width", &o.regression_width, "channels of the layer").at_least(2);
    table.add("regression_rates", &o.regression_rates, "peak learning rates").at_least(0);
    table.add("regression_dimension", &o.regression_dimension, "d: numbers in an input").at_least(1);
    table.add("regression_context", &o.regression_context, "N: examples before the query").at_least(1);
    table.add("regression_steps", &o.regression_steps, "optimizer steps").at_least(1);
    table.add("regression_batch_size", &o.regression_batch_size, "sequences a step").at_least(1);
    table.add("regression_test_sequences", &o.regression_test_sequences, "of the test loss").at_least(1);
  }

  Experiment base(const char* task, std::string variant, int32_t width, int32_t layers,
                  const std::vector<double>& rates, double scale) const {
    Experiment experiment;
    experiment.task = task;
    experiment.variant = std::move(variant);
    experiment.width = width;
    experiment.n_layer = layers;
    experiment.dtype = parse_dtype(options_.sweep.dtype);
    experiment.seeds = options_.sweep.seeds;
    for (const double rate : rates) experiment.learning_rates.push_back(rate * scale);
    return experiment;
  }

  void run_recall(StudyRun& run) {
    const tasks::RecallTask task(
        {.keys = options_.recall_keys, .values = options_.recall_values, .pairs = options_.recall_pairs});
    for (const int32_t width : options_.recall_widths) {
      for (const int32_t layers : options_.recall_layers) {
        Experiment one = base(kRecall, "dense", width, layers, options_.recall_rates, 1.0 / width);
        one.data = &task;
        one.steps = options_.recall_steps;
        one.batch_size = options_.recall_batch_size;
        run_experiment(run, options_.sweep, one);
      }
    }
  }

  void run_few_shot(StudyRun& run) {
    const int32_t width = options_.few_shot_width;
    for (const int32_t count : options_.few_shot_tasks) {
      const tasks::PermutationTask task(
          {.symbols = options_.few_shot_symbols, .tasks = count, .shots = options_.few_shot_shots});
      Experiment one =
          base(kFewShot, variant_of(count), width, options_.few_shot_layers, options_.few_shot_rates, 1.0 / width);
      one.data = &task;
      one.steps = options_.few_shot_steps;
      one.batch_size = options_.few_shot_batch_size;
      std::optional<TaskVectors> vectors;
      if (count > 1) {
        vectors.emplace(task, std::min(options_.sweep.test_items, kVectorPrompts), one.n_layer);
        one.probe = &*vectors;
      }
      run_experiment(run, options_.sweep, one);
    }
  }

  void run_regression(StudyRun& run) {
    const RegressionOptions regression{.dimension = options_.regression_dimension,
                                       .context = options_.regression_context,
                                       .test_sequences = options_.regression_test_sequences};
    const LinearRegression data(regression);
    const int32_t width = options_.regression_width;
    Experiment one = base(kRegression, "one_layer", width, 1, options_.regression_rates, 1);
    one.generated = &data;
    one.model = linear_attention_config(regression, 1, width);
    one.steps = options_.regression_steps;
    one.batch_size = options_.regression_batch_size;
    one.optimizer = recipe_optimizer(one.steps);
    one.optimizer->weight_decay = 0;  // it would pull the predictions below the optimum's
    run_experiment(run, options_.sweep, one);
  }

  Options options_;
};

std::vector<DeclaredClaim> InContext::claims() const {
  const Options o = options_;
  const auto with = [o](auto&& rule) {
    return [o, rule](const StudyResult& result, double confidence) { return rule(result, o, confidence); };
  };
  struct PartClaim {
    const char* part;
    DeclaredClaim claim;
  };
  const std::vector<PartClaim> all = {
      {kRecall,
       {"one_layer",
        fmt::format("One layer, of any width here, recalls the value of a key that occurred exactly "
                    "once before in at most {} of cases, in every seed.",
                    o.one_layer),
        with(judge_one_layer)}},
      {kRecall,
       {"two_layers",
        fmt::format("Two layers of some width recall it in at least {} of cases, in at least {} of "
                    "the seeds.",
                    o.two_layers, o.seed_share),
        with(judge_two_layers)}},
      {kFewShot,
       {"bayes_loss",
        fmt::format("At every number of shots, in every seed, the model's loss exceeds that of the "
                    "Bayes posterior by at most {} nats.",
                    o.excess_loss),
        with([](const StudyResult& result, const Options& options, double confidence) {
          return judge_shots(result, options, "excess_loss", options.excess_loss, confidence);
        })}},
      {kFewShot,
       {"bayes_answer",
        fmt::format("The same of its answers: their mean posterior probability is within {} of the "
                    "best answers'.",
                    o.regret),
        with([](const StudyResult& result, const Options& options, double confidence) {
          return judge_shots(result, options, "regret", options.regret, confidence);
        })}},
      {kFewShot,
       {"task_vectors",
        fmt::format("At some depth the residual stream at the arrow of a prompt with examples, put "
                    "into a prompt without, keeps {} of the few-shot accuracy, which is more "
                    "than without it, and another task's "
                    "is at most {} above that of no examples, in every seed.",
                    o.vector_share, o.control_margin),
        with(judge_vectors)}},
      {kRegression,
       {"gradient_step_loss",
        fmt::format("One layer of linear attention has the loss of the best step of gradient "
                    "descent, d(d+1)/(N+d+1) = {:.4f}, within {} of it on both sides, in every "
                    "seed.",
                    gradient_step_loss({.dimension = o.regression_dimension, .context = o.regression_context}),
                    o.loss_margin),
        with(judge_loss)}},
      {kRegression,
       {"gradient_step_prediction",
        fmt::format("Its predictions have a cosine of at least {} with those of that step, in every "
                    "seed.",
                    o.cosine),
        with(judge_cosine)}}};
  std::vector<DeclaredClaim> claims;
  for (const PartClaim& one : all) {
    if (has(o.parts, one.part)) claims.push_back(one.claim);
  }
  return claims;
}

void InContext::describe(StudyResult& result) const {
  const Options& o = options_;
  const Facts parts = {
      {"recall", fmt::format("{} pairs of {} keys and {} values, {} steps of {} sequences, rates "
                             "{} / d",
                             o.recall_pairs, o.recall_keys, o.recall_values, o.recall_steps, o.recall_batch_size,
                             fmt::join(o.recall_rates, ", "))},
      {"few shots",
       fmt::format("K = {} permutations of {} symbols, {} blocks of width {}, {} "
                   "steps of {} sequences, rates {} / d",
                   fmt::join(o.few_shot_tasks, ", "), o.few_shot_symbols, o.few_shot_layers, o.few_shot_width,
                   o.few_shot_steps, o.few_shot_batch_size, fmt::join(o.few_shot_rates, ", "))},
      {"regression", fmt::format("d = {}, N = {}, {} channels, {} steps of {} sequences, rates {}",
                                 o.regression_dimension, o.regression_context, o.regression_width, o.regression_steps,
                                 o.regression_batch_size, fmt::join(o.regression_rates, ", "))}};
  const char* const names[] = {kRecall, kFewShot, kRegression};
  for (size_t i = 0; i < parts.size(); ++i) {
    if (has(o.parts, names[i])) result.settings.push_back(parts[i]);
  }
  const Facts common = {
      {"seeds", fmt::format("{}", fmt::join(o.sweep.seeds, ", "))},
      {"test items", fmt::format("{} of each arm, {} regressions", o.sweep.test_items, o.regression_test_sequences)}};
  result.settings.insert(result.settings.end(), common.begin(), common.end());
  result.caveats = {
      "That one layer cannot recall is a theorem about growing contexts; here it is measured at "
      "one recipe and budget. Two layers need a schedule that is long enough: with half the steps "
      "few seeds form the induction head, and a seed that fails is slow, not unable.",
      "Guessing among the values that stand in the context already beats one in all values: "
      "compare "
      "recall with the one-layer models, not with blind chance.",
      "The K permutations are memorised in training. This is inference among known tasks, not "
      "learning of a new one; with more tasks than a model can store the optimum is another.",
      "Task vectors are read and patched at learned absolute positions that differ, and few blocks "
      "are left after a task is inferred: with three blocks the transfer is not expected.",
      "Excess loss is an average over test items and estimates KL(Bayes || model); single prompts "
      "can lie farther away.",
      "A regression layer with few more channels than its tokens have numbers can stand for long "
      "at "
      "a saddle that lacks one direction (d = 10, 16 channels, rate .01: 5 of 10 seeds after 2000 "
      "steps, 1.09 times the optimum); with 32 channels no seed did.",
      "The closed form holds for Gaussian inputs and weights without noise. Only the linear "
      "layers of these models were trained; nothing here shows that softmax attention in language "
      "models descends gradients."};
}

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::InContext study;
  return surtsey::experiments::run_study(argc, argv, study);
}
