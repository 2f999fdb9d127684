// One ensemble: interviews on the way, over interrupts; models that an earlier run kept.
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <set>

#include "experiments/base/interrupt.h"
#include "experiments/evaluate/answers.h"
#include "experiments/evaluate/interview.h"
#include "experiments/sweeps/ensemble_run.h"
#include "experiments/sweeps/experiments.h"
#include "experiments/tasks/chain.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;

namespace {

namespace fs = std::filesystem;

// Interrupts the run when batch 75 of 80 is made: the ring is 64 batches ahead at most.
class StoppingTask : public tasks::ChainTask {
 public:
  StoppingTask() : ChainTask({.modulus = 5, .length = 3, .held_out_share = 0}) {}
  bool stop = false;

  void write_sample(tasks::Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override {
    if (stop && split == tasks::Split::kTrain && step == 75) set_interrupted(true);
    ChainTask::write_sample(split, seed, step, index, tokens, targets, weights);
  }
};

// The loss of the chain at three steps.
class Losses : public Interview {
 public:
  explicit Losses(const tasks::Task& task) : task_(task) {}
  mutable std::vector<int64_t> asked;

  std::vector<int64_t> steps(int64_t last) const override { return {8, 11, last}; }

  void ask(Evaluator& evaluator, int64_t step, bool last, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    asked.push_back(step);
    const ArmAnswers answers = evaluator.answer(task_, 0, 20, 1);
    for (size_t e = 0; e < cells.size(); ++e) {
      double sum = 0;
      for (const double one : answers.nll[e]) sum += one;
      cells[e].measures.push_back({fmt::format("at {}", step), sum, 0, 20});
    }
    if (last) add_answer_lines(task_, cells, answers, samples);
  }

 private:
  const tasks::Task& task_;
};

SweepOptions small_options() {
  SweepOptions options;
  options.seeds = {1, 2};
  options.learning_rates = {0.16};
  options.steps = 80;
  options.batch_size = 16;
  options.test_items = 20;
  options.validation_items = 20;
  options.log_interval = 10;
  return options;
}

}  // namespace

TEST_CASE("ensemble: an interrupted interview goes on with what it had found") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const SweepOptions options = small_options();
  StoppingTask task;
  const Losses losses(task);
  Experiment experiment = sweep_experiment(options, "", "chain", &task, 8);
  experiment.interview = &losses;
  const std::vector<Member> members = {{1, 0.02}, {2, 0.02}};

  const PackResult whole = run_pack(device, options, experiment, members, false, {folder / "whole"}, true);
  REQUIRE(losses.asked == std::vector<int64_t>{8, 11, 80});

  losses.asked.clear();
  task.stop = true;
  const PackFolders parts{folder / "parts"};
  REQUIRE_THROWS_AS(run_pack(device, options, experiment, members, false, parts, true), Interrupted);
  set_interrupted(false);
  task.stop = false;
  REQUIRE(losses.asked == std::vector<int64_t>{8, 11});
  const PackResult resumed = run_pack(device, options, experiment, members, false, parts, true);
  REQUIRE(losses.asked == std::vector<int64_t>{8, 11, 80});  // none asked twice

  REQUIRE(whole.cells.size() == 2);
  for (size_t e = 0; e < whole.cells.size(); ++e) {
    const Cell &a = whole.cells[e], &b = resumed.cells[e];
    REQUIRE(a.measures.size() == 3);
    REQUIRE(b.measures.size() == 3);
    for (size_t i = 0; i < a.measures.size(); ++i) {
      REQUIRE(a.measures[i].name == b.measures[i].name);
      REQUIRE(a.measures[i].mean == b.measures[i].mean);
    }
    REQUIRE(a.measures[0].mean != a.measures[2].mean);  // it learned something
    REQUIRE(a.arms.size() == 1);
    REQUIRE(a.arms[0].n == 20);
    REQUIRE(a.arms[0].loss_per_token == b.arms[0].loss_per_token);
    REQUIRE(b.train_seconds > 0);
  }
  // The curve is whole, without a step twice.
  std::set<std::pair<std::string, int64_t>> lines;
  for (const MetricLine& line : resumed.metrics) {
    REQUIRE(lines.insert({line.cell, line.step}).second);
  }
  for (const MetricLine& line : whole.metrics) {
    if (line.step % options.log_interval == 0) REQUIRE(lines.count({line.cell, line.step}) == 1);
  }
}

TEST_CASE("ensemble: models that an earlier run kept are asked and rounded, and not trained") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const SweepOptions options = small_options();
  const StoppingTask task;
  Experiment experiment = sweep_experiment(options, "", "joint", &task, 8);
  experiment.bits = {3};
  const std::vector<Member> members = {{1, 0.02}, {2, 0.02}};
  const PackResult trained =
      run_pack(device, options, experiment, members, false, {folder / "checkpoints", folder / "models"}, false);
  REQUIRE(trained.cells.size() == 4);

  TrainedModels models;
  models.folder = folder / "models";
  models.cells = {trained.cells[0], trained.cells[1]};
  experiment.trained = &models;
  experiment.variant = "f32";
  const PackResult taken = run_pack(device, options, experiment, members, false, {folder / "none"}, false);
  REQUIRE(taken.cells.size() == 4);
  REQUIRE(taken.metrics.empty());
  REQUIRE_FALSE(fs::exists(folder / "none"));
  for (size_t i = 0; i < taken.cells.size(); ++i) {
    const Cell &before = trained.cells[i], &after = taken.cells[i];
    CAPTURE(before.cell, after.cell);
    REQUIRE(after.arms.size() == 2);
    for (size_t arm = 0; arm < after.arms.size(); ++arm) {
      REQUIRE(after.arms[arm].loss_per_token == before.arms[arm].loss_per_token);
      REQUIRE(after.arms[arm].exact_match == before.arms[arm].exact_match);
    }
    REQUIRE(after.tokens == before.tokens);
    REQUIRE(after.flops == 0);
    REQUIRE((before.flops > 0) == (before.variant == "joint"));
  }
  REQUIRE(pack_cost(device.info().target, experiment, members).flops == 0);

  // Another width, or no weights at all, is refused.
  Experiment wider = sweep_experiment(options, "", "f32", &task, 16);
  wider.trained = &models;
  REQUIRE_THROWS_AS(run_pack(device, options, wider, members, false, {folder / "none"}, false), UserError);
  models.folder = folder / "nowhere";
  REQUIRE_THROWS_AS(run_pack(device, options, experiment, members, false, {folder / "none"}, false), UserError);
}
