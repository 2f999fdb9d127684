// A training run of a whole model in every variant that the device can run: it learns, and twice to the same bits.
// (Against PyTorch:
// test_golden.cpp.)
#include "tests/support/device_suite.h"

#include "experiments/models/model.h"
#include "experiments/train/train_session.h"
#include "graph/optimizer.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

// A small decoder learns to repeat its input with a shift: tokens are drawn once, so the loss falls from log(V) towards
// nothing.
void check_training(engine::Device& device, const Variant& variant) {
  constexpr uint32_t kSteps = 60, kChunk = 20;
  experiments::ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 9;
  config.vocab_size = 7;
  const experiments::Model model(config);
  experiments::TrainConfig train_config;
  train_config.batch_size = 5;
  train_config.members = {{.seed = 5, .learning_rate = 1e-2}};
  const Program program = experiments::train_step(model, train_config, 1);  // the same batch at every step

  const auto train = [&](bool poison) {
    engine::SessionOptions options;
    options.target = variant.target;
    options.quiet = true;
    options.poison = poison;
    engine::Session session(device, options);
    const engine::SessionProgram step = session.add_program("train", program);
    session.allocate();
    experiments::write_uniform_start(session, model, train_config);
    std::vector<float> losses;
    for (uint32_t done = 0; done < kSteps; done += kChunk) {
      step.run(kChunk);
      losses.push_back(step.read_floats("loss")[0]);
    }
    return std::pair(losses, session.read_bytes(kParameters));
  };
  INFO(variant.name);
  const auto [losses, parameters] = train(false);
  // Random targets: what 45 tokens say is learned by heart.
  CHECK(losses.front() < 1.9f);
  CHECK(losses[1] < losses[0]);
  CHECK(losses[2] < losses[1]);
  CHECK(losses.back() < 1.0f);
  // The same bits again, with an arena full of NaN before every step: no race, nothing stale.
  const auto again = train(true);
  CHECK(again.first == losses);
  CHECK(again.second == parameters);
}

}  // namespace

TEST_CASE("a model trains on the device, twice to the same bits", "[device]") {
  SURTSEY_NEED_DEVICE();
  check_training(device, variants(device).front());
}

TEST_CASE("a model trains to the same bits in every other variant", "[device]") {
  SURTSEY_NEED_DEVICE();
  const auto list = variants(device);
  for (size_t i = 1; i < list.size(); ++i) DYNAMIC_SECTION(list[i].name) {
      check_training(device, list[i]);
    }
}
