// Widths that share a learning rate: what width_scaled() sets, and that coordinates keep their
// size.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "experiments/evaluate/coordinates.h"
#include "experiments/tasks/markov.h"
#include "graph/functions.h"
#include "graph/optimizer.h"
#include "tests/support/device_suite.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kVocab = 8, kBlock = 8, kWidthRows = 6;

tasks::MarkovTask source() {
  tasks::MarkovOptions options;
  options.symbols = kVocab;
  options.block_size = kBlock;
  return tasks::MarkovTask(options);
}

ModelConfig scaled(int64_t width, bool transfer) {
  const ModelConfig config = recipe_config(2, width, kVocab, kBlock);
  return transfer ? width_scaled(config, recipe_config(2, 16, kVocab, kBlock)) : config;
}

// mean |x| at each point after `steps` of Adam on one batch, in the interpreter.
std::vector<double> coordinates(const ModelConfig& config, int steps) {
  const Model model(config);
  const tasks::Batch batch = source().sample(tasks::Split::kTrain, 0, 0, kWidthRows);
  const Type type{DType::u32, {kWidthRows, kBlock}};
  OptimizerConfig optimizer;
  State state = initial_optimizer_state(model.store(), optimizer, 0.01);
  state[kParameters] = model.store().initialise(1);
  for (const auto& [name, from] : {std::pair{"tokens", &batch.tokens}, {"targets", &batch.targets}}) {
    state[name] = HostTensor::zeros(type);
    std::copy(from->begin(), from->end(), state[name].values.begin());
  }
  Program train{std::make_shared<Graph>(), {}};
  Parameters parameters(*train.graph, model.store());
  const Value logits = model.logits(parameters, train.graph->parameter("tokens", type));
  const Value loss = cross_entropy(logits, train.graph->parameter("targets", type)).mean;
  optimize(parameters, parameters.flat_gradient(loss), loss, optimizer);
  train.outputs = {{"loss", loss}};
  for (int t = 0; t < steps; ++t) interpret(train, state);
  state["coordinates.tokens"] = state["tokens"];
  const Program look = coordinate_program(model, kWidthRows, kBlock);
  auto outputs = interpret(look, state);
  std::vector<double> sizes;
  for (const std::string& name : coordinate_names(config)) {
    sizes.push_back(outputs.at(name).values[0]);
  }
  return sizes;
}

}  // namespace

TEST_CASE("a width scaled to another takes its learning rate: multipliers and scales", "[width]") {
  const ModelConfig base = recipe_config(2, 16, kVocab, kBlock);  // heads 8 wide
  for (const int64_t growth : {1, 2, 4}) {
    const ModelConfig config = width_scaled(recipe_config(2, 16 * growth, kVocab, kBlock), base);
    CAPTURE(growth);
    const Model model(config);
    const auto rate = [&](const char* name) { return model.store().spec(name).learning_rate_multiplier; };
    for (const char* name :
         {"blocks.0.attention.q.weight", "blocks.1.attention.k.weight", "blocks.0.attention.v.weight",
          "blocks.1.attention.out.weight", "blocks.0.mlp.up.weight", "blocks.1.mlp.down.weight"}) {
      CHECK(rate(name) == Approx(1.0 / double(growth)));
    }
    for (const char* name : {"embed.token", "embed.position", "blocks.0.norm1.weight", "blocks.1.mlp.up.bias",
                             "norm.weight", "head.weight"}) {
      CHECK(rate(name) == 1);
    }
    CHECK(model.store().uniform_learning_rate() == (growth == 1));
    CHECK(model.store().spec("head.weight").initialisation.scale == 0);
    CHECK(model.store().spec("blocks.1.attention.q.weight").initialisation.scale == 0);
    CHECK(model.store().spec("blocks.1.attention.k.weight").initialisation.scale > 0);
    CHECK(config.scaling.readout_multiplier == Approx(1.0 / double(growth)));
    CHECK(config.scaling.attention_scale == Approx(1 / std::sqrt(8.0)));
    CHECK(model_config_from_json(to_json(config)) == config);
  }
  // Heads that grow with the width: 1/D, not 1/sqrt(D).
  ModelConfig wide = recipe_config(2, 64, kVocab, kBlock);
  wide.n_head = 2;
  CHECK(width_scaled(wide, base).scaling.attention_scale == Approx(std::sqrt(8.0) / 32));

  ModelConfig tied = base;
  tied.tied = true;
  CHECK_THROWS_WITH(width_scaled(tied, base), ContainsSubstring("untied"));
  ModelConfig standard = base;
  standard.initialisation = InitialisationScheme::standard;
  CHECK_THROWS_WITH(width_scaled(standard, base), ContainsSubstring("recipe"));
  ModelConfig thin = recipe_config(2, 32, kVocab, kBlock);
  thin.n_hidden = 64;
  CHECK_THROWS_WITH(width_scaled(thin, base), ContainsSubstring("hidden layer is 64"));
}

TEST_CASE("the keys of scales do to logits what they say", "[width]") {
  const ModelConfig plain = recipe_config(2, 16, kVocab, kBlock);
  const auto logits = [&](const ModelConfig& config) {
    const Model model(config);
    Program program{std::make_shared<Graph>(), {}};
    Parameters parameters(*program.graph, model.store());
    State state;
    state[kParameters] = Model(plain).store().initialise(4);
    const Type type{DType::u32, {2, kBlock}};
    state["tokens"] = HostTensor::random(type, 0, double(kVocab), 5);
    program.outputs = {{"logits", model.logits(parameters, program.graph->parameter("tokens", type))}};
    return interpret(program, state).at("logits").values;
  };
  const auto expected = logits(plain);
  ModelConfig changed = plain;
  changed.scaling.attention_scale = 1 / std::sqrt(8.0);
  CHECK(logits(changed) == expected);
  changed.scaling.attention_scale = 2;
  CHECK(logits(changed) != expected);
  changed = plain;
  changed.scaling.readout_multiplier = 0.25;
  const auto quarter = logits(changed);
  for (size_t i = 0; i < expected.size(); ++i) CHECK(quarter[i] == 0.25 * expected[i]);
}

TEST_CASE("coordinates keep their size when the width doubles, if it is scaled", "[width]") {
  const std::vector<double> widths = {16, 32, 64};
  for (const bool transfer : {true, false}) {
    std::vector<std::vector<double>> sizes;
    for (const double width : widths) sizes.push_back(coordinates(scaled(int64_t(width), transfer), 4));
    double steepest = 0;
    for (size_t point = 0; point < sizes[0].size(); ++point) {
      std::vector<double> at;
      for (const auto& of_width : sizes) at.push_back(of_width[point]);
      steepest = std::max(steepest, std::abs(log_slope(widths, at)));
    }
    CAPTURE(transfer, steepest);
    // The standard parametrisation fails the same check.
    if (transfer) CHECK(steepest < 0.15);
    if (!transfer) CHECK(steepest > 0.25);
  }
  CHECK(log_slope(std::vector<double>{1, 10, 100}, std::vector<double>{5, 0.5, 0.05}) == Approx(-1));
}

TEST_CASE("coordinates on the device are the interpreter's start", "[width][device]") {
  SURTSEY_NEED_DEVICE();
  const ModelConfig config = scaled(16, false);
  const tasks::MarkovTask data = source();
  TrainConfig train;
  train.steps = 4;
  train.batch_size = kWidthRows;
  train.members = {{1, 0.01}, {2, 0.01}};
  train.optimizer = recipe_optimizer(4);
  const Model model(config);
  const auto start = coordinates_after(device, model, train, data, 0, kWidthRows);
  const auto later = coordinates_after(device, model, train, data, 3, kWidthRows);
  REQUIRE(start.size() == 2);
  const tasks::Batch batch = data.sample(tasks::Split::kValidation, 0, 0, kWidthRows);
  State state;
  state["coordinates.tokens"] = HostTensor::zeros({DType::u32, {kWidthRows, kBlock}});
  std::copy(batch.tokens.begin(), batch.tokens.end(), state["coordinates.tokens"].values.begin());
  for (uint32_t e = 0; e < 2; ++e) {
    state[kParameters] = model.store().initialise(e + 1);
    const auto outputs = interpret(coordinate_program(model, kWidthRows, kBlock), state);
    const auto names = coordinate_names(config);
    for (size_t i = 0; i < names.size(); ++i) {
      CAPTURE(e, names[i]);
      CHECK(start[e][i] == Approx(outputs.at(names[i]).values[0]).epsilon(1e-4));
      CHECK(later[e][i] != start[e][i]);
    }
  }
}
