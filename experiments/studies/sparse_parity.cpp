// Is a smooth scaling curve made of sudden abilities? Many parities of uneven frequency, learned by one model
// (sparse_parity.h): each task should be known or unknown, and the mean loss should fall with the size as a power law
// all the same (Michaud et al. 2023).
#include "experiments/device_data/sparse_parity.h"
#include "experiments/report/chart.h"
#include "experiments/statistics/curves.h"
#include "experiments/statistics/scaling_law.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{4, 8, 16, 32}, {4, 6, 8, 12, 16, 24, 32, 48, 64, 96}},
                   .learning_rates = {{.064}, {.016, .032, .064}},
                   .steps = {2000, 25'000, 200'000},
                   .batch_size = {500, 10'000, 20'000},
                   .seeds = {{0, 1}, seeds(5)},
                   .evaluation_rows = {256},
                   .log_interval = {100, 500},
                   .checkpoint_interval = {0, 5000}}) {
    explain("learning_rates", "of Adam, constant, times 1 / n_embd");
    explain("batch_size", "samples a step");
  }
  Key<int32_t> tasks{this, "tasks", {SparseParityOptions().tasks, 100, 500}, "parities", 1, 10'000};
  Key<int32_t> bits{this, "bits", {SparseParityOptions().bits, 51, 102}, "bits of a sample", 1, 10'000};
  Key<int32_t> subset{this, "subset", {SparseParityOptions().subset, 3}, "bits that a parity takes", 1, 100};
  Key<double> exponent{this, "exponent", {SparseParityOptions().exponent}, "of the tasks' frequencies", 0, 100};
  Share unlearned{this, "unlearned", {.6}, "claims: accuracy up to which a task is not learned"};
  Share learned{this, "learned", {.95}, "claims: accuracy from which a task is learned"};
  Share bimodal{this, "bimodal", {.9}, "claims: least share of tasks that are either"};
  Share explained{this, "explained", {.97}, "claims: least R^2 of the power law"};

  auto data() const {
    SparseParityOptions options{tasks, bits, subset, exponent};
    options.items = sweep.test_items;
    options.validation_samples = sweep.validation_items;
    return std::make_shared<SparseParity>(options);
  }
};

void check_keys(const Keys& k) {
  for (const int32_t width : k.sweep.widths) k.data()->model(width);
}

void experiments(const Keys& k, Experiments& list) {
  const auto data = k.data();
  for (const int32_t width : k.sweep.widths) {
    Experiment& one = list.add("", "block", nullptr, width);
    one.generated = data;
    one.model = data->model(width);
    one.optimizer = graph::OptimizerConfig{.weight_decay = 0, .clip_norm = 0};  // Adam as in the paper
    one.n_layer = 1;
  }
}

Cells models(const StudyResult& result) { return without_diverged(cells("", "block").of(result)); }
double accuracy(const Cell& cell, int32_t task) { return measure(fmt::format("accuracy {}", task)).value(cell); }

// Means over seeds of the loss of the mixture, by parameters, and the power law through them where there are three.
struct Law {
  std::vector<double> parameters, losses;
  std::optional<PowerLaw> law;
};

Law law_of(const StudyResult& result) {
  Law found;
  for (const auto& [parameters, cells] : by_size(models(result))) {
    const double loss = mean_value(cells, measure("loss"));
    if (std::isnan(loss)) continue;
    found.parameters.push_back(static_cast<double>(parameters));
    found.losses.push_back(loss);
  }
  if (found.losses.size() >= 3) found.law = fit_power_law(found.parameters, found.losses, false);
  return found;
}

Judgement judge_bimodal(const Keys& k, const StudyResult& result, double confidence) {
  int64_t outside = 0, total = 0, learned = 0;
  for (const Cell* cell : models(result)) {
    for (int32_t task = 0; task < k.tasks; ++task, ++total) {
      const double share = accuracy(*cell, task);
      outside += share <= k.unlearned || share >= k.learned ? 1 : 0;
      learned += share >= k.learned ? 1 : 0;
    }
  }
  if (total == 0) return {Verdict::kInconclusive, "no model has scores", 0};
  const Interval share = clopper_pearson(outside, total, confidence);
  return {at_least(share, k.bimodal),
          fmt::format("{} of {} tasks of models are not between [{:.3f}, {:.3f}]; {} are learned", outside, total,
                      share.low, share.high, learned),
          count_seeds(models(result))};
}

Judgement judge_power_law(const Keys& k, const StudyResult& result) {
  const Law found = law_of(result);
  const int64_t seeds = count_seeds(models(result));
  if (found.parameters.size() < 4)
    return {Verdict::kInconclusive, "fewer than four sizes: a line meets two points exactly", seeds};
  std::vector<double> logs, fitted;
  std::vector<std::string> points;
  for (size_t i = 0; i < found.parameters.size(); ++i) {
    logs.push_back(std::log(found.losses[i]));
    fitted.push_back(std::log(found.law->at(found.parameters[i])));
    points.push_back(fmt::format("{:.4f} at {:.0f}", found.losses[i], found.parameters[i]));
  }
  const double share = explained_variance(logs, fitted);
  return {pass_if(share >= k.explained),
          fmt::format("exponent {:.3f}, R^2 {:.3f} over {}", found.law->term.exponent, share, join(points, ", ")),
          seeds};
}

std::vector<ClaimRow> claims(const Keys& k) {
  return {
      {"bimodal", "At least {bimodal} of all tasks of all models have an accuracy outside ({unlearned}, {learned}).",
       [&k](const StudyResult& result, double confidence) { return judge_bimodal(k, result, confidence); }},
      {"power_law",
       "The mean loss over sizes is a power law of the parameters with an R^2 of at least {explained} in the "
       "logarithms.",
       [&k](const StudyResult& result, double) { return judge_power_law(k, result); }}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  Curves tasks("Accuracy of each task against its frequency",
               "Means over seeds; the most frequent task is on the right.", {"probability of the task", true},
               {"accuracy"}, {{"guessing", .5}});
  Curves losses("Loss of the mixture against parameters", "Dots: models. Dashed: the power law of the means.",
                {"parameters", true}, {"nats", true}, {{"guessing", std::log(2.0)}});
  const auto data = k.data();
  for (const Cell* cell : models(result)) {
    const auto parameters = static_cast<double>(cell->parameters);
    for (int32_t task = 0; task < k.tasks; ++task)
      tasks.add(short_number(parameters) + " parameters", data->probability(task), accuracy(*cell, task));
    const std::string seed = fmt::format("models of seed {}", cell->seed);
    losses.line(seed, {.joined = false});
    losses.add(seed, {cell}, parameters, measure("loss"));
  }
  if (const Law found = law_of(result); found.law) {
    const std::string line = fmt::format("N^-{:.2f}", found.law->term.exponent);
    losses.line(line, {.marks = false, .dashed = true});
    for (const double parameters : found.parameters) losses.add(line, parameters, found.law->at(parameters));
  }
  return {tasks.figure(), losses.figure()};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"sparse_parity", "A smooth curve of sudden abilities",
             "When many small tasks are learned by one model, is each one known or unknown while the mean loss falls "
             "as a power law?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {"Guessing is right every second time.",
                "The model is one transformer block at a single position, an MLP with a linear bypass, not the ReLU "
                "network of the paper; the bits of a task come from equal blocks.",
                "Tasks of one model are not independent: the interval of the bimodal share takes them as if they were.",
                "How many tasks are learned depends on the steps as much as on the size: this is a curve at one budget "
                "of samples."}};

}  // namespace surtsey::experiments
