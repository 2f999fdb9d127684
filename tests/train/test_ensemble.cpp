// One ensemble: interviews on the way, over interrupts; models that an earlier run kept.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
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

tasks::ChainTask small_chain() { return tasks::ChainTask({.modulus = 5, .length = 3, .held_out_share = 0}); }

// The loss of the chain at three steps; may interrupt the run after one of them.
class Losses : public Interview {
 public:
  explicit Losses(const tasks::Task& task) : task_(task) {}
  mutable std::vector<int64_t> asked;
  int64_t interrupt_after = 0;  // a step that is asked; 0: none

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
    if (step == interrupt_after) set_interrupted(true);
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
  const tasks::ChainTask task = small_chain();
  Losses losses(task);
  Experiment experiment = sweep_experiment(options, "", "chain", &task, 8);
  experiment.interview = &losses;
  const std::vector<Member> members = {{1, 0.02}, {2, 0.02}};

  const PackResult whole = run_pack(device, {.options = options,
                                             .experiment = experiment,
                                             .members = members,
                                             .folders = {folder / "whole"},
                                             .resume = true});
  REQUIRE(losses.asked == std::vector<int64_t>{8, 11, 80});

  losses.asked.clear();
  losses.interrupt_after = 11;
  const PackFolders parts{folder / "parts"};
  REQUIRE_THROWS_AS(
      run_pack(device,
               {.options = options, .experiment = experiment, .members = members, .folders = parts, .resume = true}),
      Interrupted);
  set_interrupted(false);
  losses.interrupt_after = 0;
  REQUIRE(losses.asked == std::vector<int64_t>{8, 11});
  const PackResult resumed = run_pack(
      device, {.options = options, .experiment = experiment, .members = members, .folders = parts, .resume = true});
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
  const tasks::ChainTask task = small_chain();
  Experiment experiment = sweep_experiment(options, "", "joint", &task, 8);
  experiment.bits = {3};
  const std::vector<Member> members = {{1, 0.02}, {2, 0.02}};
  const PackResult trained = run_pack(device, {.options = options,
                                               .experiment = experiment,
                                               .members = members,
                                               .folders = {folder / "checkpoints", folder / "models"}});
  REQUIRE(trained.cells.size() == 4);

  TrainedModels models;
  models.folder = folder / "models";
  models.cells = {trained.cells[0], trained.cells[1]};
  experiment.trained = &models;
  experiment.variant = "f32";
  const PackResult taken = run_pack(
      device, {.options = options, .experiment = experiment, .members = members, .folders = {folder / "none"}});
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
  REQUIRE_THROWS_AS(
      run_pack(device, {.options = options, .experiment = wider, .members = members, .folders = {folder / "none"}}),
      UserError);
  models.folder = folder / "nowhere";
  REQUIRE_THROWS_AS(
      run_pack(device,
               {.options = options, .experiment = experiment, .members = members, .folders = {folder / "none"}}),
      UserError);
}

TEST_CASE("ensemble: an experiment goes on from the models of another, of each seed at the rate that was chosen") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  SweepOptions options = small_options();
  options.learning_rates = {0.16, 1e-6};  // of which the second learns nothing
  options.steps = 40;
  const tasks::ChainTask task = small_chain();
  const Experiment first = sweep_experiment(options, "", "first", &task, 8);
  // One whose steps change next to nothing, at one rate and at several.
  Experiment second = first;
  second.variant = "second";
  second.origin = Origin{"first"};
  second.steps = 2;
  second.learning_rates = {1e-12};
  Experiment third = second;
  third.variant = "third";
  third.learning_rates = {1e-12, 1e-13};
  // And one that learns from them: it is told which they are, and begins anew.
  std::vector<std::string> told;
  Experiment pupil = sweep_experiment(options, "", "pupil", &task, 8);
  pupil.origin = Origin{"first", 8, 2};
  pupil.steps = 1;
  pupil.prepare = [&](engine::Device&, const TrainedModels& models) {
    for (const Cell& cell : models.cells) {
      CHECK(fs::exists(models.folder / cell.cell));
      CHECK(models.of_seed(cell.seed).cell == cell.cell);
      told.push_back(cell.cell);
    }
  };

  const std::vector<PlannedPack> packs = packs_of(std::vector{first, second, third, pupil}, options, device.info());
  std::vector<Cell> cells;
  for (PlannedPack pack : packs) {
    CHECK(pack.kept == (pack.experiment.variant == "first"));
    CHECK((pack.experiment.variant == "first") == pack.waits_for().empty());
    for (const size_t other : pack.waits_for()) CHECK(packs[other].experiment.variant == "first");
    take_from(pack, cells);
    const PackResult done = run_planned(device, options, pack, folder / "checkpoints", folder.path(), false);
    cells.insert(cells.end(), done.cells.begin(), done.cells.end());
    fs::remove_all(folder / "checkpoints");
  }
  const auto of = [&](const std::string& variant, uint32_t seed, double rate) -> const Cell& {
    for (const Cell& cell : cells)
      if (cell.variant == variant && cell.seed == seed && cell.learning_rate == rate) return cell;
    FAIL(variant);
    return cells.front();
  };
  for (const uint32_t seed : {1u, 2u, 1000u}) {
    CAPTURE(seed);
    const Cell &good = of("first", seed, 0.02), &bad = of("first", seed, 1e-6 / 8);
    REQUIRE(*good.validation_loss < *bad.validation_loss - .1);
    CHECK(std::abs(*of("third", seed, 1e-12).validation_loss - *good.validation_loss) < 1e-4);
    CHECK(std::abs(*of("third", seed, 1e-13).validation_loss - *good.validation_loss) < 1e-4);
    if (seed != 1000) CHECK(std::abs(*of("second", seed, 1e-12).validation_loss - *good.validation_loss) < 1e-4);
  }
  CHECK(of("second", 1, 1e-12).flops < of("first", 1, 0.02).flops);
  // Two packs of pupils, each told the same three.
  const std::set<std::string> names(told.begin(), told.end());
  CHECK(names == std::set<std::string>{"first-d8-L2-s1-lr0.02", "first-d8-L2-s2-lr0.02", "first-d8-L2-s1000-lr0.02"});
  CHECK(*of("pupil", 1, 0.02).validation_loss > *of("first", 1, 0.02).validation_loss);

  // What stands before nothing, or has nothing to choose from, is refused.
  REQUIRE_THROWS_AS(packs_of(std::vector{second, first}, options, device.info()), InternalError);
  Experiment single = first;
  single.learning_rates = {0.02};
  REQUIRE_THROWS_AS(packs_of(std::vector{single, third}, options, device.info()), UserError);
  CHECK(packs_of(std::vector{single, second}, options, device.info()).size() == 2);
  // And what would be taken for another, whatever it learns.
  Experiment longer = first;
  longer.steps = 80;
  REQUIRE_THROWS_WITH(packs_of(std::vector{first, longer}, options, device.info()),
                      Catch::Matchers::ContainsSubstring("two experiments have a cell first-d8-L2-s"));
}

TEST_CASE("ensemble: models that choose a learning rate are not interviewed, and their loss chooses") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const SweepOptions options = small_options();
  const tasks::ChainTask task = small_chain();
  Losses losses(task);
  Experiment experiment = sweep_experiment(options, "", "chain", &task, 8);
  experiment.interview = &losses;
  const PackResult found = run_pack(device, {.options = options,
                                             .experiment = experiment,
                                             .members = {{1000, 0.02}, {1000, 0.01}},
                                             .folders = {folder / "checkpoints"},
                                             .selecting = true});
  CHECK(losses.asked.empty());
  CHECK(found.samples.empty());
  for (const Cell& cell : found.cells) {
    CHECK(cell.validation_loss.has_value());
    CHECK(cell.measures.empty());
  }
}

TEST_CASE("ensemble: what a probe measured stays with its cells when rounded weights are asked") {
  // The mean of what a model's weights are, which rounding changes.
  class Weights : public Probe {
   public:
    void add_programs(engine::Session&, const Model&, size_t) const override {}
    std::vector<std::vector<Measure>> measure(engine::Session& session, size_t members, uint32_t) const override {
      const std::vector<float> all = session.read_floats(graph::kParameters);
      std::vector<std::vector<Measure>> result;
      const size_t size = all.size() / members;
      for (size_t e = 0; e < members; ++e) {
        double sum = 0;
        for (size_t i = 0; i < size; ++i) sum += std::abs(double(all[e * size + i]));
        result.push_back({{"mean weight", sum / double(size), 0, int64_t(size)}});
      }
      return result;
    }
  };
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  SweepOptions options = small_options();
  options.steps = 20;
  const tasks::ChainTask task = small_chain();
  const Weights weights;
  Experiment experiment = sweep_experiment(options, "", "joint", &task, 8);
  experiment.bits = {3, 2};
  experiment.probe = &weights;
  const PackResult result = run_pack(device, {.options = options,
                                              .experiment = experiment,
                                              .members = {{1, 0.02}, {2, 0.02}},
                                              .folders = {folder / "checkpoints"}});
  REQUIRE(result.cells.size() == 6);
  std::set<double> different;
  for (const Cell& cell : result.cells) {
    CAPTURE(cell.cell);
    CHECK(std::count_if(cell.measures.begin(), cell.measures.end(),
                        [](const Measure& one) { return one.name == "mean weight"; }) == 1);
    if (const Measure* found = cell.find_measure("mean weight")) different.insert(found->mean);
    CHECK(cell.arms.size() == 2);
  }
  CHECK(different.size() == 6);
}

TEST_CASE("ensemble: a member that diverges is asked like any other and answers nothing") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  SweepOptions options = small_options();
  options.steps = 300;
  const tasks::ChainTask task = small_chain();
  Experiment experiment = sweep_experiment(options, "", "joint", &task, 8);
  experiment.corrupt_arm = "cot";
  const auto ask = [&](std::vector<Member> members) {
    return run_pack(device, {.options = options,
                             .experiment = experiment,
                             .members = std::move(members),
                             .folders = {folder / "checkpoints"}});
  };
  const PackResult mixed = ask({{1, 0.02}, {1, 1e15}});
  REQUIRE(mixed.cells.size() == 2);
  const PackResult alone = ask({{1, 0.02}});
  REQUIRE(alone.cells.size() == 1);
  for (size_t arm = 0; arm < 2; ++arm) {
    CHECK(mixed.cells[0].arms.at(arm).exact_match == alone.cells[0].arms.at(arm).exact_match);
    CHECK(mixed.cells[1].arms.at(arm).exact_match == 0);
    CHECK(mixed.cells[1].arms.at(arm).n == 20);
  }
  CHECK(mixed.cells[0].validation_loss.value() < 2);
  CHECK_FALSE(std::isfinite(mixed.cells[1].validation_loss.value()));
  size_t nothing = 0;
  for (const SampleLine& line : mixed.samples)
    nothing += line.cell == mixed.cells[1].cell && line.response == kNothingWritten;
  CHECK(nothing == 40);
  // All of them: the pack ends early, and is a result.
  const PackResult none = ask({{1, 1e15}, {2, 1e15}});
  CHECK(none.cells.at(0).arms.at(0).exact_match == 0);
  CHECK(none.metrics.back().step < 300);
}
