// A pack of models on data that the device makes.
#include "experiments/device_data/regression.h"
#include "experiments/sweeps/ensemble_run.h"
#include "experiments/tasks/parity.h"
#include "graph/error.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <filesystem>

using namespace surtsey;
using namespace surtsey::experiments;

TEST_CASE("a pack learns from generated data, the same alone and in company", "[device]") {
  engine::Device device = tests::open_test_device();
  const RegressionOptions regression{
      .dimension = 2, .context = 4, .test_sequences = 8192, .validation_sequences = 2048, .evaluation_rows = 1024};
  const LinearRegression data(regression);
  SweepOptions options;
  Experiment experiment;
  experiment.task = "regression";
  experiment.variant = "one_layer";
  experiment.generated = &data;
  experiment.model = linear_attention_config(regression, 1, 4);
  experiment.width = 4;
  experiment.n_layer = 1;
  experiment.steps = 300;
  experiment.batch_size = 64;
  experiment.learning_rates = {0.02};
  const std::filesystem::path nowhere;  // no checkpoints are asked for
  const auto run = [&](const std::vector<Member>& members) {
    return run_pack(device, {.options = options, .experiment = experiment, .members = members, .folders = {nowhere}});
  };
  const PackResult company = run({{0, 0.02}, {1, 0.02}, {0, 0.002}});
  const PackResult alone = run({{1, 0.02}});
  REQUIRE(company.cells.size() == 3);
  REQUIRE(alone.cells.size() == 1);
  REQUIRE(alone.samples.empty());
  const auto ratio = [](const Cell& cell) { return cell.find_measure("loss_over_optimum")->mean; };
  // Guessing 0 has d = 2, the optimum 6 / 7.
  CHECK(ratio(company.cells[0]) < 1.4);
  CHECK(ratio(company.cells[0]) > 0.9);
  CHECK(ratio(company.cells[0]) != ratio(company.cells[1]));
  CHECK(ratio(company.cells[2]) > ratio(company.cells[0]));  // too low a rate for 300 steps
  for (const Measure& measure : alone.cells[0].measures) {
    CAPTURE(measure.name);
    CHECK(company.cells[1].find_measure(measure.name)->mean == measure.mean);
  }
  CHECK(company.cells[1].validation_loss == alone.cells[0].validation_loss);
  CHECK(alone.cells[0].flops > 0);
  CHECK(pack_cost(device.info().target, experiment, {{1, 0.02}}).flops == alone.cells[0].flops);
  CHECK(measure_step(device, experiment, {{1, 0.02}}, 2) > 0);
}

TEST_CASE("keys of a sweep have a most, and parity names the key of its bits", "[sweep][limits]") {
  SweepOptions options;
  ConfigTable table;
  add_sweep_fields(table, options);
  for (const char* wrong :
       {"--test_items=1000001", "--validation_items=2000000000", "--learning_rates=0", "--n_layer=1025",
        "--evaluation_rows=200000", "--ensemble_size=5000", "--batch_size=2000000"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(table.override_one(wrong), UserError);
  }
  try {
    tasks::make_parity(2, {"cot"}, "parity_bits");
    FAIL("two bits are four prompts");
  } catch (const UserError& error) {
    const std::string text = error.what();
    CAPTURE(text);
    CHECK(text.starts_with("[parity] parity_bits 2 make 4 prompts"));
    CHECK(text.ends_with("take a greater parity_bits"));
    CHECK(text.find("modulus") == std::string::npos);
  }
}
