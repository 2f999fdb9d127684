// What decoders learn of linear functions in their context (context_regression.h):
//
//   functions  Garg et al. 2022: is a decoder that has seen functions without end as good as least squares on a new
//              one, and better than averaging or its nearest neighbours?
//   diversity  E15, Raventos et al. 2023: from how many training tasks on does it answer new ones as ridge regression
//              does, and no longer as a Bayesian over the tasks it knows?
#include "experiments/device_data/context_regression.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  // The paper's scale has the published settings, with five seeds.
  Keys()
      : StudyKeys({.seeds = {{0}, {0}, seeds(5)},
                   .evaluation_rows = {256},
                   .log_interval = {50, 500},
                   .checkpoint_interval = {0, 2000, 10'000}}) {}
  Key<Words> parts{this, "parts", {{}, {"functions", "diversity"}}, "what is studied", {"functions", "diversity"}};
  Key<Integers> dimensions{this, "dimensions", {{2}, {5, 20}, {20}}, "of the functions; one model each", 1, 1024};
  Key<Integers> widths{this, "widths", {{32}, {64, 128}, {256}}, "n_embd of each of them", 2, kMostWidth};
  Key<Integers> layers{this, "layers", {{2}, {3, 6}, {12}}, "its blocks", 1, kMostLayers};
  Key<Integers> heads{this, "heads", {{2}, {2, 4}, {8}}, "its n_head", 1, 1024};
  Rates function_rates{this, "function_rates", {{5e-3}, {1e-3}, {1e-4}}, "peak learning rates"};
  Steps function_steps{this, "function_steps", {6000, 20'000, 500'001}, "optimizer steps"};
  Key<int32_t> function_batch_size{this, "function_batch_size", {64}, "sequences a step", 1, kMostBatch};
  Steps curriculum_steps{
      this,
      "curriculum_steps",
      {0, 500, 2000},
      "one dimension (from 5), two examples (from 11) more every so many steps; 0: all from the start",
      0};
  Key<bool> decay{this, "decay", {true, true, false}, "the learning rate falls linearly to 0, else it stays"};
  Key<Integers> log_tasks{
      this, "log_tasks", {{1, 10}, {4, 10, 20}, up_to(20)}, "log2 of the training tasks; one model each", 0, 24};
  Key<int32_t> diversity_dimension{this, "diversity_dimension", {2, 8}, "d", 1, 1024};
  Key<int32_t> diversity_examples{this, "diversity_examples", {6, 16}, "in a sequence", 2, 4096};
  Key<double> noise{this, "noise", {.5}, "standard deviation of y given x and task", 1e-3, 1000};
  Key<int32_t> diversity_width{this, "diversity_width", {32, 128}, "n_embd", 2, kMostWidth};
  Key<int32_t> diversity_layers{this, "diversity_layers", {2, 8}, "blocks", 1, kMostLayers};
  Key<int32_t> diversity_heads{this, "diversity_heads", {2}, "n_head", 1, 1024};
  Rates diversity_rates{this, "diversity_rates", {{1e-3}}, "peak learning rates"};
  Steps diversity_steps{this, "diversity_steps", {1000, 20'000, 500'000}, "optimizer steps"};
  Key<int32_t> diversity_batch_size{this, "diversity_batch_size", {64, 256}, "sequences a step", 1, kMostBatch};
  Key<int32_t> test_sequences{this, "test_sequences", {1024, 1024, 4096}, "of every measure", 2, kMostItems};
  Share line_margin{this, "line_margin", {.05}, "claims: distance from the error of least squares"};
};

void check_keys(const Keys& k) {
  check_together(*k.dimensions, "dimensions", *k.widths, "widths");
  check_together(*k.dimensions, "dimensions", *k.layers, "layers");
  check_together(*k.dimensions, "dimensions", *k.heads, "heads");
  check_some(*k.function_rates, "function_rates");
  check_some(*k.diversity_rates, "diversity_rates");
  check_once(*k.log_tasks, "log_tasks");
}

Pick of_dimension(int32_t d) { return cells(fmt::format("functions_{}", d), "decoder"); }
Pick of_tasks(int32_t log_tasks) { return cells("diversity", fmt::format("2^{} tasks", log_tasks)); }

void experiments(const Keys& k, Experiments& list) {
  const auto add = [&](std::string task, std::string variant, ContextRegressionOptions options, int32_t width,
                       int32_t layers, int32_t heads) -> Experiment& {
    options.test_sequences = k.test_sequences;
    options.validation_sequences = k.sweep.validation_items;
    options.evaluation_rows = k.sweep.evaluation_rows;
    Experiment& one = list.add(task, variant, nullptr, width);
    one.generated = std::make_shared<ContextRegression>(options);
    one.model = context_regression_config(options, layers, width, heads);
    one.n_layer = layers;
    return one;
  };
  const auto train = [](Experiment& one, const Numbers& rates, int32_t steps, int32_t batch_size) {
    one.learning_rates = rates;
    one.steps = steps;
    one.batch_size = batch_size;
    one.optimizer = recipe_optimizer(steps, 0);
    one.optimizer->beta2 = .999;
  };
  for (size_t i = 0; has(*k.parts, "functions") && i < k.dimensions->size(); ++i) {
    const int32_t d = k.dimensions->at(i);
    // Examples of Garg et al.: 11 for 5 dimensions, 41 for 20.
    Experiment& one = add(fmt::format("functions_{}", d), "decoder",
                          {.dimension = d, .examples = 2 * d + 1, .curriculum_steps = k.curriculum_steps},
                          k.widths->at(i), k.layers->at(i), k.heads->at(i));
    train(one, k.function_rates, k.function_steps, k.function_batch_size);
    if (!k.decay) one.optimizer->schedule = {};
  }
  if (!has(*k.parts, "diversity")) return;
  for (const int32_t log_tasks : *k.log_tasks) {
    ContextRegressionOptions data{
        .dimension = k.diversity_dimension, .examples = k.diversity_examples, .noise = k.noise};
    data.tasks = int64_t{1} << log_tasks;
    Experiment& one = add("diversity", fmt::format("2^{} tasks", log_tasks), data, k.diversity_width,
                          k.diversity_layers, k.diversity_heads);
    train(one, k.diversity_rates, k.diversity_steps, k.diversity_batch_size);
    // A triangle: half of the steps up, half of them down.
    one.optimizer->schedule = {graph::Decay::linear, std::max(1, k.diversity_steps / 2), k.diversity_steps, 0};
  }
}

Score after(const char* rule, int32_t examples) { return measure(fmt::format("{}.{}", rule, examples)); }

// A test of each number of dimensions, and of all of them as one claim.
Judge every_dimension(const Keys& k, Test (*test_of)(const Keys&, int32_t d)) {
  std::vector<NamedJudge> parts;
  for (const int32_t d : *k.dimensions)
    parts.emplace_back(fmt::format("d={}:", d),
                       every_seed(of_dimension(d), test_of(k, d), "this part was not trained"));
  return every_part(std::move(parts));
}

// After every k < d examples, and after 2d.
Test on_the_line(const Keys& keys, int32_t d) {
  std::vector<Test> tests;
  for (int32_t k = 0; k < d; ++k)
    tests.push_back(is(after("error", k), within(1 - double(k) / d, keys.line_margin)).hidden());
  tests.push_back(is(after("error", 2 * d).named(fmt::format("after {}", 2 * d)), within(0, keys.line_margin)));
  const auto farthest = [d](const Cell& cell) {
    double most = after("error", 2 * d).value(cell);
    for (int32_t k = 0; k < d; ++k)
      if (const double here = after("error", k).value(cell) - (1 - double(k) / d); std::abs(here) > std::abs(most))
        most = here;
    return most;
  };
  return all_of(std::move(tests)).beside({"farthest", farthest, {}});
}

// After every number of examples from 1 to 2d. After one example the best rule is hardly better: there overlap counts
// as below.
Test better_than_rules(const Keys&, int32_t d) {
  std::vector<Test> tests;
  std::vector<std::pair<Score, Score>> pairs;  // the model, a rule
  for (const char* rule : {"averaging", "neighbours"})
    for (int32_t k = 1; k <= 2 * d; ++k) pairs.emplace_back(after("error", k), after(rule, k));
  for (size_t i = 0; i < pairs.size(); ++i) {
    const bool one_example = i % static_cast<size_t>(2 * d) == 0;
    tests.push_back({{}, [=, pair = pairs[i]](const Cell& cell, double confidence) {
                       const Interval model = pair.first.interval(cell, confidence);
                       const Interval rule = pair.second.interval(cell, confidence);
                       return one_example && !disjoint(model, rule) ? Verdict::kPass : above(rule, model);
                     }});
  }
  const auto below = [pairs](const Cell& cell) {
    return double(
        std::ranges::count_if(pairs, [&](const auto& p) { return p.first.value(cell) < p.second.value(cell); }));
  };
  return all_of(std::move(tests)).beside({"below in", below, {}});
}

// From each number of tasks to the next.
Judge from_step_to_step(const Keys& k, const char* name, bool rises) {
  std::vector<std::pair<Pick, Pick>> pairs;
  for (size_t i = 1; i < k.log_tasks->size(); ++i) {
    const Pick before = of_tasks(k.log_tasks->at(i - 1)), now = of_tasks(k.log_tasks->at(i));
    pairs.push_back(rises ? std::pair{now, before} : std::pair{before, now});
  }
  return above_in_pairs(pairs, measure(name));
}

// Where, in log2 of the number of tasks, a seed's answers to new tasks come nearer to ridge regression than to the
// posterior: that every seed crosses, and where.
Judgement judge_crossing(const Keys& k, const StudyResult& result, double confidence) {
  std::map<uint32_t, std::vector<std::pair<double, double>>> seeds;  // log2 M, difference
  for (const int32_t log_tasks : *k.log_tasks)
    for (const Cell* cell : without_diverged(of_tasks(log_tasks).of(result)))
      seeds[cell->seed].emplace_back(log_tasks,
                                     measure("to_posterior").value(*cell) - measure("to_ridge").value(*cell));
  if (seeds.empty()) return {Verdict::kInconclusive, "this part was not trained, or diverged", 0};
  std::vector<double> found;
  for (const auto& [seed, points] : seeds) {
    const auto crosses = [](const auto& before, const auto& now) { return before.second < 0 && now.second >= 0; };
    const auto at = std::adjacent_find(points.begin(), points.end(), crosses);
    if (at == points.end()) continue;
    const auto [x0, y0] = *at;
    const auto [x1, y1] = *std::next(at);
    found.push_back(x0 + (x1 - x0) * -y0 / (y1 - y0));
  }
  const Interval interval = t_interval(found, confidence);
  // Seeds that do not cross may do so at a number of tasks whose model diverged.
  const bool whole =
      std::ranges::all_of(seeds, [&](const auto& seed) { return seed.second.size() == k.log_tasks->size(); });
  return {found.size() < seeds.size() && !whole ? Verdict::kInconclusive : pass_if(found.size() == seeds.size()),
          found.empty() ? "no seed crosses"
                        : fmt::format("{} of {} seeds cross, in the mean at 2^{:.2f} tasks (2^{:.2f} to 2^{:.2f})",
                                      found.size(), seeds.size(), mean(found), interval.low, interval.high),
          std::ssize(seeds)};
}

std::vector<ClaimRow> claims(const Keys& k) {
  return {
      {"least_squares",
       "Without noise, the squared error after k < d examples is within {line_margin} of 1 - k/d of the variance of y, "
       "and after 2d at most {line_margin}, in every seed.",
       every_dimension(k, on_the_line)},
      {"rules",
       "It is below that of averaging and of three nearest neighbours after every number of examples from 2 to 2d, and "
       "not above it after 1, in every seed.",
       every_dimension(k, better_than_rules)},
      {"nearer_to_ridge",
       "On new tasks, the distance of predictions from ridge regression falls with every larger number of training "
       "tasks, in every seed.",
       from_step_to_step(k, "to_ridge", false)},
      {"farther_from_posterior",
       "The distance from the posterior over the training tasks rises with every larger number of them, in every seed.",
       from_step_to_step(k, "to_posterior", true)},
      {"crossing",
       "In every seed there is a number of training tasks from which on predictions on new tasks are nearer to ridge "
       "regression than to the posterior.",
       [&k](const StudyResult& result, double confidence) { return judge_crossing(k, result, confidence); }}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  std::vector<Figure> list;
  for (const int32_t d : *k.dimensions) {
    if (!has(*k.parts, "functions")) break;
    Curves curves(fmt::format("{} dimensions: error after k examples", d),
                  "Squared error in units of the variance of y, means over seeds and 95% intervals of the first seed's "
                  "items. The expectation of least squares is 1 - k/d, then 0.",
                  {"examples in the context"}, {"squared error"});
    const Cells models = without_diverged(of_dimension(d).of(result));
    for (int32_t count = 0; count <= 2 * d && !models.empty(); ++count) {
      const Interval first = after("error", count).interval(*models.front(), .95);
      curves.add("decoder", {double(count), mean_value(models, after("error", count)), first.low, first.high});
    }
    for (const char* rule : {"least_squares", "averaging", "neighbours"}) {
      curves.line(rule, {.marks = false, .dashed = true});
      for (int32_t count = 1; count <= 2 * d; ++count) curves.add(rule, models, count, after(rule, count));
    }
    list.push_back(curves.figure());
  }
  if (!has(*k.parts, "diversity")) return list;
  Curves curves("New tasks: whom do predictions resemble?",
                "Mean squared distance of predictions on new tasks, in units of the variance of y, means over seeds.",
                {"tasks in training", true}, {"squared distance", true});
  for (const int32_t log_tasks : *k.log_tasks) {
    const Cells models = of_tasks(log_tasks).of(result);
    curves.add("to ridge regression", models, std::exp2(log_tasks), measure("to_ridge"));
    curves.add("to the posterior over training tasks", models, std::exp2(log_tasks), measure("to_posterior"));
  }
  list.push_back(curves.figure());
  return list;
}

}  // namespace

const StudyProgram kStudy =
    StudyOf<Keys>{.head = {"linear_functions", "Linear functions in context",
                           "Does a decoder learn to regress, or only the regressions it was trained on?"},
                  .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
                  .caveats = {"Least squares is the best that can be done without noise only from d examples on; "
                              "before, it is the best for weights of this distribution.",
                              "Weights start as in the recipe of this project, not as GPT-2's do: from those a small "
                              "model stays for long at predictions that use its examples little.",
                              "A model that predicts as ridge regression does need not compute it so.",
                              "Where the posterior and ridge regression agree, as they do for many tasks, a distance "
                              "cannot tell who is imitated: read both curves.",
                              "With the same number of steps, models of more tasks see each of them less often."},
                  .on_request = [](const Keys& k) { return k.parts->empty() ? "--parts=functions" : nullptr; }};

}  // namespace surtsey::experiments
