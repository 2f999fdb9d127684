// Attention without a softmax: the formula, its gradient, and the regression it can solve.
#include "graph/attention.h"
#include "graph/autodiff.h"
#include "graph/interpret.h"
#include "graph/random.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <numbers>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Approx;

namespace {

constexpr int64_t B = 2, H = 4, K = 2, T = 3, S = 5, D = 4, W = 6;

struct Heads {
  Heads() {
    q = graph.parameter("q", {DType::f32, {B, H, T, D}});
    k = graph.parameter("k", {DType::f32, {B, K, S, D}});
    v = graph.parameter("v", {DType::f32, {B, K, S, W}});
    for (const Value& value : {q, k, v}) {
      state[std::string(1, "qkv"[state.size()])] = HostTensor::random(value.type(), -1, 1, uint32_t(state.size()) + 1);
    }
  }
  double at(const char* name, int64_t b, int64_t h, int64_t t, int64_t d) const {
    const HostTensor& tensor = state.at(name);
    const Shape& shape = tensor.type.shape;
    return tensor.values[size_t(((b * shape[1] + h) * shape[2] + t) * shape[3] + d)];
  }
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  Value q, k, v;
  State state;
};

}  // namespace

TEST_CASE("linear attention is a masked product of products") {
  for (const int64_t window : {int64_t(0), int64_t(2)}) {
    Heads heads;
    AttentionOptions options;
    options.causal = true;
    options.window = window;
    options.position = heads.graph.parameter("position", {DType::u32, {}});
    options.key_mask = heads.graph.parameter("mask", {DType::boolean, {B, S}});
    options.scale = 0.3;
    heads.state["position"] = HostTensor::scalar(DType::u32, 2);
    heads.state["mask"] = HostTensor({DType::boolean, {B, S}}, {1, 0, 1, 1, 1, 1, 1, 1, 0, 1});
    heads.program.outputs = {{"out", linear_attention(heads.q, heads.k, heads.v, options)}};
    const HostTensor out = interpret(heads.program, heads.state).at("out");
    for (int64_t b = 0; b < B; ++b) {
      for (int64_t h = 0; h < H; ++h) {
        for (int64_t t = 0; t < T; ++t) {
          for (int64_t w = 0; w < W; ++w) {
            double sum = 0;
            for (int64_t s = 0; s < S; ++s) {
              const bool seen = s <= t + 2 && (window == 0 || t + 2 - s < window) &&
                                heads.state["mask"].values[size_t(b * S + s)] != 0;
              double score = 0;
              for (int64_t d = 0; d < D; ++d) {
                score += heads.at("q", b, h, t, d) * heads.at("k", b, h / 2, s, d);
              }
              if (seen) sum += 0.3 * score * heads.at("v", b, h / 2, s, w);
            }
            CAPTURE(window, b, h, t, w);
            REQUIRE(out.values[size_t(((b * H + h) * T + t) * W + w)] == Approx(sum).margin(1e-12));
          }
        }
      }
    }
  }
}

TEST_CASE("the gradient of linear attention is the slope") {
  Heads heads;
  AttentionOptions options;
  options.causal = true;
  const Value out = linear_attention(heads.q, heads.k, heads.v, options);
  const Value weights = heads.graph.parameter("weights", out.type());
  heads.state["weights"] = HostTensor::random(out.type(), -1, 1, 9);
  const Value loss = sum(out * out * weights, {0, 1, 2, 3}, false);
  const std::vector<Value> wrt = {heads.q, heads.k, heads.v};
  const std::vector<Value> slopes = differentiate(loss, wrt);
  heads.program.outputs = {{"loss", loss}, {"q", slopes[0]}, {"k", slopes[1]}, {"v", slopes[2]}};
  const auto outputs = interpret(heads.program, heads.state);
  for (const char* name : {"q", "k", "v"}) {
    for (size_t i = 0; i < heads.state[name].values.size(); i += 7) {
      double& value = heads.state[name].values[i];
      const double was = value;
      value = was + 1e-5;
      const double above = interpret(heads.program, heads.state).at("loss").values[0];
      value = was - 1e-5;
      const double below = interpret(heads.program, heads.state).at("loss").values[0];
      value = was;
      CAPTURE(name, i);
      REQUIRE(outputs.at(name).values[i] == Approx((above - below) / 2e-5).margin(1e-7));
    }
  }
  options.dropout = 0.1;
  CHECK_THROWS_AS(linear_attention(heads.q, heads.k, heads.v, options), UserError);
}

// One layer whose keys and queries read x and whose values read y makes one step of gradient
// descent from zero on a linear regression: prediction = eta/N sum_i y_i x_i.x. With x and the true
// weights standard normal and eta = N/(N+d+1), the best, its expected loss is d(d+1)/(N+d+1) (Ahn
// et al. 2023 with unit covariance).
TEST_CASE("linear attention with the right weights has the loss of a gradient step") {
  constexpr int64_t kSequences = 20000, d = 10, N = 10;
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value x = graph.parameter("x", {DType::f32, {kSequences, 1, N, d}});
  const Value y = graph.parameter("y", {DType::f32, {kSequences, 1, N, 1}});
  const Value query = graph.parameter("query", {DType::f32, {kSequences, 1, 1, d}});
  const Value target = graph.parameter("target", {DType::f32, {kSequences, 1, 1, 1}});
  const double eta = double(N) / double(N + d + 1);
  AttentionOptions options;
  options.scale = eta / double(N);
  const Value error = linear_attention(query, x, y, options) - target;
  program.outputs = {{"loss", mean(error * error, {0, 1, 2, 3}, false)}};

  const uint32_t key = stream_seed(1, "regression");
  uint32_t drawn = 0;
  const auto normal = [&] {
    const double u = (random_bits(key, 0, drawn) + 0.5) / 4294967296.0;
    const double angle = 2 * std::numbers::pi * random_bits(key, 1, drawn++) / 4294967296.0;
    return std::sqrt(-2 * std::log(u)) * std::cos(angle);
  };
  State state;
  for (const auto& [name, value] : graph.parameters()) state[name] = HostTensor::zeros(value.type());
  for (size_t i = 0; i < size_t(kSequences); ++i) {
    std::vector<double> w(d, 0.0);
    for (double& one : w) one = normal();
    const auto point = [&](double* at, double& label) {
      label = 0;
      for (size_t j = 0; j < size_t(d); ++j) label += w[j] * (at[j] = normal());
    };
    for (size_t n = 0; n < size_t(N); ++n) {
      point(&state["x"].values[(i * size_t(N) + n) * size_t(d)], state["y"].values[i * size_t(N) + n]);
    }
    point(&state["query"].values[i * size_t(d)], state["target"].values[i]);
  }
  const double loss = interpret(program, state).at("loss").values[0];
  const double expected = double(d * (d + 1)) / double(N + d + 1);  // 5.238
  // Five standard errors of a mean of 20000 squared errors whose deviation is about twice their
  // mean.
  CHECK(std::abs(loss / expected - 1) < 5 * 2 / std::sqrt(double(kSequences)));
}
