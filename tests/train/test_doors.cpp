// Training through the doors: a frozen base under several models, saved and gone on from; the gradient between backward
// and optimizer, in the graph and on the host.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <nlohmann/json.hpp>
#include "experiments/formats/safetensors.h"
#include "experiments/tasks/chain.h"
#include "experiments/train/train.h"
#include "tests/support/folder.h"
#include "tests/support/small_training.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using graph::DType;
using graph::State;
using tests::small_config;
using tests::small_model;
using tests::small_task;

namespace {

// All but the matrices of the last MLP, as 16 bits where the device stores such.
Model frozen_model(const tasks::Task& task, const engine::Device& device) {
  Model model = small_model(task);
  model.store().freeze([](const graph::ParameterSpec& spec) { return spec.name.find("blocks.1.mlp") != 0; },
                       graph::whole(device.target().f16_storage ? DType::f16 : DType::f32));
  return model;
}

struct DoorsRun {
  DoorsRun(engine::Device& device, const Model& model, const TrainConfig& config, const tasks::Task& task)
      : session(device, {.quiet = true}), trainer(session, model, config, task) {
    session.allocate();
    trainer.initialise();
  }
  engine::Session session;
  Trainer trainer;
};

}  // namespace

TEST_CASE("members over a frozen base are saved, and go on to the bits of a run that was not stopped",
          "[device][frozen]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const auto task = small_task();
  const Model model = frozen_model(task, device);
  const TrainConfig config = small_config(30, {{1, 0.01}, {2, 0.02}}, 8);
  DoorsRun whole(device, model, config, task);
  whole.trainer.run();
  const std::vector<float>& losses = whole.trainer.losses()[0];
  CHECK(losses.size() == 30);

  DoorsRun first(device, model, config, task);
  first.trainer.run({.until = 14});
  first.trainer.save(folder / "save", nlohmann::json::object());
  DoorsRun second(device, model, config, task);
  // What is frozen comes from the save, not from the seed.
  const std::string frozen = "frozen.blocks.0.attention.q.weight";
  const graph::HostTensor base = second.session.read(frozen);
  second.session.write(frozen, graph::HostTensor::zeros(base.type));
  REQUIRE(second.trainer.load(folder / "save") == 14);
  CHECK(second.session.read(frozen).values == base.values);
  second.trainer.run();
  for (size_t e = 0; e < 2; ++e) CHECK(second.trainer.parameters(e).values == whole.trainer.parameters(e).values);
  CHECK(whole.trainer.parameters(0).values != whole.trainer.parameters(1).values);
  CHECK(whole.session.read(frozen).values == base.values);

  // A save holds every tensor under its own name, the frozen ones as they are kept and once.
  const State saved = read_safetensors(Trainer::newest_save(folder / "save", 2, 1) + "/model.safetensors").tensors;
  CHECK(saved.size() == model.store().specs().size());
  CHECK(saved.at("blocks.0.attention.q.weight").type == base.type);
  CHECK(saved.at("blocks.1.mlp.up.weight").type.dtype == DType::f32);
  const State rest = read_safetensors(Trainer::newest_save(folder / "save", 2, 1) + "/optimizer.safetensors").tensors;
  CHECK(rest.at("adam.m").type == model.store().flat_type());
  for (const auto& [name, tensor] : rest) CHECK_FALSE(name.starts_with("frozen."));
}

TEST_CASE("the weights of a whole model are a start for one that is frozen in part", "[device][frozen]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const auto task = small_task();
  const Model plain = small_model(task);
  DoorsRun pretrained(device, plain, small_config(20, {{3, 0.02}}, 8), task);
  pretrained.trainer.run();
  pretrained.trainer.save(folder / "save", nlohmann::json::object());

  const Model model = frozen_model(task, device);
  const State start = load_checkpoint(folder / "save", model.store()).state;
  DoorsRun tuned(device, model, small_config(10, {{1, 0.01}}, 8), task);
  tuned.trainer.initialise(start);
  CHECK(tuned.session.read("frozen.head.weight").values == start.at("frozen.head.weight").values);
  tuned.trainer.run();
  // The loss goes on from where it stood, up to the rounding of the base.
  CHECK(tuned.trainer.losses()[0].front() < pretrained.trainer.losses()[0].front());
}

TEST_CASE("the gradient passes two doors on its way to the optimizer", "[device][frozen]") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task);
  TrainConfig config = small_config(6, {{1, 0.05}, {2, 0.02}}, 8);
  config.optimizer.kind = graph::OptimizerKind::sgd;
  config.optimizer.clip_norm = 0;
  DoorsRun plain(device, model, config, task);
  plain.trainer.run();

  // A host that changes nothing: two programs a step, the same training.
  int calls = 0;
  TrainConfig split = config;
  split.exchange = [&](engine::Session& session) {
    ++calls;
    CHECK(session.state_type("gradient_accumulator").shape == graph::Shape{2, model.store().flat_size()});
    double sum = 0;
    for (const float value : session.read_floats("gradient_accumulator")) sum += std::abs(double(value));
    CHECK(sum > 0);  // everything of this step is there
  };
  DoorsRun apart(device, model, split, task);
  apart.trainer.run();
  CHECK(calls == 6);
  // A host and a graph that double it.
  TrainConfig host = config, graph_side = config;
  host.exchange = [](engine::Session& session) {
    std::vector<float> sums = session.read_floats("gradient_accumulator");
    for (float& value : sums) value *= 2;
    session.write("gradient_accumulator", sums);
  };
  graph_side.gradient = [](const graph::Parameters&, graph::Value gradient) { return 2.0 * gradient; };
  DoorsRun doubled(device, model, host, task), doubled_too(device, model, graph_side, task);
  doubled.trainer.run();
  doubled_too.trainer.run();
  // And with micro-batches, where the door stands before the mean is applied.
  for (TrainConfig* one : {&host, &graph_side}) one->optimizer.accumulation_steps = 2;
  DoorsRun micro(device, model, host, task), micro_too(device, model, graph_side, task);
  micro.trainer.run();
  micro_too.trainer.run();
  for (size_t e = 0; e < 2; ++e) {
    const std::vector<double> a = plain.trainer.parameters(e).values, b = apart.trainer.parameters(e).values;
    const std::vector<double> c = doubled.trainer.parameters(e).values, d = doubled_too.trainer.parameters(e).values;
    const std::vector<double> f = micro.trainer.parameters(e).values, g = micro_too.trainer.parameters(e).values;
    double moved = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      CHECK(b[i] == Approx(a[i]).epsilon(1e-4).margin(1e-5));
      CHECK(d[i] == Approx(c[i]).epsilon(1e-4).margin(1e-5));
      CHECK(g[i] == Approx(f[i]).epsilon(1e-4).margin(1e-5));
      moved = std::max(moved, std::abs(c[i] - a[i]));
    }
    CHECK(moved > 1e-3);
  }
}
