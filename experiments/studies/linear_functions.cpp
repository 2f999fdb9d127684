// What decoders learn of linear functions in their context (context_regression.h):
//
//   functions   Garg et al. 2022: is a decoder that has seen functions without end as good as least
//               squares on a new one, and better than averaging or its nearest neighbours?
//   diversity   E15, Raventos et al. 2023: from how many training tasks on does it answer new ones
//               as ridge regression does, and no longer as a Bayesian over the tasks it knows?
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/device_data/context_regression.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kFunctions = "functions";
constexpr const char* kDiversity = "diversity";

struct Options {
  SweepOptions sweep;  // seeds, logging
  std::vector<std::string> parts;

  // One model for each number of dimensions.
  std::vector<int32_t> dimensions = {5, 20};
  std::vector<int32_t> widths = {64, 128};
  std::vector<int32_t> layers = {3, 6};
  std::vector<int32_t> heads = {2, 4};
  std::vector<double> function_rates = {1e-3};
  int32_t function_steps = 20'000;
  int32_t function_batch_size = 64;
  int32_t curriculum_steps = 0;
  bool decay = true;

  std::vector<int32_t> log_tasks = {4, 10, 20};
  int32_t diversity_dimension = 8;
  int32_t diversity_examples = 16;
  double noise = 0.5;
  int32_t diversity_width = 128;
  int32_t diversity_layers = 8;
  int32_t diversity_heads = 2;
  std::vector<double> diversity_rates = {1e-3};
  int32_t diversity_steps = 20'000;
  int32_t diversity_batch_size = 256;

  int32_t test_sequences = 1024;
  // Bounds of the claims.
  double line_margin = 0.05;

  // Examples of Garg et al.: 11 for 5 dimensions, 41 for 20.
  static int32_t examples_of(int32_t dimension) { return 2 * dimension + 1; }
};

std::string functions_name(int32_t dimension) { return fmt::format("functions_{}", dimension); }
std::string tasks_name(int32_t log_tasks) { return fmt::format("2^{} tasks", log_tasks); }

bool has(const std::vector<std::string>& list, const char* word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

const Measure& measure_of(const Cell& cell, const std::string& name) {
  const Measure* found = cell.find_measure(name);
  ensure(found != nullptr, "[linear_functions] {} has no {}", cell.cell, name);
  return *found;
}

const Measure& after(const Cell& cell, const char* rule, int32_t examples) {
  return measure_of(cell, fmt::format("{}.{}", rule, examples));
}

// After every k < d examples, and after 2d.
Judgement judge_line(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const int32_t d : options.dimensions) {
    for (const Cell* cell : claim_cells(result, functions_name(d), "decoder")) {
      cells.push_back(cell);
      double farthest = 0;
      int32_t where = 0;
      const auto hold = [&](int32_t k, double target) {
        const Measure& error = after(*cell, "error", k);
        const Interval interval = measure_interval(error, confidence);
        verdicts.push_back(at_most(interval, target + options.line_margin));
        verdicts.push_back(at_least(interval, target - options.line_margin));
        if (std::abs(error.mean - target) >= std::abs(farthest)) {
          farthest = error.mean - target;
          where = k;
        }
      };
      for (int32_t k = 0; k < d; ++k) hold(k, 1 - double(k) / d);
      hold(2 * d, 0);
      evidence.push_back(fmt::format("d={} seed {}: farthest {:+.4f} after {} examples, {:.4f} after {}", d, cell->seed,
                                     farthest, where, after(*cell, "error", 2 * d).mean, 2 * d));
    }
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// After every number of examples from 1 to 2d.
Judgement judge_rules(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const int32_t d : options.dimensions) {
    for (const Cell* cell : claim_cells(result, functions_name(d), "decoder")) {
      cells.push_back(cell);
      int32_t below = 0, asked = 0;
      for (const char* rule : {"averaging", "neighbours"}) {
        for (int32_t k = 1; k <= 2 * d; ++k) {
          const Interval model = measure_interval(after(*cell, "error", k), confidence);
          const Interval other = measure_interval(after(*cell, rule, k), confidence);
          // After one example the best rule is hardly better: there overlap counts as below.
          const bool overlaps = !disjoint(model, other);
          verdicts.push_back(k < 2 && overlaps ? Verdict::kPass : above(other, model));
          below += model.high < other.low ? 1 : 0;
          ++asked;
        }
      }
      evidence.push_back(fmt::format("d={} seed {}: below in {} of {} comparisons", d, cell->seed, below, asked));
    }
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// Cells by the number of tasks.
std::map<int32_t, std::vector<const Cell*>> by_tasks(const StudyResult& result, const Options& options) {
  std::map<int32_t, std::vector<const Cell*>> cells;
  for (const int32_t log_tasks : options.log_tasks) {
    const auto found = claim_cells(result, kDiversity, tasks_name(log_tasks));
    if (!found.empty()) cells[log_tasks] = found;
  }
  return cells;
}

// From each number of tasks to the next, in every seed.
Judgement judge_distance(const StudyResult& result, const Options& options, const std::string& measure, bool rises,
                         double confidence) {
  const auto cells = by_tasks(result, options);
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> counted;
  const std::vector<const Cell*>* before = nullptr;
  for (const auto& [log_tasks, current] : cells) {
    std::vector<std::string> parts;
    for (const Cell* cell : current) {
      const Measure& distance = measure_of(*cell, measure);
      parts.push_back(fmt::format("{:.4f}", distance.mean));
      counted.push_back(cell);
      if (before == nullptr) continue;
      for (const Cell* earlier : *before) {
        if (earlier->seed != cell->seed) continue;
        const Interval now = measure_interval(distance, confidence);
        const Interval then = measure_interval(measure_of(*earlier, measure), confidence);
        verdicts.push_back(rises ? above(now, then) : above(then, now));
      }
    }
    evidence.push_back(fmt::format("{}: {}", tasks_name(log_tasks), join(parts, ", ")));
    before = &current;
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(counted)};
}

// Where, in log2 of the number of tasks, a seed's answers to new tasks come nearer to ridge
// regression than to the posterior; none where they never do.
std::vector<double> crossings(const StudyResult& result, const Options& options) {
  std::map<uint32_t, std::vector<std::pair<double, double>>> seeds;  // log2 M, difference
  for (const auto& [log_tasks, cells] : by_tasks(result, options)) {
    for (const Cell* cell : cells) {
      seeds[cell->seed].emplace_back(log_tasks,
                                     measure_of(*cell, "to_posterior").mean - measure_of(*cell, "to_ridge").mean);
    }
  }
  std::vector<double> found;
  for (const auto& [seed, points] : seeds) {
    for (size_t i = 1; i < points.size(); ++i) {
      const auto [x0, y0] = points[i - 1];
      const auto [x1, y1] = points[i];
      if (y0 >= 0 || y1 < 0) continue;
      found.push_back(x0 + (x1 - x0) * -y0 / (y1 - y0));
      break;
    }
  }
  return found;
}

// That every seed crosses, and where.
Judgement judge_crossing(const StudyResult& result, const Options& options, double confidence) {
  const auto cells = by_tasks(result, options);
  if (cells.empty()) return {};
  const auto seeds = count_seeds(cells.begin()->second);
  const auto found = crossings(result, options);
  const Interval interval = t_interval(found, confidence);
  const bool all = std::ssize(found) == seeds;
  return {all ? Verdict::kPass : Verdict::kFail,
          found.empty() ? "no seed crosses"
                        : fmt::format("{} of {} seeds cross, in the mean at 2^{:.2f} tasks (2^{:.2f} "
                                      "to 2^{:.2f})",
                                      found.size(), seeds, mean(found), interval.low, interval.high),
          seeds};
}

Figure functions_figure(const StudyResult& result, int32_t d) {
  Figure figure{fmt::format("{} dimensions: error after k examples", d),
                "Squared error in units of the variance of y, means over seeds and 95% intervals of "
                "the first seed's items. The expectation of least squares is 1 - k/d, then 0.",
                {"examples in the context"},
                {"squared error"},
                {}};
  const auto cells = claim_cells(result, functions_name(d), "decoder");
  if (cells.empty()) return figure;
  for (const char* rule : {"error", "least_squares", "averaging", "neighbours"}) {
    const bool model = std::string_view(rule) == "error";
    FigureSeries series{model ? "decoder" : rule, {}};
    series.dashed = !model;
    series.marks = model;
    for (int32_t k = model ? 0 : 1; k <= 2 * d; ++k) {
      std::vector<double> values;
      for (const Cell* cell : cells) values.push_back(after(*cell, rule, k).mean);
      FigurePoint point{static_cast<double>(k), mean(values)};
      if (model) {
        const Interval interval = measure_interval(after(*cells[0], rule, k), 0.95);
        point.low = interval.low;
        point.high = interval.high;
      }
      series.points.push_back(point);
    }
    figure.series.push_back(std::move(series));
  }
  return figure;
}

Figure diversity_figure(const StudyResult& result, const Options& options) {
  Figure figure{"New tasks: whom do predictions resemble?",
                "Mean squared distance of predictions on new tasks, in units of the variance of y, "
                "means over seeds.",
                {"tasks in training", true},
                {"squared distance", true},
                {}};
  for (const auto& [measure, name] :
       {std::pair{"to_ridge", "to ridge regression"}, {"to_posterior", "to the posterior over training tasks"}}) {
    FigureSeries series{name, {}};
    for (const auto& [log_tasks, cells] : by_tasks(result, options)) {
      std::vector<double> values;
      for (const Cell* cell : cells) values.push_back(measure_of(*cell, measure).mean);
      series.points.push_back({std::exp2(log_tasks), mean(values)});
    }
    figure.series.push_back(std::move(series));
  }
  return figure;
}

class LinearFunctions : public Study {
 public:
  std::string_view name() const override { return "linear_functions"; }
  std::string_view title() const override { return "Linear functions in context"; }
  std::string_view question() const override {
    return "Does a decoder learn to regress, or only the regressions it was trained on?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    Options& o = options_;
    o.sweep.seeds = {0};
    o.sweep.log_interval = 500;
    if (scale == "quick") {
      // Nothing unless it is asked for: `--parts=functions` is a run to see that all works.
      o.dimensions = {2};
      o.widths = {32};
      o.layers = {2};
      o.heads = {2};
      o.function_rates = {5e-3};
      o.function_steps = 6000;
      o.log_tasks = {1, 10};
      o.diversity_dimension = 2;
      o.diversity_examples = 6;
      o.diversity_width = 32;
      o.diversity_layers = 2;
      o.diversity_steps = 1000;
      o.diversity_batch_size = 64;
      o.sweep.log_interval = 50;
      return;
    }
    o.parts = {kFunctions, kDiversity};
    o.sweep.checkpoint_interval = 2000;
    if (scale == "full") {
      o.curriculum_steps = 500;
      return;
    }
    // The published settings, with five seeds.
    o.sweep.seeds = {0, 1, 2, 3, 4};
    o.dimensions = {20};
    o.widths = {256};
    o.layers = {12};
    o.heads = {8};
    o.function_rates = {1e-4};
    o.function_steps = 500'001;
    o.curriculum_steps = 2000;
    o.decay = false;
    o.log_tasks.clear();
    for (int32_t one = 0; one <= 20; ++one) o.log_tasks.push_back(one);
    o.diversity_steps = 500'000;
    o.sweep.checkpoint_interval = 10'000;
    o.test_sequences = 4096;
  }

  void add_fields(ConfigTable& table) override {
    Options& o = options_;
    table.add("parts", &o.parts, "what is studied").one_of({kFunctions, kDiversity});
    add_run_fields(table, o.sweep);
    table.add("dimensions", &o.dimensions, "of the functions; one model each").at_least(1);
    table.add("widths", &o.widths, "n_embd of each of them").at_least(2);
    table.add("layers", &o.layers, "its blocks").at_least(1);
    table.add("heads", &o.heads, "its n_head").at_least(1);
    table.add("function_rates", &o.function_rates, "peak learning rates").at_least(0);
    table.add("function_steps", &o.function_steps, "optimizer steps").at_least(1);
    table.add("function_batch_size", &o.function_batch_size, "sequences a step").at_least(1);
    table
        .add("curriculum_steps", &o.curriculum_steps,
             "one dimension (from 5) and two examples (from 11) more every so many steps; 0: all "
             "from the start")
        .at_least(0);
    table.add("decay", &o.decay, "the learning rate falls linearly to 0, else it stays");
    table.add("log_tasks", &o.log_tasks, "log2 of the training tasks; one model each").at_least(0).at_most(24);
    table.add("diversity_dimension", &o.diversity_dimension, "d").at_least(1);
    table.add("diversity_examples", &o.diversity_examples, "in a sequence").at_least(2);
    table.add("noise", &o.noise, "standard deviation of y given x and task").at_least(1e-3);
    table.add("diversity_width", &o.diversity_width, "n_embd").at_least(2);
    table.add("diversity_layers", &o.diversity_layers, "blocks").at_least(1);
    table.add("diversity_heads", &o.diversity_heads, "n_head").at_least(1);
    table.add("diversity_rates", &o.diversity_rates, "peak learning rates").at_least(0);
    table.add("diversity_steps", &o.diversity_steps, "optimizer steps").at_least(1);
    table.add("diversity_batch_size", &o.diversity_batch_size, "sequences a step").at_least(1);
    table.add("test_sequences", &o.test_sequences, "of every measure").at_least(2);
    table.add("line_margin", &o.line_margin, "claims: distance from the error of least squares").at_least(0).at_most(1);
  }

  void check_options() const override {
    const Options& o = options_;
    check_sweep_options(o.sweep);
    for (const auto* list : {&o.widths, &o.layers, &o.heads}) {
      check(list->size() == o.dimensions.size(),
            "dimensions has {} numbers and widths, layers or heads {}: they go together", o.dimensions.size(),
            list->size());
    }
    check(!o.function_rates.empty() && !o.diversity_rates.empty(),
          "a list of learning rates is empty: there is nothing to train");
    for (const int32_t one : o.log_tasks) {
      check(std::count(o.log_tasks.begin(), o.log_tasks.end(), one) == 1, "log_tasks: {} is there twice", one);
    }
  }

  void run(StudyRun& run) override {
    const Options& o = options_;
    check(run.scouting() || !o.parts.empty(),
          "parts is empty: this scale trains only what it is told to, such as --parts=functions");
    if (has(o.parts, kFunctions)) {
      for (size_t i = 0; i < o.dimensions.size(); ++i) run_functions(run, i);
    }
    if (has(o.parts, kDiversity)) {
      for (const int32_t log_tasks : o.log_tasks) run_diversity(run, log_tasks);
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options o = options_;
    const auto with = [o](auto rule) {
      return [o, rule](const StudyResult& result, double confidence) {
        Judgement judgement = rule(result, o, confidence);
        if (judgement.evidence.empty()) judgement.evidence = "this part was not trained";
        return judgement;
      };
    };
    const auto distance = [&](const char* measure, bool rises) {
      return with([=](const StudyResult& result, const Options& options, double confidence) {
        return judge_distance(result, options, measure, rises, confidence);
      });
    };
    return {{"least_squares",
             fmt::format("Without noise, the squared error after k < d examples is within {0} of "
                         "1 - k/d of the variance of y, and after 2d at most {0}, in every seed.",
                         o.line_margin),
             with(judge_line)},
            {"rules",
             "It is below that of averaging and of three nearest neighbours after every number of "
             "examples from 2 to 2d, and not above it after 1, in every seed.",
             with(judge_rules)},
            {"nearer_to_ridge",
             "On new tasks, the distance of predictions from ridge regression falls with every "
             "larger number of training tasks, in every seed.",
             distance("to_ridge", false)},
            {"farther_from_posterior",
             "The distance from the posterior over the training tasks rises with every larger "
             "number of them, in every seed.",
             distance("to_posterior", true)},
            {"crossing",
             "In every seed there is a number of training tasks from which on predictions on new "
             "tasks are nearer to ridge regression than to the posterior.",
             with(judge_crossing)}};
  }

  void describe(StudyResult& result) const override {
    const Options& o = options_;
    result.settings = {
        {"functions",
         fmt::format("d = {}, {} layers, widths {}, {} steps of {} sequences of 2d + 1 examples, "
                     "rates {}, {}",
                     fmt::join(o.dimensions, " and "), fmt::join(o.layers, " and "), fmt::join(o.widths, " and "),
                     o.function_steps, o.function_batch_size, fmt::join(o.function_rates, ", "),
                     o.curriculum_steps > 0 ? fmt::format("a dimension more every {} steps", o.curriculum_steps)
                                            : "all dimensions from the start")},
        {"diversity", fmt::format("d = {}, {} examples, noise {}, 2^({}) tasks, {} layers of width {}, {} steps "
                                  "of {} sequences, rates {}",
                                  o.diversity_dimension, o.diversity_examples, o.noise, fmt::join(o.log_tasks, ", "),
                                  o.diversity_layers, o.diversity_width, o.diversity_steps, o.diversity_batch_size,
                                  fmt::join(o.diversity_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(o.sweep.seeds, ", "))},
        {"test sequences", fmt::to_string(o.test_sequences)}};
    result.caveats = {
        "Least squares is the best that can be done without noise only from d examples on; before, "
        "it is the best for weights of this distribution.",
        "Weights start as in the recipe of this project, not as GPT-2's do: from those a small "
        "model stays for long at predictions that use its examples little.",
        "A model that predicts as ridge regression does need not compute it so.",
        "Where the posterior and ridge regression agree, as they do for many tasks, a distance "
        "cannot tell who is imitated: read both curves.",
        "With the same number of steps, models of more tasks see each of them less often."};
    for (const int32_t d : o.dimensions) {
      if (has(o.parts, kFunctions)) result.figures.push_back(functions_figure(result, d));
    }
    if (has(o.parts, kDiversity)) result.figures.push_back(diversity_figure(result, o));
  }

 private:
  Experiment base(const std::string& task, const std::string& variant, int32_t width, int32_t layers,
                  const std::vector<double>& rates, int32_t steps, int32_t batch_size) const {
    Experiment experiment = sweep_experiment(options_.sweep, task, variant, nullptr, width);
    experiment.n_layer = layers;
    experiment.learning_rates = rates;
    experiment.steps = steps;
    experiment.batch_size = batch_size;
    experiment.optimizer = recipe_optimizer(steps);
    experiment.optimizer->beta2 = 0.999;
    experiment.optimizer->weight_decay = 0;
    return experiment;
  }

  void run_functions(StudyRun& run, size_t i) const {
    const Options& o = options_;
    const ContextRegression data({.dimension = o.dimensions[i],
                                  .examples = Options::examples_of(o.dimensions[i]),
                                  .curriculum_steps = o.curriculum_steps,
                                  .test_sequences = o.test_sequences,
                                  .validation_sequences = o.sweep.validation_items,
                                  .evaluation_rows = o.sweep.evaluation_rows});
    Experiment one = base(functions_name(o.dimensions[i]), "decoder", o.widths[i], o.layers[i], o.function_rates,
                          o.function_steps, o.function_batch_size);
    one.generated = &data;
    one.model = context_regression_config(data.options(), o.layers[i], o.widths[i], o.heads[i]);
    if (!o.decay) one.optimizer->schedule = {};
    run_experiment(run, o.sweep, one);
  }

  void run_diversity(StudyRun& run, int32_t log_tasks) const {
    const Options& o = options_;
    const ContextRegression data({.dimension = o.diversity_dimension,
                                  .examples = o.diversity_examples,
                                  .noise = o.noise,
                                  .tasks = int64_t{1} << log_tasks,
                                  .test_sequences = o.test_sequences,
                                  .validation_sequences = o.sweep.validation_items,
                                  .evaluation_rows = o.sweep.evaluation_rows});
    Experiment one = base(kDiversity, tasks_name(log_tasks), o.diversity_width, o.diversity_layers, o.diversity_rates,
                          o.diversity_steps, o.diversity_batch_size);
    one.generated = &data;
    one.model = context_regression_config(data.options(), o.diversity_layers, o.diversity_width, o.diversity_heads);
    // A triangle: half of the steps up, half of them down.
    one.optimizer->schedule = {graph::Decay::linear, std::max(1, o.diversity_steps / 2), o.diversity_steps, 0};
    run_experiment(run, o.sweep, one);
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::LinearFunctions study;
  return surtsey::experiments::run_study(argc, argv, study);
}
