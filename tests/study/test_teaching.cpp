// What studies share that teach trained models: transfer by hand, bases that are trained once, an adapter beside the
// weights and merged into them, two arms asked while one is learned.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "experiments/study/transfer.h"
#include "experiments/tasks/operations.h"
#include "graph/error.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

TEST_CASE("accuracy, backward and forward transfer of a sequence, by hand", "[study]") {
  const TransferTable table{{"a", "b", "c"}, 100, {.1, .2, 0}, {{1, .3, .2}, {.5, .9, .4}, {.25, .5, 1}}};
  const std::vector<Measure> found = transfer_measures(table);
  REQUIRE(found.size() == 4 + 9);
  CHECK(found[0].name == "ACC");
  CHECK(found[0].mean == Approx((.25 + .5 + 1) / 3));
  CHECK(found[1].name == "BWT");
  CHECK(found[1].mean == Approx((.25 - 1 + .5 - .9) / 2));
  CHECK(found[1].standard_error == Approx(std::sqrt((.25 * .75 + 0 + .25 + .09) / 100) / 2));
  CHECK(found[2].name == "FWT");
  CHECK(found[2].mean == Approx((.3 - .2 + .4 - 0) / 2));
  CHECK(found[3].name == "learned");
  CHECK(found[3].mean == Approx((.9 + 1) / 2));
  CHECK(found[4 + 3 + 2].name == "c after b");
  CHECK(found[4 + 3 + 2].mean == .4);
  TransferTable torn = table;
  torn.learned.pop_back();
  CHECK_THROWS_AS(transfer_measures(torn), InternalError);
}

TEST_CASE("an adapter merged into its base has the logits that it has beside it, and its path is followed",
          "[device][study]") {
  engine::Device device = tests::open_test_device();
  const auto data = [](std::vector<double> shares) {
    return std::make_shared<tasks::OperationsTask>(tasks::OperationsOptions{
        .operations = {{"old", "A"}, {"new", "B", 1, 1, 1}}, .shares = std::move(shares), .digits = 3, .modulus = 5});
  };
  const std::shared_ptr<const tasks::Task> old = data({1, 0}), learned = data({0, 1});
  Bases bases(recipe_bases({old, 1, 60, 16, .16}));
  const TrainedBase& base = bases.of(device, 8, 3);
  CHECK(&bases.of(device, 8, 3) == &base);
  CHECK(bases.of(device, 8, 4).parameters.at("head.weight").values != base.parameters.at("head.weight").values);

  AdaptRequest request{.config = {.target_modules = {"all-linear"}, .r = 4, .lora_alpha = 4, .use_rslora = true}};
  request.train.optimizer = recipe_optimizer(60, 0);
  request.train.members = {{3, .05}, {3, .05}};
  request.train.batch_size = 16;
  request.train.steps = 60;
  request.ranks = {1, 4};
  request.rows = 8;
  request.programs = [](engine::Session& session, const Model& model) { add_logits(session, model, 4, 2); };
  AdaptedRun run(device, base, *learned, request);
  LearningPath path(*learned, "new", "old", 3, 1000, 20);
  path.follow(run, {});
  CHECK(run.trainer().step() == 60);

  SweepOptions options;
  options.test_items = 3;
  options.validation_items = 8;
  Experiment experiment = sweep_experiment(options, "t", "first", learned, 8);
  std::vector<SampleLine> lines;
  std::vector<Cell> cells = ask_adapted(run, *learned, {"new", "old"}, options, experiment, {"r1", "r4"}, lines);
  REQUIRE(cells.size() == 2);
  CHECK(cells[1].cell.find("t-r4-d8") == 0);
  CHECK(cells[1].parameters == 4 * cells[0].parameters);
  REQUIRE(cells[0].arms.size() == 2);
  CHECK(cells[0].arms[0].arm == "new");
  CHECK(lines.size() == 2 * 2 * size_t(cells[0].arms[0].n));
  CHECK(*cells[0].validation_loss != *cells[1].validation_loss);

  // What the accuracy is from the start on is reached after no step, what never comes is not.
  path.add_measures(cells, {0, 1.5});
  REQUIRE(cells[0].find_measure(steps_to(0)) != nullptr);
  CHECK(cells[0].find_measure(steps_to(0))->mean == 0);
  CHECK(cells[0].find_measure(old_when(1.5)) == nullptr);

  const std::vector<double> differences = merged_differences(device, run, base, {1}, *learned, 1, 4);
  REQUIRE(differences.size() == 1);
  CHECK(differences[0] > 0);
  CHECK(differences[0] < 1e-4);
  // The member of rank 1 is merged with the scale of the whole rank: another model.
  CHECK(merged_differences(device, run, base, {0}, *learned, 1, 4)[0] > 1e-2);
}
