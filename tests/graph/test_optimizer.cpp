// Optimizers as graphs against the same update written as a loop.
#include "graph/optimizer.h"
#include "graph/vectorize.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <cmath>
#include <limits>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Approx;

namespace {

// loss = sum(weight * (p - target)^2) over two tensors, "a" [3] (one padding element) and "b" [2,
// 2].
struct Quadratic {
  ParameterStore store;
  Quadratic() {
    store.add("a", {3}, Initialisation::normal(1));
    store.add("b", {2, 2}, Initialisation::uniform(1));
  }

  Value loss(Parameters& parameters) const {
    Graph& graph = parameters.graph();
    const Value slope = graph.parameter("slope", {DType::f32, {}});
    const Value a = parameters.get("a");
    const Value b = parameters.get("b");
    return slope * sum((a - 1.0) * (a - 1.0), {0}, false) + sum(b * b * b, {0, 1}, false);
  }

  Program program(const OptimizerConfig& config) const {
    Program result{std::make_shared<Graph>(), {}};
    Parameters parameters(*result.graph, store);
    const Value value = loss(parameters);
    const Value gradient = parameters.flat_gradient(value);
    const OptimizerStep step = optimize(parameters, gradient, value, config);
    result.outputs = {
        {"loss", value}, {"gradient", gradient}, {"norm", step.gradient_norm}, {"rate", step.learning_rate}};
    return result;
  }

  State state(const OptimizerConfig& config, double rate, uint32_t seed = 1) const {
    State state = initial_optimizer_state(store, config, rate);
    state[kParameters] = store.initialise(seed);
    state["slope"] = HostTensor::scalar(DType::f32, 1.5);
    return state;
  }
};

std::vector<double> gradient_of(const std::vector<double>& p, double slope) {
  std::vector<double> g(8, 0);
  for (size_t i = 0; i < 3; ++i) g[i] = 2 * slope * (p[i] - 1);
  for (size_t i = 4; i < 8; ++i) g[i] = 3 * p[i] * p[i];
  return g;
}

double norm_of(const std::vector<double>& g) {
  double sum = 0;
  for (const double x : g) sum += x * x;
  return std::sqrt(sum);
}

void require_close(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    INFO("element " << i);
    REQUIRE(actual[i] == Approx(expected[i]).epsilon(1e-6).margin(1e-9));
  }
}

}  // namespace

TEST_CASE("AdamW: ten steps with clipping and a schedule follow the loop") {
  const Quadratic quadratic;
  OptimizerConfig config;
  config.beta1 = 0.9;
  config.beta2 = 0.95;
  config.weight_decay = 0.1;
  config.clip_norm = 0.5;
  config.metrics_rows = 4;
  config.schedule = {Decay::cosine, 3, 10, 0.1};
  const Program program = quadratic.program(config);
  State state = quadratic.state(config, 0.02);
  std::vector<double> p = state[kParameters].values, m(8, 0), v(8, 0);
  const double peak = state["learning_rate"].values[0];
  for (int t = 0; t < 10; ++t) {
    const auto outputs = interpret(program, state);
    std::vector<double> g = gradient_of(p, 1.5);
    require_close(outputs.at("gradient").values, g);
    const double norm = norm_of(g);
    REQUIRE(outputs.at("norm").values[0] == Approx(norm).epsilon(1e-6));
    const double rate = peak * schedule_factor(t, config.schedule);
    REQUIRE(outputs.at("rate").values[0] == Approx(rate).epsilon(1e-6));
    for (size_t i = 0; i < 8; ++i) {
      g[i] *= std::min(1.0, 0.5 / (norm + 1e-6));
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
      const double mean = m[i] / (1 - std::pow(0.9, t + 1));
      const double square = v[i] / (1 - std::pow(0.95, t + 1));
      p[i] -= rate * (mean / (std::sqrt(square) + 1e-8) + 0.1 * p[i]);
    }
    require_close(state[kParameters].values, p);
    REQUIRE(state["step"].values[0] == t + 1);
    const size_t row = size_t(t % 4) * 3;
    REQUIRE(state["metrics"].values[row] == outputs.at("loss").values[0]);
    REQUIRE(state["metrics"].values[row + 1] == outputs.at("norm").values[0]);
    REQUIRE(state["metrics"].values[row + 2] == outputs.at("rate").values[0]);
  }
  REQUIRE(state["skipped"].values[0] == 0);
  REQUIRE(state[kParameters].values[3] == 0);  // padding stays where it is
}

TEST_CASE("SGD with momentum, plain and Nesterov") {
  const bool nesterov = GENERATE_COPY(false, true);
  INFO("nesterov " << nesterov);
  const Quadratic quadratic;
  OptimizerConfig config;
  config.kind = OptimizerKind::sgd;
  config.weight_decay = 0.05;
  config.momentum = 0.8;
  config.nesterov = nesterov;
  config.clip_norm = 0;
  const Program program = quadratic.program(config);
  State state = quadratic.state(config, 0.01);
  std::vector<double> p = state[kParameters].values, b(8, 0);
  const double rate = state["learning_rate"].values[0];
  for (int t = 0; t < 5; ++t) {
    interpret(program, state);
    const std::vector<double> raw = gradient_of(p, 1.5);
    for (size_t i = 0; i < 8; ++i) {
      const double g = raw[i] + 0.05 * p[i];
      b[i] = 0.8 * b[i] + g;
      p[i] -= rate * (nesterov ? g + 0.8 * b[i] : b[i]);
    }
    require_close(state[kParameters].values, p);
  }
}

TEST_CASE("a step without a finite gradient is skipped and counted, the step goes on") {
  const Quadratic quadratic;
  const OptimizerConfig config;
  const Program program = quadratic.program(config);
  State state = quadratic.state(config, 0.01);
  interpret(program, state);
  const State before = state;
  for (const double poison : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    state["slope"].values[0] = poison;
    interpret(program, state);
  }
  for (const char* name : {kParameters, "adam.m", "adam.v", "adam.ones"}) {
    INFO(name);
    REQUIRE(state[name].values == before.at(name).values);
  }
  REQUIRE(state["skipped"].values[0] == 2);
  REQUIRE(state["step"].values[0] == 3);
  state["slope"].values[0] = 1.5;
  interpret(program, state);
  // Bias correction counts the updates that happened.
  REQUIRE(state["adam.ones"].values[0] == Approx(1 - 0.9 * 0.9));
  REQUIRE(state[kParameters].values != before.at(kParameters).values);
}

TEST_CASE("groups have their own multipliers, frozen tensors do not move") {
  Quadratic quadratic;
  OptimizerConfig config;
  config.clip_norm = 0;
  REQUIRE(quadratic.state(config, 0.01).count("parameters.lr_multiplier") == 0);
  SECTION("learning rate and decay") {
    const State reference_start = quadratic.state(config, 0.01);
    State reference = reference_start;
    interpret(quadratic.program(config), reference);
    quadratic.store.spec("a").learning_rate_multiplier = 0.5;
    quadratic.store.spec("b").decay_multiplier = 0;
    State state = quadratic.state(config, 0.01);
    interpret(quadratic.program(config), state);
    const auto moved = [&](const State& s, size_t i) {
      return s.at(kParameters).values[i] - reference_start.at(kParameters).values[i];
    };
    REQUIRE(moved(state, 0) == Approx(0.5 * moved(reference, 0)));
    const double rate = state["learning_rate"].values[0];
    const double decay = rate * config.weight_decay * reference_start.at(kParameters).values[5];
    REQUIRE(moved(state, 5) == Approx(moved(reference, 5) + decay));
  }
  SECTION("frozen") {
    const State whole_start = quadratic.state(config, 0.01);
    State whole = whole_start;
    interpret(quadratic.program(config), whole);
    quadratic.store.freeze([](const ParameterSpec& spec) { return spec.name == "b"; });
    State state = quadratic.state(config, 0.01);
    state.merge(quadratic.store.initialise_frozen(1));
    const State start = state;
    const auto outputs = interpret(quadratic.program(config), state);
    REQUIRE(outputs.at("gradient").type == Type{DType::f32, {4}});
    REQUIRE(state["adam.m"].type == Type{DType::f32, {4}});
    REQUIRE(state.count("parameters.lr_multiplier") == 0);
    REQUIRE(state["frozen.b"].values == start.at("frozen.b").values);
    for (size_t i = 0; i < 4; ++i) {
      // The frozen tensor starts from the numbers it had in the flat one; the other moves as before.
      REQUIRE(start.at("frozen.b").values[i] == whole_start.at(kParameters).values[4 + i]);
      REQUIRE(state[kParameters].values[i] == whole.at(kParameters).values[i]);
    }
    REQUIRE(state[kParameters].values[0] != start.at(kParameters).values[0]);
  }
}

TEST_CASE("accumulated micro-batches give the step of their mean gradient") {
  const Quadratic quadratic;
  OptimizerConfig config;
  config.accumulation_steps = 2;
  Program accumulating{std::make_shared<Graph>(), {}};
  Parameters parameters(*accumulating.graph, quadratic.store);
  const Value loss = quadratic.loss(parameters);
  accumulate(parameters, parameters.flat_gradient(loss), loss);
  Program applying{std::make_shared<Graph>(), {}};
  optimize_accumulated(Parameters(*applying.graph, quadratic.store), config);

  State state = quadratic.state(config, 0.01);
  for (int round = 0; round < 2; ++round) {
    for (const double slope : {1.0, 2.0}) {
      state["slope"].values[0] = slope;
      interpret(accumulating, state);
    }
    interpret(applying, state);
    REQUIRE(state["loss_accumulator"].values[0] == 0);
  }
  REQUIRE(state["micro_step"].values[0] == 4);

  State whole = quadratic.state(OptimizerConfig{}, 0.01);  // slope 1.5 is the mean
  const Program plain = quadratic.program(OptimizerConfig{});
  for (int round = 0; round < 2; ++round) interpret(plain, whole);
  require_close(state[kParameters].values, whole[kParameters].values);
  require_close(state["metrics"].values, whole["metrics"].values);
}

TEST_CASE("schedules on the device agree with the host") {
  const Schedule schedules[] = {{Decay::none, 0, 0, 0},
                                {Decay::none, 4, 0, 0},
                                {Decay::linear, 5, 20, 0.05},
                                {Decay::cosine, 0, 12, 0},
                                {Decay::cosine, 3, 12, 0.2}};
  for (const Schedule& schedule : schedules) {
    Graph graph;
    const Value step = graph.parameter("step", {DType::u32, {}});
    const Value factor = schedule_factor(step, schedule);
    for (int64_t t = 0; t < 25; ++t) {
      const State state = {{"step", HostTensor::scalar(DType::u32, double(t))}};
      const double value = evaluate(graph, std::span(&factor, 1), state)[0].values[0];
      REQUIRE(value == Approx(schedule_factor(t, schedule)).epsilon(1e-6).margin(1e-7));
    }
  }
  REQUIRE(schedule_factor(0, schedules[2]) == Approx(0.2));
  REQUIRE(schedule_factor(4, schedules[2]) == 1);
  REQUIRE(schedule_factor(20, schedules[2]) == Approx(0.05));
  REQUIRE(schedule_factor(100, schedules[4]) == Approx(0.2));
  REQUIRE_THROWS_AS(schedule_factor(0, Schedule{Decay::linear, 0, 0, 0}), UserError);
}

TEST_CASE("members of an ensemble train as single runs do, skips are their own") {
  const Quadratic quadratic;
  OptimizerConfig config;
  config.schedule = {Decay::linear, 2, 8, 0.1};
  const Program program = quadratic.program(config);
  auto names = per_member_state();
  names.insert("slope");
  const Program ensemble = vectorize(program, 3, names);

  std::vector<State> single;
  for (uint32_t e = 0; e < 3; ++e) {
    State state = quadratic.state(config, 0.01 * (e + 1), e);
    state["slope"].values[0] = e == 1 ? std::numeric_limits<double>::quiet_NaN() : 1.0 + e;
    single.push_back(state);
  }
  State joint = single[0];
  for (auto& [name, tensor] : joint) {
    bool own = names.contains(name);
    for (const char* prefix : {"adam.", "sgd."}) own = own || name.starts_with(prefix);
    if (!own) continue;
    tensor.type.shape.insert(tensor.type.shape.begin(), 3);
    for (size_t e = 1; e < 3; ++e) {
      const auto& more = single[e][name].values;
      tensor.values.insert(tensor.values.end(), more.begin(), more.end());
    }
  }
  for (int t = 0; t < 5; ++t) {
    interpret(ensemble, joint);
    for (State& state : single) interpret(program, state);
  }
  for (size_t e = 0; e < 3; ++e) {
    for (size_t i = 0; i < 8; ++i) {
      REQUIRE(joint[kParameters].values[e * 8 + i] == single[e][kParameters].values[i]);
    }
    REQUIRE(joint["skipped"].values[e] == (e == 1 ? 5 : 0));
  }
  REQUIRE(joint["step"].values == std::vector<double>{5});
}

TEST_CASE("the flat layout aligns, names, packs and initialises") {
  ParameterStore store;
  store.add("a", {3}, Initialisation::constant(2));
  store.add("b", {64, 64}, Initialisation::normal(0.5));
  store.add("c", {1}, Initialisation::uniform(3));
  REQUIRE(store.spec("b").offset == 4);
  REQUIRE(store.flat_size() == 4 + 4096 + 4);
  REQUIRE(store.parameter_count() == 3 + 4096 + 1);
  const HostTensor flat = store.initialise(9);
  REQUIRE(flat.values == store.initialise(9).values);
  REQUIRE(flat.values != store.initialise(10).values);
  REQUIRE(flat.values[3] == 0);
  double mean = 0, square = 0;
  for (int64_t i = 4; i < 4100; ++i) {
    mean += flat.values[size_t(i)] / 4096;
    square += flat.values[size_t(i)] * flat.values[size_t(i)] / 4096;
  }
  REQUIRE(std::abs(mean) < 4 * 0.5 / 64);
  REQUIRE(std::sqrt(square) == Approx(0.5).epsilon(0.05));
  // A tensor's numbers depend on its name and the seed, not on what stands before it.
  ParameterStore other;
  other.add("b", {64, 64}, Initialisation::normal(0.5));
  REQUIRE(other.initialise(9).values[17] == flat.values[4 + 17]);

  State tensors = store.unpack(flat);
  REQUIRE(store.pack(tensors).values == flat.values);
  tensors.erase("c");
  REQUIRE_THROWS_AS(store.pack(tensors), UserError);
  REQUIRE_THROWS_AS(store.add("a", {2}, {}), UserError);
  REQUIRE_THROWS_AS(store.spec("d"), UserError);
}

TEST_CASE("joined tensors are one view, and are seen in one way only") {
  ParameterStore store;
  store.add("q", {4, 2}, Initialisation::normal(1));
  store.add("k", {2, 2}, Initialisation::normal(1));
  store.add("odd", {3, 1}, Initialisation::normal(1));
  store.add("after", {2, 1}, Initialisation::normal(1));
  Graph graph;
  Parameters parameters(graph, store);
  const Value qk = parameters.joined({"q", "k"});
  REQUIRE(qk.shape() == Shape{6, 2});
  const Value apart = parameters.joined({"odd", "after"});  // padding lies between these
  REQUIRE(apart.shape() == Shape{5, 1});
  REQUIRE_THROWS_AS(parameters.get("k"), UserError);
  REQUIRE_THROWS_AS(parameters.joined({"q", "odd"}), UserError);
  const Value loss = sum(qk * qk, {0, 1}, false) + sum(apart * apart, {0, 1}, false);
  const Value gradient = parameters.flat_gradient(loss);
  const State state = {{kParameters, store.initialise(1)}};
  const HostTensor value = evaluate(graph, std::span(&gradient, 1), state)[0];
  for (size_t i = 0; i < value.values.size(); ++i) {
    REQUIRE(value.values[i] == Approx(2 * state.at(kParameters).values[i]));
  }
}
