// Is a smooth scaling curve made of sudden abilities? Many parities of uneven frequency, learned by
// one model (sparse_parity.h): each task should be known or unknown, and the mean loss should fall
// with the size as a power law all the same (Michaud et al. 2023).
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/device_data/sparse_parity.h"
#include "experiments/report/chart.h"
#include "experiments/statistics/curves.h"
#include "experiments/statistics/scaling_law.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kVariant = "block";

struct Options {
  SweepOptions sweep;
  SparseParityOptions data;
  // Bounds of the claims.
  double unlearned = 0.6;  // accuracy of a task from which it is between ..
  double learned = 0.95;   // .. up to which it is
  double bimodal = 0.9;    // share of tasks that must not be between
  double explained = 0.97;
};

// Means over seeds of the loss of the mixture, by parameters.
struct Losses {
  std::vector<double> parameters, losses;
};

Losses losses_of(const StudyResult& result) {
  std::map<int64_t, std::vector<double>> sizes;
  for (const Cell* cell : claim_cells(result, "", kVariant)) {
    sizes[cell->parameters].push_back(cell->find_measure("loss")->mean);
  }
  Losses means;
  for (const auto& [parameters, list] : sizes) {
    means.parameters.push_back(static_cast<double>(parameters));
    means.losses.push_back(mean(list));
  }
  return means;
}

Judgement judge_bimodal(const StudyResult& result, const Options& options, double confidence) {
  const auto cells = claim_cells(result, "", kVariant);
  int64_t outside = 0, total = 0, learned = 0;
  for (const Cell* cell : cells) {
    for (int32_t task = 0; task < options.data.tasks; ++task) {
      const double accuracy = cell->find_measure(fmt::format("accuracy {}", task))->mean;
      outside += accuracy <= options.unlearned || accuracy >= options.learned ? 1 : 0;
      learned += accuracy >= options.learned ? 1 : 0;
      ++total;
    }
  }
  const Interval share = clopper_pearson(outside, total, confidence);
  return {at_least(share, options.bimodal),
          fmt::format("{} of {} tasks of models are not between [{:.3f}, {:.3f}]; {} are learned", outside, total,
                      share.low, share.high, learned),
          count_seeds(cells)};
}

Judgement judge_power_law(const StudyResult& result, const Options& options) {
  const Losses means = losses_of(result);
  const int64_t seeds = count_seeds(claim_cells(result, "", kVariant));
  if (means.parameters.size() < 4) {
    return {Verdict::kInconclusive, "fewer than four sizes: a line meets two points exactly", seeds};
  }
  const PowerLaw law = fit_power_law(means.parameters, means.losses, false);
  std::vector<double> logs, fitted;
  for (size_t i = 0; i < means.parameters.size(); ++i) {
    logs.push_back(std::log(means.losses[i]));
    fitted.push_back(std::log(law.at(means.parameters[i])));
  }
  const double share = explained_variance(logs, fitted);
  std::vector<std::string> points;
  for (size_t i = 0; i < means.parameters.size(); ++i) {
    points.push_back(fmt::format("{:.4f} at {:.0f}", means.losses[i], means.parameters[i]));
  }
  return {share >= options.explained ? Verdict::kPass : Verdict::kFail,
          fmt::format("exponent {:.3f}, R^2 {:.3f} over {}", law.term.exponent, share, join(points, ", ")), seeds};
}

Figure tasks_figure(const StudyResult& result, const Options& options) {
  Figure figure{"Accuracy of each task against its frequency",
                "Means over seeds; the most frequent task is on the right.",
                {"probability of the task", true},
                {"accuracy", false},
                {},
                {{"guessing", 0.5}}};
  std::map<int64_t, std::vector<const Cell*>> sizes;
  for (const Cell* cell : claim_cells(result, "", kVariant)) sizes[cell->parameters].push_back(cell);
  const SparseParity data(options.data);
  for (const auto& [parameters, cells] : sizes) {
    FigureSeries& series = figure.series.emplace_back();
    series.name = short_number(static_cast<double>(parameters)) + " parameters";
    for (int32_t task = 0; task < options.data.tasks; ++task) {
      std::vector<double> accuracy;
      for (const Cell* cell : cells) {
        accuracy.push_back(cell->find_measure(fmt::format("accuracy {}", task))->mean);
      }
      series.points.push_back({data.probability(task), mean(accuracy)});
    }
  }
  return figure;
}

Figure loss_figure(const StudyResult& result) {
  Figure figure{"Loss of the mixture against parameters",
                "Dots: models. Dashed: the power law of the means.",
                {"parameters", true},
                {"nats", true},
                {},
                {{"guessing", std::log(2.0)}}};
  FigureSeries& models = figure.series.emplace_back();
  models.name = "models";
  models.joined = false;
  for (const Cell* cell : claim_cells(result, "", kVariant)) {
    models.points.push_back({static_cast<double>(cell->parameters), cell->find_measure("loss")->mean});
  }
  const Losses means = losses_of(result);
  if (means.parameters.size() < 3) return figure;
  const PowerLaw law = fit_power_law(means.parameters, means.losses, false);
  FigureSeries& line = figure.series.emplace_back();
  line.name = fmt::format("N^-{:.2f}", law.term.exponent);
  line.marks = false;
  line.dashed = true;
  for (const double parameters : means.parameters) {
    line.points.push_back({parameters, law.at(parameters)});
  }
  return figure;
}

class SparseParityStudy : public Study {
 public:
  std::string_view name() const override { return "sparse_parity"; }
  std::string_view title() const override { return "A smooth curve of sudden abilities"; }
  std::string_view question() const override {
    return "When many small tasks are learned by one model, is each one known or unknown while the "
           "mean loss falls as a power law?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    SparseParityOptions& data = options_.data;
    if (scale == "quick") {
      sweep.widths = {4, 8, 16, 32};
      sweep.learning_rates = {0.064};
      sweep.steps = 2000;
      sweep.batch_size = 500;
      sweep.log_interval = 100;
      return;
    }
    const bool paper = scale == "paper";
    sweep.widths = {4, 6, 8, 12, 16, 24, 32, 48, 64, 96};
    sweep.learning_rates = {0.016, 0.032, 0.064};
    sweep.seeds = {0, 1, 2, 3, 4};
    sweep.steps = paper ? 200000 : 25000;
    sweep.batch_size = paper ? 20000 : 10000;
    sweep.log_interval = 500;
    sweep.checkpoint_interval = 5000;
    data.tasks = paper ? 500 : 100;
    data.bits = paper ? 102 : 51;
    data.subset = 3;
  }

  void add_fields(ConfigTable& table) override {
    SweepOptions& sweep = options_.sweep;
    SparseParityOptions& data = options_.data;
    table.add("widths", &sweep.widths, "n_embd of each size").at_least(2);
    table.add("learning_rates", &sweep.learning_rates, "of Adam, constant, times 1 / n_embd").at_least(0);
    table.add("steps", &sweep.steps, "optimizer steps").at_least(1);
    table.add("batch_size", &sweep.batch_size, "samples a step").at_least(1);
    add_run_fields(table, sweep);
    table.add("tasks", &data.tasks, "parities").at_least(1);
    table.add("bits", &data.bits, "bits of a sample").at_least(1);
    table.add("subset", &data.subset, "bits that a parity takes").at_least(1);
    table.add("exponent", &data.exponent, "of the tasks' frequencies").at_least(0);
    table.add("unlearned", &options_.unlearned, "claims: accuracy up to which a task is not learned")
        .at_least(0)
        .at_most(1);
    table.add("learned", &options_.learned, "claims: accuracy from which a task is learned").at_least(0).at_most(1);
    table.add("bimodal", &options_.bimodal, "claims: least share of tasks that are either").at_least(0).at_most(1);
    table.add("explained", &options_.explained, "claims: least R^2 of the power law").at_least(0).at_most(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    const SparseParity data(data_options());
    for (const int32_t width : options_.sweep.widths) data.model(width);
  }

  void run(StudyRun& run) override {
    const SparseParity data(data_options());
    const SweepOptions& sweep = options_.sweep;
    for (const int32_t width : sweep.widths) {
      Experiment experiment = sweep_experiment(sweep, "", kVariant, nullptr, width);
      experiment.generated = &data;
      experiment.model = data.model(width);
      graph::OptimizerConfig optimizer;  // Adam as in the paper
      optimizer.weight_decay = 0;
      optimizer.clip_norm = 0;
      experiment.optimizer = optimizer;
      experiment.n_layer = 1;
      run_experiment(run, sweep, experiment);
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    return {{"bimodal",
             fmt::format("At least {} of all tasks of all models have an accuracy outside ({}, {}).", options.bimodal,
                         options.unlearned, options.learned),
             [=](const StudyResult& result, double confidence) { return judge_bimodal(result, options, confidence); }},
            {"power_law",
             fmt::format("The mean loss over sizes is a power law of the parameters with an R^2 of "
                         "at least {} in the logarithms.",
                         options.explained),
             [=](const StudyResult& result, double) { return judge_power_law(result, options); }}};
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    const SparseParityOptions& data = options_.data;
    result.settings = {{"tasks", fmt::format("{} parities of {} of {} bits, frequencies (i + 1)^-{}", data.tasks,
                                             data.subset, data.bits, data.exponent)},
                       {"training", fmt::format("{} steps of {} samples", sweep.steps, sweep.batch_size)},
                       {"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
                       {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
                       {"items", fmt::format("{} of each task", data.items)}};
    result.figures = {tasks_figure(result, options_), loss_figure(result)};
    result.caveats = {"Guessing is right every second time.",
                      "The model is one transformer block at a single position, an MLP with a linear bypass, not "
                      "the ReLU network of the paper; the bits of a task come from equal blocks.",
                      "Tasks of one model are not independent: the interval of the bimodal share takes them as "
                      "if "
                      "they were.",
                      "How many tasks are learned depends on the steps as much as on the size: this is a curve "
                      "at "
                      "one budget of samples."};
  }

 private:
  SparseParityOptions data_options() const {
    SparseParityOptions data = options_.data;
    data.items = options_.sweep.test_items;
    data.validation_samples = options_.sweep.validation_items;
    return data;
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::SparseParityStudy study;
  return surtsey::experiments::run_study(argc, argv, study);
}
