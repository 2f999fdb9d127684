// Training on data that the device makes.
#include "experiments/device_data/regression.h"
#include "experiments/train/train.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <filesystem>
#include <random>

using namespace surtsey;
using namespace surtsey::experiments;

TEST_CASE("training on generated data resumes to the same bits", "[device]") {
  engine::Device device = tests::open_test_device();
  const RegressionOptions regression{.dimension = 2, .context = 4};
  const LinearRegression data(regression);
  const Model model(linear_attention_config(regression, 1, 4));
  TrainConfig config;
  config.optimizer = recipe_optimizer(40);
  config.members = {{3, 0.01}, {4, 0.01}};
  config.batch_size = 32;
  config.steps = 40;
  config.generated = &data;
  const auto scratch =
      std::filesystem::temp_directory_path() / fmt::format("surtsey-generated-{}", std::random_device{}());
  const auto train = [&](bool in_parts) {
    engine::Session session(device, {.quiet = true});
    Trainer trainer(session, model, config);
    session.allocate();
    trainer.initialise();
    if (in_parts) {
      trainer.run({.until = 16});
      trainer.save(scratch.string(), nlohmann::json::object());
      trainer.initialise();
      REQUIRE(trainer.load(scratch.string()) == 16);
    }
    trainer.run();
    return std::vector{trainer.parameters(0).values, trainer.parameters(1).values};
  };
  const auto whole = train(false), parts = train(true);
  std::filesystem::remove_all(scratch);
  CHECK(whole == parts);
  CHECK(whole[0] != whole[1]);
}
