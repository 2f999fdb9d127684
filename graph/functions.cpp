#include "graph/functions.h"

#include <cmath>
#include <functional>
#include <numbers>

namespace surtsey::graph {

Value row_shift(Value x) { return floor(reduce_max(x, {-1})); }

Value sigmoid(Value x) { return 0.5 + 0.5 * tanh(0.5 * x); }

namespace {

using RegionGradient = decltype(Region::gradient);

// A function of one value with a gradient of its own.
Value unary_region(const char* name, Value x, const std::function<Value(Value)>& body, RegionGradient gradient) {
  auto made = std::make_shared<Region>();
  made->name = name;
  made->body = std::make_shared<Graph>();
  const Value inside = made->body->parameter("x", x.type());
  made->parameters = {inside};
  made->results = {body(inside)};
  made->gradient = std::move(gradient);
  return region(made, {x}).front();
}

}  // namespace

// Differentiated piece by piece it would depend on what abs and min do at 0, where preferences begin.
Value log_sigmoid(Value x) {
  return unary_region(
      "log_sigmoid", x,
      [](Value inside) { return min(inside, constant_like(inside, 0)) - log(1.0 + exp(-abs(inside))); },
      [](std::span<const Value> inputs, std::span<const Value>, std::span<const Value> gradients) {
        return std::vector<Value>{gradients[0] ? gradients[0] * sigmoid(-inputs[0]) : Value{}};
      });
}

Value stop_gradient(Value x) {
  return unary_region(
      "stop_gradient", x, [](Value inside) { return reshape(inside, inside.shape()); },
      [](std::span<const Value>, std::span<const Value>, std::span<const Value>) { return std::vector<Value>(1); });
}

Value silu(Value x) { return x * sigmoid(x); }

Value gelu_erf(Value x) { return (0.5 * x) * (1.0 + erf(x * (1 / std::numbers::sqrt2))); }

Value gelu_tanh(Value x) {
  const double root = std::sqrt(2 / std::numbers::pi);
  return (0.5 * x) * (1.0 + tanh(x * (root + (root * 0.044715) * (x * x))));
}

Value swiglu(Value gate, Value up) { return silu(gate) * up; }

std::vector<Value> split(Value x, int64_t axis, const std::vector<int64_t>& extents) {
  check(axis >= -x.rank() && axis < x.rank(), "[split] {} has no axis {}", to_string(x.type()), axis);
  if (axis < 0) axis += x.rank();
  int64_t total = 0;
  for (const int64_t extent : extents) total += extent;
  check(!extents.empty() && total == x.dim(axis), "[split] the parts hold {} of the axis {} of {}", total, axis,
        to_string(x.type()));
  if (extents.size() == 1) return {x};
  auto parts = std::make_shared<Region>();
  parts->name = "split";
  parts->body = std::make_shared<Graph>();
  const Value inside = parts->body->parameter("x", x.type());
  parts->parameters = {inside};
  int64_t start = 0;
  for (const int64_t extent : extents) {
    parts->results.push_back(slice(inside, axis, start, start + extent));
    start += extent;
  }
  parts->gradient = [axis](std::span<const Value>, std::span<const Value> results, std::span<const Value> gradients) {
    std::vector<Value> pieces;
    for (size_t i = 0; i < results.size(); ++i) {
      pieces.push_back(gradients[i] ? gradients[i] : constant_like(results[i], 0));
    }
    return std::vector<Value>{concat(pieces, axis)};
  };
  return region(parts, {x});
}

Value softmax(Value x) {
  const Value exponential = exp(x - row_shift(x));
  return exponential / sum(exponential, {-1});
}

Value logsumexp(Value x) {
  const Value shift = row_shift(x);
  return log(sum(exp(x - shift), {-1})) + shift;
}

Value log_softmax(Value x) { return x - logsumexp(x); }

namespace {

void check_gain(Value x, Value gain, std::string_view function, std::string_view what) {
  if (!gain) return;
  check(gain.shape() == Shape{x.dim(-1)}, "[{}] {} is {}, rows have {} elements", function, what,
        to_string(gain.type()), x.dim(-1));
}

Value affine(Value x, Value weight, Value bias, std::string_view function) {
  check_gain(x, weight, function, "weight");
  check_gain(x, bias, function, "bias");
  if (weight) x = x * weight;
  if (bias) x = x + bias;
  return x;
}

}  // namespace

Value layer_norm(Value x, Value weight, Value bias, double epsilon) {
  const Value centred = x - mean(x, {-1});
  const Value variance = mean(centred * centred, {-1});
  return affine(centred * rsqrt(variance + epsilon), weight, bias, "layer_norm");
}

Value rms_norm(Value x, Value weight, Value bias, double epsilon) {
  return affine(x * rsqrt(mean(x * x, {-1}) + epsilon), weight, bias, "rms_norm");
}

namespace {

// Of a loss of each token, [..].
CrossEntropy weighted_mean(Value per_token, Value weights) {
  Graph& graph = *per_token.graph;
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < per_token.rank(); ++axis) axes.push_back(axis);
  const auto total = [&](Value x) { return axes.empty() ? x : sum(x, axes, false); };
  if (!weights) {
    const double count = double(element_count(per_token.shape()));
    return {total(per_token) * (1 / count), per_token, scalar(graph, count)};
  }
  // Each token's share first: it does not depend on the logits, so that the row's kernel can go on
  // to the gradient.
  const Value weight_sum = total(weights);
  const Value share = weights / max(weight_sum, scalar(graph, 1e-20));
  return {total(per_token * share), per_token, weight_sum};
}

}  // namespace

CrossEntropy cross_entropy(Value logits, Value targets, Value weights) {
  check(logits.rank() >= 1, "[cross_entropy] logits are a scalar");
  Graph& graph = *logits.graph;
  const Shape rows(logits.shape().begin(), logits.shape().end() - 1);
  const Type distributions = {DType::f32, logits.shape()};
  const bool soft = targets.type() == distributions;
  check(soft || targets.type() == Type{DType::u32, rows},
        "[cross_entropy] targets are {}, logits {} want {}, or as distributions {}", to_string(targets.type()),
        to_string(logits.type()), to_string(Type{DType::u32, rows}), to_string(distributions));
  check(!weights || weights.type() == Type{DType::f32, rows}, "[cross_entropy] weights are {}, logits {} want {}",
        weights ? to_string(weights.type()) : "", to_string(logits.type()), to_string(Type{DType::f32, rows}));

  // Logits are taken relative to the row's shift throughout: the two logarithms lose nothing to a
  // common offset, and the whole row is one kernel. The target's is picked by comparison, not by
  // gather: the row is being read anyway, and the gradient is a comparison where gather's would
  // scatter.
  Value is_target;
  if (!soft) {
    Shape column = rows;
    column.push_back(1);
    const Value index = iota(graph, {DType::u32, {logits.dim(-1)}}, 0);
    is_target = equal(reshape(targets, column), index);
  }
  const Value shifted = logits - row_shift(logits);
  const Value picked = soft ? targets * shifted : select(is_target, shifted, scalar(graph, 0, logits.dtype()));
  const Value target = sum(picked, {-1});
  return weighted_mean(reshape(log(sum(exp(shifted), {-1})) - target, rows), weights);
}

CrossEntropy distillation(Value logits, Value targets, Value distributions, SoftTargets soft, Value weights) {
  check(soft.temperature > 0, "[distillation] the temperature is {}, it must be above 0", soft.temperature);
  check(0 <= soft.share && soft.share <= 1, "[distillation] the share of soft targets is {}, not in [0, 1]",
        soft.share);
  check(distributions && distributions.type() == Type{DType::f32, logits.shape()},
        "[distillation] distributions are {}, logits {}", distributions ? to_string(distributions.type()) : "missing",
        to_string(logits.type()));
  const Value softened = cross_entropy(logits * (1 / soft.temperature), distributions, weights).per_token;
  Value per_token = softened * (soft.share * soft.temperature * soft.temperature);
  if (soft.share < 1) per_token = per_token + cross_entropy(logits, targets, weights).per_token * (1 - soft.share);
  return weighted_mean(per_token, weights);
}

Value linear(Value x, Value weight, Value bias) {
  check(weight.rank() == 2 && x.rank() >= 1 && weight.dim(1) == x.dim(-1),
        "[linear] inner dimensions differ: {} with weight {} (stored as [out, in])", to_string(x.type()),
        to_string(weight.type()));
  Shape result = x.shape();
  result.back() = weight.dim(0);
  Value y = matmul(reshape(x, {-1, x.dim(-1)}), transpose(weight));
  if (bias) {
    check(bias.shape() == Shape{weight.dim(0)}, "[linear] bias is {}, weight is {}", to_string(bias.type()),
          to_string(weight.type()));
    y = y + bias;
  }
  return reshape(y, result);
}

Value embedding(Value table, Value tokens) {
  check(table.rank() == 2, "[embedding] the table is {}, not [V, C]", to_string(table.type()));
  return gather(table, tokens);
}

Value stream_key(Value seed, std::string_view stream) {
  // The same two steps as stream_seed() of random.h.
  uint32_t hash = 2166136261u;
  for (const char letter : stream) {
    hash ^= static_cast<uint8_t>(letter);
    hash *= 16777619u;
  }
  Graph& graph = *seed.graph;
  return random_bits(seed, scalar(graph, double(0x73747265u), DType::u32), scalar(graph, double(hash), DType::u32));
}

Value keep_mask(Graph& graph, Shape shape, double p, Value seed, Value step, std::string_view stream) {
  check(p >= 0 && p < 1, "[dropout] the probability is {}, not in [0, 1)", p);
  const Type scalar_type = {DType::u32, {}};
  check(seed && step && seed.type() == scalar_type && step.type() == scalar_type,
        "[dropout] seed and step must be u32 scalars");
  const int64_t count = element_count(shape);
  check(count <= int64_t(1) << 32, "[dropout] {} elements do not fit a 32-bit index", count);
  const Value index = reshape(iota(graph, {DType::u32, {count}}, 0), shape);
  const Value bits = random_bits(stream_key(seed, stream), step, index);
  const Value threshold = scalar(graph, std::floor(p * 4294967296.0), DType::u32);
  return logical_not(less(bits, threshold));
}

Value dropout(Value x, double p, Value seed, Value step, std::string_view stream) {
  if (p == 0) return x;
  const Value keep = keep_mask(*x.graph, x.shape(), p, seed, step, stream);
  return select(keep, x * (1 / (1 - p)), scalar(*x.graph, 0, x.dtype()));
}

Value rotary(Value x, Value cosine, Value sine) {
  const int64_t width = x.dim(-1);
  check(width % 2 == 0, "[rotary] the head width {} is odd", width);
  check(cosine.dim(-1) == width / 2 && sine.dim(-1) == width / 2,
        "[rotary] the tables are {} and {}, the head width is {}", to_string(cosine.type()), to_string(sine.type()),
        width);
  const std::vector<Value> halves = split(x, -1, {width / 2, width / 2});
  const Value a = halves[0];
  const Value b = halves[1];
  return concat({a * cosine - b * sine, b * cosine + a * sine}, -1);
}

}  // namespace surtsey::graph
