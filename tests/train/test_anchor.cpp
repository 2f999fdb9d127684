// Penalties that pull parameters back: the gradient by hand, two of them as one, a member without any trains as ever.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "experiments/train/anchor.h"
#include "experiments/train/train.h"
#include "tests/support/small_training.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using graph::HostTensor;
using tests::small_config;
using tests::small_model;
using tests::small_task;

namespace {

HostTensor filled(const graph::ParameterStore& store, double value) {
  HostTensor tensor = HostTensor::zeros(store.flat_type());
  std::fill(tensor.values.begin(), tensor.values.end(), value);
  return tensor;
}

}  // namespace

TEST_CASE("two penalties are one, up to a constant", "[train]") {
  const Model model = small_model(small_task());
  Anchor anchor = no_anchor(model.store());
  add_penalty(anchor, filled(model.store(), 2), filled(model.store(), 1));
  CHECK(anchor.center.values[5] == 1);
  add_penalty(anchor, filled(model.store(), 6), filled(model.store(), 5));
  CHECK(anchor.weight.values[5] == 8);
  CHECK(anchor.center.values[5] == 4);  // (2 (x - 1) + 6 (x - 5)) = 8 (x - 4)
  add_penalty(anchor, filled(model.store(), 0), filled(model.store(), 9));
  CHECK(anchor.center.values[5] == 4);
  CHECK_THROWS(add_penalty(anchor, filled(model.store(), -1), filled(model.store(), 0)));
}

TEST_CASE("a penalty pulls each member by its own weights, and one without weights trains as without the door",
          "[device][train]") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task);
  TrainConfig config = small_config(1, {{1, 0.1}, {1, 0.1}}, 8);
  config.optimizer.kind = graph::OptimizerKind::sgd;
  config.optimizer.momentum = 0;
  config.optimizer.weight_decay = 0;
  config.optimizer.clip_norm = 0;
  config.optimizer.schedule = {};
  const auto trained = [&](const TrainConfig& with, const std::vector<Anchor>& anchors) {
    engine::Session session(device, {.quiet = true});
    Trainer trainer(session, model, with, task);
    session.allocate();
    trainer.initialise();
    if (!anchors.empty()) write_anchors(session, anchors);
    trainer.run();
    return std::vector{trainer.parameters(0), trainer.parameters(1)};
  };
  const std::vector<HostTensor> plain = trained(config, {});
  config.gradient = anchored_gradient;
  std::vector<Anchor> anchors(2, no_anchor(model.store()));
  add_penalty(anchors[1], filled(model.store(), .5), filled(model.store(), 2));
  const std::vector<HostTensor> pulled = trained(config, anchors);
  const HostTensor start = model.store().initialise(1);
  CHECK(pulled[0].values == plain[0].values);
  double furthest = 0;
  for (size_t i = 0; i < start.values.size(); ++i)
    furthest = std::max(furthest, std::abs(pulled[1].values[i] - plain[1].values[i] + .1 * .5 * (start.values[i] - 2)));
  CHECK(furthest < 1e-6);

  // With weights of 1 / learning rate a step ends at the center less the rate times the loss's own gradient there:
  // however long it trains, a member is no further from it than its first step went.
  TrainConfig longer = config;
  longer.steps = 30;
  anchors[1] = no_anchor(model.store());
  add_penalty(anchors[1], filled(model.store(), 10), start);
  const std::vector<HostTensor> held = trained(longer, anchors);
  const auto moved = [&](const HostTensor& now) {
    double sum = 0;
    for (size_t i = 0; i < start.values.size(); ++i) sum += std::pow(now.values[i] - start.values[i], 2);
    return std::sqrt(sum);
  };
  INFO(moved(plain[1]) << " in a step, " << moved(held[1]) << " held, " << moved(held[0]) << " free");
  CHECK(moved(held[1]) < moved(plain[1]));
  CHECK(moved(held[0]) > 1.5 * moved(plain[0]));
  engine::Session session(device, {.quiet = true});
  Trainer trainer(session, model, config, task);
  session.allocate();
  CHECK_THROWS(write_anchors(session, std::vector(1, no_anchor(model.store()))));
}
