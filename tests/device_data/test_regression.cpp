// Linear regressions that a device draws, with the loss of the closed form, which one layer of attention reaches.
#include "experiments/device_data/regression.h"
#include "experiments/models/members.h"
#include "experiments/train/checkpoint.h"
#include "graph/interpret.h"
#include "tests/support/support_device.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using graph::DType;
using graph::HostTensor;
using graph::State;

namespace {

// The weights with which one layer takes the best gradient step, times `factor`: queries and keys
// read x, values read y, and the layer divides by T where the step divides by N + d + 1.
HostTensor gradient_step_weights(const Model& model, const RegressionOptions& options, double factor) {
  State tensors = model.store().unpack(model.store().initialise(0));
  for (auto& [name, tensor] : tensors) std::fill(tensor.values.begin(), tensor.values.end(), 0.0);
  const auto C = size_t(model.config().n_embd), d = size_t(options.dimension);
  const auto set = [&](const char* name, size_t columns, size_t row, size_t column, double value) {
    tensors.at(name).values[row * columns + column] = value;
  };
  for (size_t i = 0; i <= d; ++i) set("embed.input", d + 1, i, i, 1);
  for (size_t i = 0; i < d; ++i) {
    set("blocks.0.attention.q.weight", C, i, i, 1);
    set("blocks.0.attention.k.weight", C, i, i, 1);
  }
  set("blocks.0.attention.v.weight", C, d, d, 1);
  const double T = options.context + 1;
  set("blocks.0.attention.out.weight", C, d, d, factor * T / (T + options.dimension));
  set("head.weight", C, 0, d, 1);
  return model.store().pack(tensors);
}

}  // namespace

TEST_CASE("regressions are linear, their gradient step is one, and its loss is the closed form") {
  const RegressionOptions options{.dimension = 2, .context = 3};
  const LinearRegression data(options);
  constexpr int64_t kRows = 40'000;
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  const Model model(linear_attention_config(options, 1, 4));
  graph::Parameters parameters(graph, model.store());
  const auto seed = graph.parameter("seed", {DType::u32, {}});
  const auto step = graph.parameter("step", {DType::u32, {}});
  const auto draw = data.draw(graph, kRows, seed, step, "regression.test");
  program.outputs = {{"tokens", draw.tokens},
                     {"target", draw.target},
                     {"gradient_step", draw.gradient_step},
                     {"prediction", model.logits(parameters, draw.tokens)}};
  State state;
  state["seed"] = HostTensor::scalar(DType::u32, 5);
  state["step"] = HostTensor::scalar(DType::u32, 6);
  state[graph::kParameters] = gradient_step_weights(model, options, 1);
  const auto outputs = graph::interpret(program, state);
  const auto& tokens = outputs.at("tokens").values;
  double first = 0, second = 0, fourth = 0, loss = 0, squares = 0;
  for (size_t row = 0; row < size_t(kRows); ++row) {
    const double* at = &tokens[row * 12];  // four tokens of (x, x, y)
    // Two examples give the weights; the third and the query must agree.
    const double determinant = at[0] * at[4] - at[1] * at[3];
    const double w0 = (at[2] * at[4] - at[1] * at[5]) / determinant;
    const double w1 = (at[0] * at[5] - at[2] * at[3]) / determinant;
    const double target = outputs.at("target").values[row];
    if (std::abs(determinant) > 0.1) {
      REQUIRE(at[6] * w0 + at[7] * w1 == Approx(at[8]).margin(1e-4));
      REQUIRE(at[9] * w0 + at[10] * w1 == Approx(target).margin(1e-4));
    }
    REQUIRE(at[11] == 0);
    double prediction = 0;
    for (size_t i = 0; i < 3; ++i) {
      const double* one = at + 3 * i;
      prediction += one[2] * (one[0] * at[9] + one[1] * at[10]) / (3 + 2 + 1);
    }
    REQUIRE(outputs.at("gradient_step").values[row] == Approx(prediction).margin(1e-5));
    // One layer with the right weights is that step.
    REQUIRE(outputs.at("prediction").values[row * 4 + 3] == Approx(prediction).margin(1e-5));
    for (const size_t i : {0u, 1u, 3u, 4u, 6u, 7u, 9u, 10u}) {
      first += at[i];
      second += at[i] * at[i];
      fourth += at[i] * at[i] * at[i] * at[i];
    }
    const double error = (prediction - target) * (prediction - target);
    loss += error;
    squares += error * error;
  }
  constexpr double kNumbers = 8.0 * kRows;
  REQUIRE(std::abs(first / kNumbers) < 5 / std::sqrt(kNumbers));
  REQUIRE(std::abs(second / kNumbers - 1) < 5 * std::sqrt(2 / kNumbers));
  REQUIRE(std::abs(fourth / kNumbers - 3) < 5 * std::sqrt(96 / kNumbers));
  const double mean_loss = loss / kRows;
  const double deviation = std::sqrt(squares / kRows - mean_loss * mean_loss);
  REQUIRE(gradient_step_loss(options) == Approx(1));  // 2 * 3 / (3 + 2 + 1)
  REQUIRE(gradient_step_loss({.dimension = 10, .context = 10}) == Approx(110.0 / 21));
  REQUIRE(std::abs(mean_loss - 1) < 5 * deviation / std::sqrt(double(kRows)));
}

TEST_CASE("a device measures the gradient step that one layer takes, and one that is too short", "[device]") {
  engine::Device device = tests::open_test_device();
  const RegressionOptions options{.dimension = 4, .context = 6, .test_sequences = 65'536, .evaluation_rows = 2048};
  const LinearRegression data(options);
  const Model model(linear_attention_config(options, 1, 6));
  engine::Session session(device, {.quiet = true});
  data.add_programs(session, model, 2);
  session.allocate();
  std::vector<State> members(2);
  members[0][graph::kParameters] = gradient_step_weights(model, options, 1);
  members[1][graph::kParameters] = gradient_step_weights(model, options, 0.7);
  session.write(graph::kParameters, ensemble_state(members, member_state_names()).at(graph::kParameters));
  const auto measures = data.measure(session, 2, 3);
  const auto of = [&](size_t member, const char* name) {
    for (const Measure& one : measures[member]) {
      if (one.name == name) return one;
    }
    FAIL("there is no measure " << name);
    return Measure{};
  };
  const Measure right = of(0, "loss_over_optimum"), wrong = of(1, "loss_over_optimum");
  CHECK(right.n == 65'536);
  CHECK(std::abs(right.mean - 1) < 5 * right.standard_error);
  CHECK(of(0, "loss").mean == Approx(of(0, "gradient_step_loss").mean).epsilon(1e-4));
  CHECK(of(0, "cosine").mean == Approx(1).epsilon(1e-5));
  // (1 - .7)^2 of the step's square is lost: its expectation is d N / (N + d + 1), the optimum d (d
  // + 1) / (N + d + 1).
  CHECK(std::abs(wrong.mean - (1 + 0.09 * 6 / 5)) < 5 * wrong.standard_error);
  CHECK(of(1, "cosine").mean == Approx(1).epsilon(1e-5));
  CHECK(of(0, "gradient_step_loss").mean == of(1, "gradient_step_loss").mean);
}
