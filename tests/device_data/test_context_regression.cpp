// Linear functions in context: rules against closed forms, sequences against their definition, and
// a device that measures what a model predicts.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "experiments/device_data/context_regression.h"
#include "experiments/device_data/regression_baselines.h"
#include "experiments/statistics/intervals.h"
#include "experiments/train/checkpoint.h"
#include "experiments/train/train_program.h"
#include "graph/error.h"
#include "graph/interpret.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using graph::DType;
using graph::HostTensor;
using graph::State;

namespace {

// A noise-free function with standard normal weights and inputs.
struct Sequence {
  Sequence(int64_t dimension, size_t count, uint32_t seed, double noise = 0)
      : x(count * static_cast<size_t>(dimension)), w(static_cast<size_t>(dimension)) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    for (double& one : w) one = normal(generator);
    for (double& one : x) one = normal(generator);
    for (size_t k = 0; k < count; ++k) {
      double sum = noise * normal(generator);
      for (size_t j = 0; j < w.size(); ++j) sum += w[j] * x[k * w.size() + j];
      y.push_back(sum);
    }
  }
  ContextExamples examples() const { return {static_cast<int64_t>(w.size()), x, y}; }

  std::vector<double> x, w, y;
};

constexpr int kSequences = 4000;

// Mean squared error of a rule after each number of examples, in units of d, with its deviation.
std::vector<std::pair<double, double>> errors_of(int64_t dimension, size_t count,
                                                 std::vector<double> (*rule)(const ContextExamples&)) {
  std::vector<std::vector<double>> errors(count);
  for (uint32_t seed = 0; seed < kSequences; ++seed) {
    const Sequence sequence(dimension, count, seed);
    const auto predictions = rule(sequence.examples());
    for (size_t k = 0; k < count; ++k) {
      const double error = predictions[k] - sequence.y[k];
      errors[k].push_back(error * error / static_cast<double>(dimension));
    }
  }
  std::vector<std::pair<double, double>> means;
  for (const auto& list : errors) means.emplace_back(mean(list), standard_error(list));
  return means;
}

}  // namespace

TEST_CASE("least squares errs by 1 - k/d, and not at all from d examples on") {
  const auto errors = errors_of(5, 11, least_squares);
  for (size_t k = 0; k < 11; ++k) {
    CAPTURE(k, errors[k].first, errors[k].second);
    if (k < 5) {
      CHECK(std::abs(errors[k].first - (1 - double(k) / 5)) < 5 * errors[k].second);
    } else {
      CHECK(errors[k].first < 1e-9);
    }
  }
  // Of one example, the weights with the least norm: w = y x / |x|^2.
  const std::vector<double> x = {3, 4, 1, 0}, y = {50, 0};
  CHECK(least_squares({2, x, y})[1] == Approx(50 * 3.0 / 25));
}

TEST_CASE("averaging errs by (d + 1)/k: one step of gradient descent") {
  const auto errors = errors_of(4, 9, averaging);
  CHECK(std::abs(errors[0].first - 1) < 5 * errors[0].second);
  for (size_t k = 1; k < 9; ++k) {
    CAPTURE(k);
    CHECK(std::abs(errors[k].first - 5.0 / double(k)) < 5 * errors[k].second);
  }
}

TEST_CASE("ridge regression is the posterior mean under noise") {
  // In one dimension: sum of x y over the sum of squares and the noise.
  const std::vector<double> x = {2, -1, 0.5, 3}, y = {1, 2, -1, 7};
  const auto predictions = ridge({1, x, y}, 0.25);
  double xy = 0, xx = 0.25;
  for (size_t k = 0; k < 4; ++k) {
    CHECK(predictions[k] == Approx(xy / xx * x[k]).margin(1e-12));
    xy += x[k] * y[k];
    xx += x[k] * x[k];
  }
  // Both ways through the equations meet at k = d: the push-through identity.
  const Sequence sequence(3, 8, 5, 0.3);
  const auto all = ridge(sequence.examples(), 0.09);
  // By gradient descent on |y - Xw|^2 + penalty |w|^2 to its end.
  for (size_t k = 0; k < 8; ++k) {
    std::vector<double> w(3, 0);
    for (int step = 0; step < 20'000; ++step) {
      std::vector<double> gradient = {0.09 * w[0], 0.09 * w[1], 0.09 * w[2]};
      for (size_t i = 0; i < k; ++i) {
        double error = -sequence.y[i];
        for (size_t j = 0; j < 3; ++j) error += w[j] * sequence.x[3 * i + j];
        for (size_t j = 0; j < 3; ++j) gradient[j] += error * sequence.x[3 * i + j];
      }
      for (size_t j = 0; j < 3; ++j) w[j] -= 0.02 * gradient[j];
    }
    double prediction = 0;
    for (size_t j = 0; j < 3; ++j) prediction += w[j] * sequence.x[3 * k + j];
    CAPTURE(k);
    CHECK(all[k] == Approx(prediction).margin(1e-6));
  }
}

TEST_CASE("neighbours are the nearest, and fewer when there are fewer") {
  const std::vector<double> x = {0, 10, 1, 2, 1.2}, y = {5, 100, 7, 12, 0};
  const auto predictions = nearest_neighbours({1, x, y}, 3);
  CHECK(predictions[0] == 0);
  CHECK(predictions[1] == 5);
  CHECK(predictions[2] == Approx((5 + 100) / 2.0));
  CHECK(predictions[3] == Approx((5 + 100 + 7) / 3.0));
  CHECK(predictions[4] == Approx((5 + 7 + 12) / 3.0));
  CHECK(nearest_neighbours({1, x, y}, 1)[4] == 7);
}

TEST_CASE("the posterior mean knows one task, weighs two, and of many is ridge regression") {
  const Sequence sequence(2, 5, 1, 0.5);
  const std::vector<double> one = {0.3, -1.2};
  const auto only = posterior_mean(sequence.examples(), one, 0.5);
  for (size_t k = 0; k < 5; ++k) {
    CHECK(only[k] == Approx(0.3 * sequence.x[2 * k] - 1.2 * sequence.x[2 * k + 1]));
  }
  // Two tasks in one dimension: a logistic function of the difference of squared errors.
  const std::vector<double> x = {1, 2}, y = {0.8, 0}, two = {1, -1};
  const auto weighed = posterior_mean({1, x, y}, two, 0.5);
  CHECK(weighed[0] == Approx(0).margin(1e-12));
  const double odds = std::exp((1.8 * 1.8 - 0.2 * 0.2) / (2 * 0.25));
  const double share = odds / (1 + odds);
  CHECK(weighed[1] == Approx(2 * share - 2 * (1 - share)));
  // Standard normal tasks without end have the normal prior of ridge regression.
  std::mt19937 generator(3);
  std::normal_distribution<double> normal;
  std::vector<double> many(2 * 400'000);
  for (double& number : many) number = normal(generator);
  const auto bayes = posterior_mean(sequence.examples(), many, 0.5);
  const auto line = ridge(sequence.examples(), 0.25);
  for (size_t k = 0; k < 5; ++k) CHECK(bayes[k] == Approx(line[k]).margin(0.02));
  REQUIRE_THROWS_WITH(posterior_mean({2, x, y}, two, 0.5), ContainsSubstring("2 numbers"));
}

namespace {

// What the graph draws, by the interpreter.
std::map<std::string, HostTensor> drawn(const ContextRegression& data, int64_t rows, bool known,
                                        double dimensions = 0) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  const auto seed = graph.parameter("seed", {DType::u32, {}});
  const auto step = graph.parameter("step", {DType::u32, {}});
  const auto limit = dimensions > 0 ? graph::scalar(graph, dimensions) : graph::Value{};
  const auto draw = data.draw(graph, rows, seed, step, "test", known, limit);
  program.outputs = {{"x", draw.x}, {"y", draw.y}, {"tokens", draw.tokens}};
  State state;
  state["seed"] = HostTensor::scalar(DType::u32, 5);
  state["step"] = HostTensor::scalar(DType::u32, 6);
  const auto outputs = graph::interpret(program, state);
  return {outputs.begin(), outputs.end()};
}

}  // namespace

TEST_CASE("sequences in context hold linear functions, as tokens with a place for x and one for y") {
  const ContextRegression data({.dimension = 3, .examples = 7});
  const auto outputs = drawn(data, 200, false);
  const auto &x = outputs.at("x").values, &y = outputs.at("y").values;
  const auto& tokens = outputs.at("tokens").values;
  double squares = 0;
  for (size_t row = 0; row < 200; ++row) {
    const ContextExamples examples{3, std::span(x).subspan(row * 21, 21), std::span(y).subspan(row * 7, 7)};
    const auto predictions = least_squares(examples);
    for (size_t k = 0; k < 7; ++k) {
      if (k >= 4) REQUIRE(predictions[k] == Approx(examples.y[k]).margin(2e-2));
      squares += examples.y[k] * examples.y[k];
      const double* asked = &tokens[(row * 14 + 2 * k) * 4];
      const double* told = asked + 4;
      REQUIRE(asked[0] == 0);
      for (size_t j = 0; j < 3; ++j) REQUIRE(asked[1 + j] == examples.x[3 * k + j]);
      REQUIRE(told[0] == examples.y[k]);
      for (size_t j = 1; j < 4; ++j) REQUIRE(told[j] == 0);
    }
  }
  CHECK(squares / 1400 == Approx(3).epsilon(0.25));

  const auto masked = drawn(data, 50, false, 2);
  for (size_t at = 0; at < 50 * 7; ++at) {
    REQUIRE(masked.at("x").values[3 * at + 2] == 0);
    REQUIRE(masked.at("x").values[3 * at + 1] != 0);
  }
}

TEST_CASE("known tasks are those of the list, each of them, and new ones are not") {
  const ContextRegression data({.dimension = 2, .examples = 4, .noise = 1e-4, .tasks = 5});
  REQUIRE(data.tasks().size() == 10);
  for (const bool known : {true, false}) {
    const auto outputs = drawn(data, 300, known);
    std::map<size_t, int> counts;
    int others = 0;
    for (size_t row = 0; row < 300; ++row) {
      size_t best = 0;
      double least = 1e9;
      for (size_t task = 0; task < 5; ++task) {
        double error = 0;
        for (size_t k = 0; k < 4; ++k) {
          const double* x = &outputs.at("x").values[(row * 4 + k) * 2];
          const double y = data.tasks()[2 * task] * x[0] + data.tasks()[2 * task + 1] * x[1];
          error = std::max(error, std::abs(y - outputs.at("y").values[row * 4 + k]));
        }
        if (error < least) best = task;
        least = std::min(least, error);
      }
      if (least < 2e-3) {
        ++counts[best];
      } else {
        ++others;
      }
    }
    CHECK(others == (known ? 0 : 300));
    if (!known) continue;
    REQUIRE(counts.size() == 5);
    for (const auto& [task, count] : counts) CHECK(std::abs(count - 60) < 35);
  }
  REQUIRE_THROWS_WITH(ContextRegression({.tasks = 4}), ContainsSubstring("without noise"));
  REQUIRE_THROWS_WITH(ContextRegression({.examples = 1}), ContainsSubstring("1 examples"));
}

TEST_CASE("a curriculum starts with few dimensions and few examples, and ends with all") {
  ContextRegressionOptions options{
      .dimension = 4, .examples = 9, .start_dimension = 2, .start_examples = 3, .curriculum_steps = 10};
  const ContextRegression growing(options);
  options.curriculum_steps = 0;
  const ContextRegression whole(options);
  const Model model(context_regression_config(options, 1, 8, 2));
  // A model that says 0 has the mean square of y as its loss: about the number of dimensions.
  const auto loss = [&](const ContextRegression& data, uint32_t step) {
    graph::Program program{std::make_shared<graph::Graph>(), {}};
    graph::Graph& graph = *program.graph;
    graph::Parameters parameters(graph, model.store());
    const auto seed = graph.parameter("seed", {DType::u32, {}});
    const auto at = graph.parameter("step", {DType::u32, {}});
    program.outputs = {{"loss", data.training_loss(model, parameters, seed, at, 2000)}};
    State tensors = model.store().unpack(model.store().initialise(0));
    for (auto& [name, tensor] : tensors) {
      std::fill(tensor.values.begin(), tensor.values.end(), 0.0);
    }
    State state;
    state["seed"] = HostTensor::scalar(DType::u32, 1);
    state["step"] = HostTensor::scalar(DType::u32, step);
    state[graph::kParameters] = model.store().pack(tensors);
    return graph::interpret(program, state).at("loss").values[0];
  };
  CHECK(loss(growing, 0) == Approx(2).epsilon(0.1));
  CHECK(loss(growing, 9) == Approx(2).epsilon(0.1));
  CHECK(loss(growing, 10) == Approx(3).epsilon(0.1));
  CHECK(loss(growing, 1000) == Approx(4).epsilon(0.1));
  CHECK(loss(growing, 1000) == Approx(loss(whole, 1000)).epsilon(1e-5));
}

TEST_CASE("a device measures predictions against the rules", "[device]") {
  engine::Device device = tests::open_test_device();
  const ContextRegression data({.dimension = 2,
                                .examples = 5,
                                .noise = 0.5,
                                .tasks = 4,
                                .test_sequences = 600,
                                .validation_sequences = 512,
                                .evaluation_rows = 256});
  const Model model(context_regression_config(data.options(), 1, 8, 2));
  engine::Session session(device, {.quiet = true});
  data.add_programs(session, model, 2);
  session.allocate();
  // Both models say 0.
  State tensors = model.store().unpack(model.store().initialise(0));
  for (auto& [name, tensor] : tensors) std::fill(tensor.values.begin(), tensor.values.end(), 0.0);
  std::vector<State> members(2);
  for (State& member : members) member[graph::kParameters] = model.store().pack(tensors);
  session.write(graph::kParameters, ensemble_state(members, member_state_names()).at(graph::kParameters));
  const auto measures = data.measure(session, 2, 3);
  REQUIRE(measures.size() == 2);
  std::map<std::string, Measure> found;
  for (const Measure& one : measures[0]) found.emplace(one.name, one);
  REQUIRE(found.size() == 5 + 4);
  for (int k = 0; k < 5; ++k) {
    const Measure& error = found.at(fmt::format("error.{}", k));
    CHECK(error.n == 768);  // whole batches
    // The variance of y, in units of d: the function's and the noise's.
    CHECK(std::abs(error.mean - (1 + 0.25 / 2)) < 5 * error.standard_error);
  }
  // Whoever says 0 is as far from a rule as its predictions are large; on known tasks the posterior
  // goes nearer to y, so farther.
  CHECK(found.at("to_ridge").mean > 0.2);
  CHECK(found.at("known_to_posterior").mean > found.at("known_to_ridge").mean * 0.5);
  for (size_t i = 0; i < measures[0].size(); ++i) {
    CHECK(measures[0][i].mean == measures[1][i].mean);
  }
  const auto validation = data.validation_loss(session, 2, 1);
  CHECK(validation[0] == validation[1]);
  CHECK(validation[0] > 0);
}
