// Attention in its forms against a loop over queries and keys, with gradients.
#include "graph/attention.h"
#include "graph/autodiff.h"
#include "graph/compile.h"
#include "graph/interpret.h"
#include "graph/random.h"
#include "graph/rewrite.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Approx;

namespace {

struct AttentionCase {
  const char* name;
  int64_t heads, kv_heads, queries, keys;
  bool causal;
  int64_t window;
  bool key_mask;
  bool position;
  double dropout;
  int64_t text = 0;  // > 0: the length of texts that stand behind each other
};

constexpr int64_t kAttentionBatch = 2, kAttentionWidth = 4;

const AttentionCase kAttentionCases[] = {
    {"bidirectional", 2, 2, 5, 5, false, 0, false, false, 0},
    {"causal", 2, 2, 5, 5, true, 0, false, false, 0},
    {"cross", 2, 2, 3, 6, false, 0, false, false, 0},
    {"causal window", 2, 2, 6, 6, true, 3, false, false, 0},
    {"bidirectional window", 1, 1, 6, 6, false, 2, false, false, 0},
    {"grouped", 4, 2, 5, 5, true, 0, false, false, 0},
    {"one key/value head", 3, 1, 4, 4, true, 0, false, false, 0},
    {"padding", 2, 2, 4, 5, false, 0, true, false, 0},
    {"grouped padding", 4, 2, 4, 4, true, 0, true, false, 0},
    {"cached", 2, 1, 2, 7, true, 0, false, true, 0},
    {"dropout", 2, 2, 5, 5, true, 0, false, false, 0.4},
    {"grouped dropout", 4, 2, 3, 3, false, 0, false, false, 0.4},
    {"window past the keys", 1, 1, 6, 3, false, 2, false, false, 0},
    {"texts behind each other", 2, 2, 7, 7, true, 0, false, false, 0, 3},
    {"grouped texts behind each other", 4, 2, 7, 7, true, 2, false, false, 0.4, 3},
};

struct BuiltAttention {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  State state;
  AttentionOptions options;
  Value q, k, v;
  Attention attention;
};

BuiltAttention build_attention(const AttentionCase& c) {
  BuiltAttention b;
  uint32_t seed = 1;
  const auto input = [&](const char* name, Shape shape) {
    b.state[name] = HostTensor::random({DType::f32, shape}, -2, 2, seed++);
    return b.graph->parameter(name, {DType::f32, shape});
  };
  b.q = input("q", {kAttentionBatch, c.heads, c.queries, kAttentionWidth});
  b.k = input("k", {kAttentionBatch, c.kv_heads, c.keys, kAttentionWidth});
  b.v = input("v", {kAttentionBatch, c.kv_heads, c.keys, kAttentionWidth});
  b.options.causal = c.causal;
  b.options.window = c.window;
  if (c.position) {
    b.state["position"] = HostTensor::scalar(DType::u32, 3);
    b.options.position = b.graph->parameter("position", {DType::u32, {}});
  }
  if (c.key_mask) {
    HostTensor mask = HostTensor::zeros({DType::boolean, {kAttentionBatch, c.keys}});
    for (int64_t j = 0; j < c.keys - 2; ++j) mask.values[size_t(j)] = 1;  // the second row sees none
    b.state["mask"] = mask;
    b.options.key_mask = b.graph->parameter("mask", mask.type);
  }
  if (c.text > 0) {
    HostTensor first = HostTensor::zeros({DType::u32, {kAttentionBatch, c.queries}});
    for (int64_t i = 0; i < kAttentionBatch * c.queries; ++i)
      first.values[size_t(i)] = double(i % c.queries / c.text * c.text);
    b.state["first_key"] = first;
    b.options.first_key = b.graph->parameter("first_key", first.type);
  }
  if (c.dropout > 0) {
    b.state["seed"] = HostTensor::scalar(DType::u32, 11);
    b.state["step"] = HostTensor::scalar(DType::u32, 2);
    b.options.dropout = c.dropout;
    b.options.seed = b.graph->parameter("seed", {DType::u32, {}});
    b.options.step = b.graph->parameter("step", {DType::u32, {}});
    b.options.stream = "probabilities";
  }
  b.attention = scaled_dot_product_attention(b.q, b.k, b.v, b.options);
  return b;
}

// out and lse by the definition.
void reference(const AttentionCase& c, const State& state, std::vector<double>& out, std::vector<double>& lse) {
  const auto at = [&](const char* name, int64_t b, int64_t h, int64_t t, int64_t d) {
    const HostTensor& x = state.at(name);
    const Shape& s = x.type.shape;
    return x.values[size_t(((b * s[1] + h) * s[2] + t) * s[3] + d)];
  };
  const int64_t first = c.position ? 3 : 0;
  for (int64_t b = 0; b < kAttentionBatch; ++b) {
    for (int64_t h = 0; h < c.heads; ++h) {
      const int64_t kv = h / (c.heads / c.kv_heads);
      for (int64_t i = 0; i < c.queries; ++i) {
        std::vector<double> weight(size_t(c.keys), 0);
        double total = 0;
        for (int64_t j = 0; j < c.keys; ++j) {
          const int64_t distance = first + i - j;
          bool visible = !c.causal || distance >= 0;
          if (c.window > 0) visible = visible && distance < c.window;
          if (c.window > 0 && !c.causal) visible = visible && -distance < c.window;
          if (c.text > 0) visible = visible && j >= i / c.text * c.text;
          if (c.key_mask) {
            visible = visible && state.at("mask").values[size_t(b * c.keys + j)] != 0;
          }
          double score = 0;
          for (int64_t d = 0; d < kAttentionWidth; ++d) score += at("q", b, h, i, d) * at("k", b, kv, j, d) / 2;
          weight[size_t(j)] = visible ? std::exp(score) : 0;
          total += weight[size_t(j)];
        }
        lse.push_back(total > 0 ? std::log(total) : 0);
        if (total == 0) {
          for (double& w : weight) w = 1;
          total = double(c.keys);
        }
        for (int64_t j = 0; j < c.keys; ++j) {
          const int64_t index = ((b * c.heads + h) * c.queries + i) * c.keys + j;
          if (c.dropout > 0) {
            const uint32_t bits = random_bits(stream_seed(11, "probabilities"), 2, uint32_t(index));
            const bool keep = bits >= uint32_t(c.dropout * 4294967296.0);
            weight[size_t(j)] = keep ? weight[size_t(j)] / (1 - c.dropout) : 0;
          }
        }
        for (int64_t d = 0; d < kAttentionWidth; ++d) {
          double sum = 0;
          for (int64_t j = 0; j < c.keys; ++j) {
            sum += weight[size_t(j)] / total * at("v", b, kv, j, d);
          }
          out.push_back(sum);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("attention follows its definition in every form") {
  for (const AttentionCase& c : kAttentionCases) {
    INFO(c.name);
    const BuiltAttention b = build_attention(c);
    std::vector<double> out, lse;
    reference(c, b.state, out, lse);
    const Value roots[] = {b.attention.out, b.attention.lse};
    const std::vector<HostTensor> values = evaluate(*b.graph, roots, b.state);
    REQUIRE(values[0].values.size() == out.size());
    for (size_t i = 0; i < out.size(); ++i) {
      REQUIRE(values[0].values[i] == Approx(out[i]).epsilon(1e-6).margin(1e-12));
    }
    for (size_t i = 0; i < lse.size(); ++i) {
      // A row that sees nothing has no log-sum-exp to speak of.
      if (lse[i] != 0) REQUIRE(values[1].values[i] == Approx(lse[i]).epsilon(1e-6));
    }
  }
}

TEST_CASE("attention's own gradient agrees with central differences") {
  for (const AttentionCase& c : kAttentionCases) {
    INFO(c.name);
    BuiltAttention b = build_attention(c);
    // Both results take part, unless a row may see no key: its lse is -1e30.
    const HostTensor mix = HostTensor::random(b.attention.out.type(), -1, 1, 50);
    const HostTensor mix_lse = HostTensor::random(b.attention.lse.type(), -1, 1, 51);
    b.state["mix"] = mix;
    b.state["mix_lse"] = mix_lse;
    Value loss = sum(b.attention.out * b.graph->parameter("mix", mix.type), {0, 1, 2, 3}, false);
    if (!c.key_mask && !(c.window > 0 && c.queries > c.keys)) {
      loss = loss + sum(b.attention.lse * b.graph->parameter("mix_lse", mix_lse.type), {0, 1, 2, 3}, false);
    }
    const Value wrt[] = {b.q, b.k, b.v};
    const std::vector<Value> gradients = differentiate(loss, wrt, scalar(*b.graph, 0.7));
    const auto read = [&](Value value) { return evaluate(*b.graph, std::span(&value, 1), b.state)[0]; };
    for (size_t which = 0; which < 3; ++which) {
      const char* name = std::array{"q", "k", "v"}[which];
      const HostTensor gradient = read(gradients[which]);
      std::vector<double>& values = b.state[name].values;
      for (size_t i = 0; i < values.size(); ++i) {
        const double old = values[i];
        values[i] = old + 1e-5;
        const double above = read(loss).values[0];
        values[i] = old - 1e-5;
        const double below = read(loss).values[0];
        values[i] = old;
        INFO(name << "[" << i << "]");
        REQUIRE(gradient.values[i] == Approx(0.7 * (above - below) / 2e-5).epsilon(1e-6).margin(1e-8));
      }
    }
  }
}

TEST_CASE("the gradient shares the forward's probabilities once the region is expanded") {
  const BuiltAttention b = build_attention(kAttentionCases[1]);
  Value wrt[] = {b.q, b.k, b.v};
  const Value loss = sum(b.attention.out * b.attention.out, {0, 1, 2, 3}, false);
  const std::vector<Value> gradients = differentiate(loss, wrt);
  Program program{b.graph, {{"loss", loss}}};
  for (size_t i = 0; i < 3; ++i) program.outputs.emplace_back(std::string(1, "qkv"[i]), gradients[i]);
  const Program expanded = rewrite(program, [](Graph& graph, const Node& node, std::span<const Value> inputs) {
    if (node.op != Op::region) return std::vector<Value>{};
    return inline_region(graph, *std::get<RegionAttr>(node.attr).region, inputs);
  });
  const auto count = [&](Op op) {
    const std::vector<Value> all = roots(expanded);
    int64_t result = 0;
    for (const uint32_t node : reachable(*expanded.graph, all)) {
      result += expanded.graph->node(node).op == op;
    }
    return result;
  };
  REQUIRE(count(Op::region) == 0);
  REQUIRE(count(Op::exp) == 1);     // softmax once, not once a direction
  REQUIRE(count(Op::matmul) == 6);  // q k^T and p v; dv, dp, dq, dk
  REQUIRE(count(Op::log) == 0);     // nobody asked for lse
  State state = b.state;
  State same = b.state;
  const auto before = interpret(program, state);
  const auto after = interpret(expanded, same);
  for (const auto& [name, tensor] : before) {
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      REQUIRE(after.at(name).values[i] == Approx(tensor.values[i]).epsilon(1e-12).margin(1e-14));
    }
  }
}

TEST_CASE("attention is claimed whole where a kernel takes it, and stores no scores then") {
  struct Claim {
    const char* target;
    int64_t queries, width;
    bool backward;
    size_t claimed;
    bool fusion = true;
    AttentionVariant variant = AttentionVariant::automatic;
  };
  const Claim kClaims[] = {
      {"lavapipe", 96, 16, true, 3},
      {"lavapipe", 96, 16, false, 1},
      {"lavapipe", 96, 256, true, 3},
      {"lavapipe", 96, 257, true, 0},
      {"nvidia", 96, 64, true, 0},
      {"nvidia", 96, 64, true, 3, true, AttentionVariant::shared_tile},
      {"minimal", 96, 16, true, 0},  // four tensors a kernel
      // One query: a kernel of its own, but not where there are gradients.
      {"lavapipe", 1, 16, false, 1},
      {"lavapipe", 1, 16, true, 0},
      {"lavapipe", 1, 16, false, 1, true, AttentionVariant::lane_broadcast},
      {"lavapipe", 96, 16, false, 0, true, AttentionVariant::one_query},
      {"lavapipe", 96, 16, true, 0, false},
      {"lavapipe", 96, 16, true, 0, true, AttentionVariant::expanded},
  };
  for (const Claim& c : kClaims) {
    INFO(c.target << " queries " << c.queries << " width " << c.width);
    Program program{std::make_shared<Graph>(), {}};
    const auto input = [&](const char* name, int64_t rows) {
      return program.graph->parameter(name, {DType::f32, {2, 3, rows, c.width}});
    };
    const Value q = input("q", c.queries), k = input("k", 96), v = input("v", 96);
    const Attention attention = scaled_dot_product_attention(q, k, v, {.causal = true});
    program.outputs.emplace_back("out", attention.out);
    if (c.backward) {
      const Value loss = sum(attention.out * input("weights", c.queries), {0, 1, 2, 3}, false);
      const std::vector<Value> gradients = differentiate(loss, std::vector{q, k, v});
      for (const Value& gradient : gradients) {
        program.outputs.emplace_back(fmt::format("gradient{}", program.outputs.size()), gradient);
      }
    }
    Target target = target_preset(c.target);
    target.attention = c.variant;
    target.fusion = c.fusion;
    const Plan plan = compile(program, target);
    size_t claimed = 0;
    for (const Kernel& kernel : plan.kernels) claimed += kernel.archetype == Archetype::attention;
    CHECK(claimed == c.claimed);
    size_t scores = 0;
    for (const Buffer& buffer : plan.buffers) {
      scores += element_count(buffer.type.shape) == 2 * 3 * c.queries * 96;
    }
    if (c.queries > 1) CHECK((scores == 0) == (c.claimed > 0));
    // What counts as work does not depend on how it is done.
    const uint64_t product = 2ull * 2 * 3 * uint64_t(c.queries) * 96 * uint64_t(c.width);
    CHECK(plan.matmul_flops == product * (c.backward ? 6 : 2));
  }
}

TEST_CASE("attention refuses operands that do not fit") {
  Graph graph;
  const auto input = [&](const char* name, Shape shape) {
    return graph.parameter(name, {DType::f32, std::move(shape)});
  };
  const Value q = input("q", {1, 4, 5, 8});
  const Value k = input("k", {1, 4, 5, 8});
  REQUIRE_THROWS_AS(scaled_dot_product_attention(q, input("a", {1, 3, 5, 8}), k), UserError);
  REQUIRE_THROWS_AS(scaled_dot_product_attention(q, input("b", {1, 4, 5, 6}), k), UserError);
  REQUIRE_THROWS_AS(scaled_dot_product_attention(q, k, input("c", {1, 4, 6, 8})), UserError);
  AttentionOptions options;
  options.key_mask = graph.parameter("mask", {DType::boolean, {1, 6}});
  REQUIRE_THROWS_AS(scaled_dot_product_attention(q, k, k, options), UserError);
  // First keys are of causal attention over the row itself.
  AttentionOptions packed;
  packed.first_key = graph.parameter("first_key", {DType::u32, {1, 5}});
  REQUIRE_THROWS_AS(scaled_dot_product_attention(q, k, k, packed), UserError);
  packed.causal = true;
  REQUIRE_NOTHROW(scaled_dot_product_attention(q, k, k, packed));
  packed.first_key = graph.parameter("other", {DType::u32, {1, 6}});
  REQUIRE_THROWS_AS(scaled_dot_product_attention(q, k, k, packed), UserError);
}
