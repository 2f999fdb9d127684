// Composites against their formulas, and their gradients against central differences.
#include "graph/attention.h"
#include "graph/autodiff.h"
#include "graph/functions.h"
#include "graph/interpret.h"
#include "graph/random.h"
#include "graph/rewrite.h"
#include "graph/vectorize.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Approx;

namespace {

// A graph whose parameters are filled with random numbers in [low, high).
struct Fixture {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  State state;

  Value input(const std::string& name, Shape shape, double low = -2, double high = 2) {
    const Type type = {DType::f32, std::move(shape)};
    state[name] = HostTensor::random(type, low, high, uint32_t(100 + state.size()));
    return graph->parameter(name, type);
  }
  Value tokens(const std::string& name, Shape shape, double high) {
    const Type type = {DType::u32, std::move(shape)};
    state[name] = HostTensor::random(type, 0, high, uint32_t(100 + state.size()));
    return graph->parameter(name, type);
  }
  Value counter(const std::string& name, double value) {
    state[name] = HostTensor::scalar(DType::u32, value);
    return graph->parameter(name, {DType::u32, {}});
  }
  HostTensor read(Value value) const { return evaluate(*graph, std::span(&value, 1), state)[0]; }

  // sum(result * fixed random weights) differentiated with the coefficient 0.7 against central
  // differences, in every element of every input named.
  void check_gradient(Value result, const std::vector<std::string>& names) {
    const HostTensor weights = HostTensor::random(result.type(), -1, 1, 7);
    const std::string name = "weights of the check " + to_string(weights.type);
    state[name] = weights;
    const Value weight = graph->parameter(name, weights.type);
    std::vector<int64_t> axes;
    for (int64_t axis = 0; axis < result.rank(); ++axis) axes.push_back(axis);
    const Value product = result * weight;
    const Value loss = axes.empty() ? product : sum(product, axes, false);
    std::vector<Value> wrt;
    for (const std::string& name : names) wrt.push_back(graph->parameters().at(name));
    const std::vector<Value> gradients = differentiate(loss, wrt, scalar(*graph, 0.7));
    for (size_t k = 0; k < names.size(); ++k) {
      const HostTensor gradient = read(gradients[k]);
      HostTensor& tensor = state[names[k]];
      for (size_t i = 0; i < tensor.values.size(); ++i) {
        const double old = tensor.values[i];
        const double step = 1e-5;
        tensor.values[i] = old + step;
        const double above = read(loss).values[0];
        tensor.values[i] = old - step;
        const double below = read(loss).values[0];
        tensor.values[i] = old;
        const double expected = 0.7 * (above - below) / (2 * step);
        INFO(names[k] << "[" << i << "]");
        REQUIRE(gradient.values[i] == Approx(expected).epsilon(1e-6).margin(1e-8));
      }
    }
  }
};

double at(const HostTensor& tensor, std::vector<int64_t> index) {
  int64_t flat = 0;
  for (size_t i = 0; i < index.size(); ++i) flat = flat * tensor.type.shape[i] + index[i];
  return tensor.values.at(size_t(flat));
}

int64_t count_nodes(const Graph& graph, std::span<const Value> roots, Op op) {
  int64_t count = 0;
  for (const uint32_t node : reachable(graph, roots)) count += graph.node(node).op == op;
  return count;
}

}  // namespace

TEST_CASE("activations follow their formulas and differentiate") {
  Fixture f;
  const Value x = f.input("x", {3, 5}, -4, 4);
  const auto check = [&](Value y, auto&& formula) {
    const HostTensor values = f.read(y);
    for (size_t i = 0; i < values.values.size(); ++i) {
      REQUIRE(values.values[i] == Approx(formula(f.state["x"].values[i])).epsilon(1e-6));
    }
    f.check_gradient(y, {"x"});
  };
  const auto logistic = [](double v) { return 1 / (1 + std::exp(-v)); };
  SECTION("sigmoid") { check(sigmoid(x), logistic); }
  SECTION("log_sigmoid") {
    check(log_sigmoid(x), [](double v) { return -std::log1p(std::exp(-v)); });
    f.state["x"].values = {-1e4, -200, -90, -1, -1e-6, 0, 1e-6, 1, 20, 90, 200, 1e4, 0, 0, 0};
    const Value gradient = differentiate(sum(log_sigmoid(x), {0, 1}, false), std::vector{x})[0];
    const HostTensor values = f.read(log_sigmoid(x)), slopes = f.read(gradient);
    for (size_t i = 0; i < values.values.size(); ++i) {
      const double v = f.state["x"].values[i];
      CHECK(values.values[i] ==
            Approx(std::min(v, 0.0) - std::log1p(std::exp(-std::abs(v)))).epsilon(1e-6).margin(1e-30));
      CHECK(slopes.values[i] == Approx(1 / (1 + std::exp(v))).epsilon(1e-6).margin(1e-30));
    }
  }
  SECTION("silu") {
    check(silu(x), [&](double v) { return v * logistic(v); });
  }
  SECTION("gelu_erf") {
    check(gelu_erf(x), [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); });
  }
  SECTION("gelu_tanh") {
    check(gelu_tanh(x),
          [](double v) { return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); });
  }
  SECTION("swiglu") {
    const Value up = f.input("up", {3, 5});
    f.check_gradient(swiglu(x, up), {"x", "up"});
  }
}

TEST_CASE("what is stopped has its values and no gradient") {
  Fixture f;
  const Value x = f.input("x", {3, 5});
  CHECK(f.read(stop_gradient(x)).values == f.state["x"].values);
  const Value loss = sum(x * stop_gradient(x), {0, 1}, false);
  CHECK(f.read(differentiate(loss, std::vector{x})[0]).values == f.state["x"].values);
}

TEST_CASE("softmax and its logarithms survive large inputs and take few reductions") {
  Fixture f;
  const Value x = f.input("x", {3, 7}, -3, 3);
  SECTION("rows sum to one, a shift changes nothing") {
    const HostTensor p = f.read(softmax(x));
    const HostTensor shifted = f.read(softmax(x + 1000.0));
    for (int64_t row = 0; row < 3; ++row) {
      double total = 0;
      for (int64_t column = 0; column < 7; ++column) {
        total += at(p, {row, column});
        REQUIRE(at(shifted, {row, column}) == Approx(at(p, {row, column})).epsilon(1e-9));
      }
      REQUIRE(total == Approx(1).epsilon(1e-14));
    }
  }
  SECTION("log_softmax is the logarithm of softmax") {
    const HostTensor p = f.read(softmax(x));
    const HostTensor logarithm = f.read(log_softmax(x));
    for (size_t i = 0; i < p.values.size(); ++i) {
      REQUIRE(std::exp(logarithm.values[i]) == Approx(p.values[i]).epsilon(1e-6));
    }
  }
  SECTION("gradients") {
    f.check_gradient(softmax(x), {"x"});
    f.check_gradient(log_softmax(x), {"x"});
    f.check_gradient(logsumexp(x), {"x"});
  }
  SECTION("the shift takes no gradient: one maximum and two sums for both directions") {
    const Value g = f.input("g", {3, 7});
    const Value loss = sum(softmax(x) * g, {0, 1}, false);
    std::vector<Value> roots = differentiate(loss, std::span(&x, 1));
    REQUIRE(count_nodes(*f.graph, roots, Op::reduce_max) == 1);
    REQUIRE(count_nodes(*f.graph, roots, Op::sum) == 2);
    REQUIRE(count_nodes(*f.graph, roots, Op::exp) == 1);
  }
}

TEST_CASE("norms follow their formulas and differentiate") {
  Fixture f;
  const Value x = f.input("x", {2, 3, 6});
  const Value weight = f.input("weight", {6});
  const Value bias = f.input("bias", {6});
  const auto& X = f.state["x"];
  SECTION("layer_norm") {
    const Value y = layer_norm(x, weight, bias, 1e-3);
    const HostTensor values = f.read(y);
    for (int64_t row = 0; row < 6; ++row) {
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < 6; ++i) mean += X.values[size_t(row * 6 + i)] / 6;
      for (int64_t i = 0; i < 6; ++i) {
        variance += std::pow(X.values[size_t(row * 6 + i)] - mean, 2) / 6;
      }
      for (int64_t i = 0; i < 6; ++i) {
        const double normal = (X.values[size_t(row * 6 + i)] - mean) / std::sqrt(variance + 1e-3);
        REQUIRE(values.values[size_t(row * 6 + i)] ==
                Approx(normal * f.state["weight"].values[size_t(i)] + f.state["bias"].values[size_t(i)])
                    .epsilon(1e-6)
                    .margin(1e-6));
      }
    }
    f.check_gradient(y, {"x", "weight", "bias"});
  }
  SECTION("layer_norm with gain only, and bare") {
    f.check_gradient(layer_norm(x, weight, {}), {"x", "weight"});
    f.check_gradient(layer_norm(x, {}, {}), {"x"});
  }
  SECTION("rms_norm") {
    const HostTensor values = f.read(rms_norm(x, weight));
    double square = 0;
    for (int64_t i = 0; i < 6; ++i) square += std::pow(X.values[size_t(i)], 2) / 6;
    REQUIRE(values.values[2] ==
            Approx(X.values[2] / std::sqrt(square + 1e-5) * f.state["weight"].values[2]).epsilon(1e-6));
    f.check_gradient(rms_norm(x, weight, bias), {"x", "weight", "bias"});
  }
  SECTION("a gain of another width is refused") {
    REQUIRE_THROWS_AS(layer_norm(x, f.input("short", {5}), {}), UserError);
  }
}

TEST_CASE("cross_entropy weighs tokens, ignores by weight 0, and needs one exp") {
  Fixture f;
  const Value logits = f.input("logits", {2, 3, 5});
  const Value targets = f.tokens("targets", {2, 3}, 5);
  const Value weights = f.input("token weights", {2, 3}, 0, 1);
  f.state["token weights"].values[1] = 0;
  f.state["targets"].values[1] = 4e9;  // ignored, so it may be anything
  const CrossEntropy loss = cross_entropy(logits, targets, weights);
  const HostTensor logarithm = f.read(log_softmax(logits));
  const HostTensor per_token = f.read(loss.per_token);
  double total = 0, weight_sum = 0;
  for (size_t i = 0; i < 6; ++i) {
    if (i == 1) continue;
    const double expected = -logarithm.values[i * 5 + size_t(f.state["targets"].values[i])];
    REQUIRE(per_token.values[i] == Approx(expected).epsilon(1e-6));
    total += expected * f.state["token weights"].values[i];
    weight_sum += f.state["token weights"].values[i];
  }
  REQUIRE(f.read(loss.mean).values[0] == Approx(total / weight_sum).epsilon(1e-6));
  REQUIRE(f.read(loss.weight_sum).values[0] == Approx(weight_sum).epsilon(1e-6));
  SECTION("gradient") { f.check_gradient(loss.mean, {"logits"}); }
  SECTION("without weights every token counts") {
    f.state["targets"].values[1] = 0;
    const HostTensor each = f.read(cross_entropy(logits, targets).per_token);
    double sum_of_losses = 0;
    for (const double value : each.values) sum_of_losses += value;
    REQUIRE(f.read(cross_entropy(logits, targets).mean).values[0] == Approx(sum_of_losses / 6).epsilon(1e-6));
  }
  SECTION("no weight at all gives 0, not NaN") {
    for (double& value : f.state["token weights"].values) value = 0;
    REQUIRE(f.read(loss.mean).values[0] == 0);
  }
  SECTION("one exp, one maximum, no scatter in both directions") {
    std::vector<Value> roots = differentiate(loss.mean, std::span(&logits, 1));
    roots.push_back(loss.mean);
    REQUIRE(count_nodes(*f.graph, roots, Op::exp) == 1);
    REQUIRE(count_nodes(*f.graph, roots, Op::reduce_max) == 1);
    REQUIRE(count_nodes(*f.graph, roots, Op::scatter_add) == 0);
    REQUIRE(count_nodes(*f.graph, roots, Op::gather) == 0);
  }
  SECTION("shapes that do not fit are refused") {
    REQUIRE_THROWS_AS(cross_entropy(logits, f.tokens("flat", {6}, 5)), UserError);
  }
}

TEST_CASE("cross_entropy against distributions is KL and their entropy, and of certain ones that of tokens") {
  Fixture f;
  const Value logits = f.input("logits", {2, 3, 5}, -3, 3);
  const Value scores = f.input("scores", {2, 3, 5}, -2, 2);
  const Value weights = f.input("token weights", {2, 3}, 0, 1);
  f.state["distributions"] = f.read(softmax(scores));
  const Value distributions = f.graph->parameter("distributions", logits.type());
  f.state["token weights"].values[1] = 0;
  const CrossEntropy loss = cross_entropy(logits, distributions, weights);
  const HostTensor& p = f.state["distributions"];
  const HostTensor logarithm = f.read(log_softmax(logits)), each = f.read(loss.per_token);
  double total = 0, weight_sum = 0;
  for (size_t i = 0; i < 6; ++i) {
    double divergence = 0, entropy = 0;
    for (size_t v = i * 5; v < i * 5 + 5; ++v) {
      divergence += p.values[v] * (std::log(p.values[v]) - logarithm.values[v]);
      entropy -= p.values[v] * std::log(p.values[v]);
    }
    REQUIRE(each.values[i] == Approx(divergence + entropy).epsilon(1e-6));
    total += each.values[i] * f.state["token weights"].values[i];
    weight_sum += f.state["token weights"].values[i];
  }
  REQUIRE(f.read(loss.mean).values[0] == Approx(total / weight_sum).epsilon(1e-6));
  SECTION("gradient: of the mean, of each token, and without weights") {
    f.check_gradient(loss.mean, {"logits"});
    f.check_gradient(loss.per_token, {"logits"});
    f.check_gradient(cross_entropy(logits, distributions).mean, {"logits"});
  }
  SECTION("it is smallest, and its gradient none, where the model says the same") {
    const CrossEntropy same = cross_entropy(scores, distributions, weights);
    for (const double one : f.read(differentiate(same.mean, std::span(&scores, 1))[0]).values)
      REQUIRE(std::abs(one) < 1e-9);
    for (size_t i = 0; i < 6; ++i) REQUIRE(f.read(same.per_token).values[i] <= each.values[i]);
  }
  SECTION("a distribution that is certain is a token") {
    const Value targets = f.tokens("targets", {2, 3}, 5);
    for (size_t i = 0; i < 6; ++i)
      for (size_t v = 0; v < 5; ++v)
        f.state["distributions"].values[i * 5 + v] = v == size_t(f.state["targets"].values[i]) ? 1 : 0;
    const HostTensor hard = f.read(cross_entropy(logits, targets, weights).per_token), soft = f.read(loss.per_token);
    for (size_t i = 0; i < 6; ++i) REQUIRE(soft.values[i] == Approx(hard.values[i]).epsilon(1e-12));
  }
  SECTION("a common offset of the logits changes nothing") {
    const HostTensor shifted = f.read(cross_entropy(logits + 1000.0, distributions, weights).per_token);
    for (size_t i = 0; i < 6; ++i) REQUIRE(shifted.values[i] == Approx(each.values[i]).epsilon(1e-9));
  }
  SECTION("one exp, one maximum in both directions") {
    std::vector<Value> roots = differentiate(loss.mean, std::span(&logits, 1));
    roots.push_back(loss.mean);
    REQUIRE(count_nodes(*f.graph, roots, Op::exp) == 1);
    REQUIRE(count_nodes(*f.graph, roots, Op::reduce_max) == 1);
  }
  SECTION("shapes that do not fit are refused") {
    REQUIRE_THROWS_AS(cross_entropy(logits, f.input("narrow", {2, 3, 4}), weights), UserError);
  }
}

TEST_CASE("distillation mixes what a teacher said at a temperature with tokens") {
  Fixture f;
  const Value logits = f.input("logits", {4, 5}, -3, 3), teacher = f.input("teacher", {4, 5}, -3, 3);
  const Value targets = f.tokens("targets", {4}, 5);
  const Value weights = f.input("token weights", {4}, 0, 1);
  const auto of = [&](double temperature, double share) {
    f.state["distributions"] = f.read(softmax(teacher * (1 / temperature)));
    const Value distributions = f.graph->parameter("distributions", logits.type());
    return distillation(logits, targets, distributions, {temperature, share}, weights);
  };
  for (const auto& [temperature, share] : {std::pair{1.0, 1.0}, {2.0, .9}, {4.0, .3}, {2.0, 0.0}}) {
    CAPTURE(temperature, share);
    const CrossEntropy loss = of(temperature, share);
    const HostTensor hard = f.read(log_softmax(logits)), soft = f.read(log_softmax(logits * (1 / temperature)));
    const HostTensor p = f.read(softmax(teacher * (1 / temperature))), each = f.read(loss.per_token);
    for (size_t i = 0; i < 4; ++i) {
      double softened = 0;
      for (size_t v = i * 5; v < i * 5 + 5; ++v) softened -= p.values[v] * soft.values[v];
      const double token = -hard.values[i * 5 + size_t(f.state["targets"].values[i])];
      REQUIRE(each.values[i] ==
              Approx(share * temperature * temperature * softened + (1 - share) * token).epsilon(1e-6));
    }
    f.check_gradient(loss.mean, {"logits"});
  }
  // Soft targets alone read no tokens; what is impossible is refused.
  const Value distributions = f.graph->parameter("distributions", logits.type());
  REQUIRE(f.read(distillation(logits, {}, distributions, {2, 1}, weights).mean).values[0] > 0);
  REQUIRE_THROWS_AS(distillation(logits, targets, distributions, {0, 1}, weights), UserError);
  REQUIRE_THROWS_AS(distillation(logits, targets, distributions, {2, 1.5}, weights), UserError);
  REQUIRE_THROWS_AS(distillation(logits, targets, {}, {2, 1}, weights), UserError);
}

TEST_CASE("split is slices forward and one concat backward") {
  Fixture f;
  const Value x = f.input("x", {2, 7, 3});
  const std::vector<Value> parts = split(x, 1, {2, 4, 1});
  REQUIRE(parts[1].shape() == Shape{2, 4, 3});
  REQUIRE(at(f.read(parts[1]), {1, 0, 2}) == at(f.state["x"], {1, 2, 2}));
  f.check_gradient(parts[0] * parts[0], {"x"});  // the others take no part
  f.check_gradient(sum(parts[1], {1}) * parts[2], {"x"});
  const Value loss = sum(parts[0], {0, 1, 2}, false) + sum(parts[1] * parts[1], {0, 1, 2}, false);
  const std::vector<Value> gradient = differentiate(loss, std::span(&x, 1));
  REQUIRE(count_nodes(*f.graph, gradient, Op::concat) == 1);
  REQUIRE(count_nodes(*f.graph, gradient, Op::pad) == 0);
  REQUIRE(split(x, -1, {3})[0] == x);
  REQUIRE_THROWS_AS(split(x, 1, {2, 4}), UserError);
}

TEST_CASE("linear and embedding") {
  Fixture f;
  const Value x = f.input("x", {2, 3, 4});
  const Value weight = f.input("weight", {5, 4});
  const Value bias = f.input("bias", {5});
  const Value y = linear(x, weight, bias);
  REQUIRE(y.shape() == Shape{2, 3, 5});
  double expected = f.state["bias"].values[1];
  for (int64_t i = 0; i < 4; ++i) {
    expected += at(f.state["x"], {1, 2, i}) * at(f.state["weight"], {1, i});
  }
  REQUIRE(at(f.read(y), {1, 2, 1}) == Approx(expected).epsilon(1e-6));
  f.check_gradient(y, {"x", "weight", "bias"});
  const Value tokens = f.tokens("tokens", {2, 7}, 5);
  const Value rows = embedding(weight, tokens);
  REQUIRE(rows.shape() == Shape{2, 7, 4});
  f.check_gradient(rows, {"weight"});
  REQUIRE_THROWS_AS(linear(x, f.input("wrong", {5, 3})), UserError);
}

TEST_CASE("dropout draws what the host draws, by seed, step and stream") {
  Fixture f;
  const Value x = f.input("x", {40, 50}, 1, 2);
  const Value seed = f.counter("seed", 5);
  const Value step = f.counter("step", 3);
  const HostTensor y = f.read(dropout(x, 0.3, seed, step, "here"));
  const uint32_t key = stream_seed(5, "here");
  int64_t kept = 0;
  for (size_t i = 0; i < y.values.size(); ++i) {
    const bool keep = random_bits(key, 3, uint32_t(i)) >= uint32_t(0.3 * 4294967296.0);
    REQUIRE(y.values[i] == Approx(keep ? f.state["x"].values[i] / 0.7 : 0).epsilon(1e-6));
    kept += keep;
  }
  REQUIRE(std::abs(double(kept) / 2000 - 0.7) < 0.05);
  REQUIRE(f.read(dropout(x, 0.3, seed, step, "there")).values != y.values);
  f.state["step"].values[0] = 4;
  REQUIRE(f.read(dropout(x, 0.3, seed, step, "here")).values != y.values);
  REQUIRE(dropout(x, 0, seed, step, "here") == x);
  REQUIRE_THROWS_AS(dropout(x, 1, seed, step, "here"), UserError);
  f.check_gradient(dropout(slice(x, 0, 0, 1), 0.3, seed, step, "small"), {"x"});
}

TEST_CASE("rotary turns pairs and keeps their length") {
  Fixture f;
  const Value x = f.input("x", {3, 2, 6});
  const Value angle = f.input("angle", {3, 1, 3});
  const HostTensor y = f.read(rotary(x, cos(angle), sin(angle)));
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 0; i < 3; ++i) {
      const double a = at(f.state["x"], {t, 1, i}), b = at(f.state["x"], {t, 1, i + 3});
      const double turn = at(f.state["angle"], {t, 0, i});
      REQUIRE(at(y, {t, 1, i}) == Approx(a * std::cos(turn) - b * std::sin(turn)));
      REQUIRE(at(y, {t, 1, i + 3}) == Approx(b * std::cos(turn) + a * std::sin(turn)));
    }
  }
  f.check_gradient(rotary(x, cos(angle), sin(angle)), {"x"});
}
