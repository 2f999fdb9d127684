#include "graph/attention.h"

#include "graph/functions.h"

#include <cmath>

namespace surtsey::graph {
namespace {

// Far below any score, far above the overflow of f32: exp(kMasked - shift) is 0 unless the whole
// row is masked.
constexpr double kMasked = -1e30;

// What the region's operands are, in order: q, k, v, then those of the options that are there.
struct Operands {
  Value q, k, v, position, key_mask, seed, step;
};

Operands unpack(std::span<const Value> inputs, const AttentionOptions& options) {
  Operands operands{inputs[0], inputs[1], inputs[2]};
  size_t next = 3;
  if (options.position) operands.position = inputs[next++];
  if (options.key_mask) operands.key_mask = inputs[next++];
  if (options.dropout > 0) {
    operands.seed = inputs[next++];
    operands.step = inputs[next++];
  }
  return operands;
}

// The values that the body and the gradient share; heads are [B, K, G, T, D] with G = H / K, or
// [B, H, T, D] where every query head has its own keys.
struct Inner {
  Value q, k, v;        // with the group axis
  Value visible;        // boolean, broadcasts against the scores; empty when everything is
  Value probabilities;  // [B, (K, G | H), T, S]
  Value keep;           // dropout's mask; empty without
  Value lse;
};

Value visible_keys(const Operands& operands, const AttentionOptions& options, int64_t groups) {
  Graph& graph = *operands.q.graph;
  const int64_t queries = operands.q.dim(2);
  const int64_t keys = operands.k.dim(2);
  Value visible;
  const auto also = [&](Value condition) {
    visible = visible ? logical_and(visible, condition) : condition;
  };
  if (options.causal || options.window > 0) {
    // Positions as i32, so that differences may be negative.
    Value query = iota(graph, {DType::i32, {queries, 1}}, 0);
    if (operands.position) query = query + cast(operands.position, DType::i32);
    const Value key = iota(graph, {DType::i32, {1, keys}}, 1);
    if (options.causal) also(logical_not(less(query, key)));
    if (options.window > 0) {
      const Value window = scalar(graph, double(options.window), DType::i32);
      also(less(query, key + window));
      if (!options.causal) also(less(key, query + window));
    }
  }
  if (operands.key_mask) {
    const int64_t batch = operands.q.dim(0);
    Shape shape = {batch, 1, 1, keys};
    if (groups > 1) shape.insert(shape.begin() + 1, 1);
    also(reshape(operands.key_mask, shape));
  }
  return visible;
}

// q, k and v with the group axis, where there are groups.
Inner grouped(const Operands& operands) {
  Inner result{operands.q, operands.k, operands.v};
  const Shape q = operands.q.shape();
  const Shape k = operands.k.shape();
  const int64_t groups = q[1] / k[1];
  if (groups > 1) {
    result.q = reshape(operands.q, {q[0], k[1], groups, q[2], q[3]});
    result.k = reshape(operands.k, {k[0], k[1], 1, k[2], k[3]});
    result.v = reshape(operands.v, {k[0], k[1], 1, k[2], operands.v.dim(3)});
  }
  return result;
}

Inner inner(const Operands& operands, const AttentionOptions& options, double scale) {
  Inner result = grouped(operands);
  const int64_t groups = operands.q.dim(1) / operands.k.dim(1);
  Value scores = matmul(result.q, transpose(result.k)) * scale;
  result.visible = visible_keys(operands, options, groups);
  if (result.visible) {
    scores = select(result.visible, scores, scalar(*scores.graph, kMasked, scores.dtype()));
  }
  const Value shift = row_shift(scores);
  const Value exponential = exp(scores - shift);
  const Value total = sum(exponential, {-1});
  result.probabilities = exponential / total;
  result.lse = log(total) + shift;
  if (options.dropout > 0) {
    result.keep = keep_mask(*scores.graph, scores.shape(), options.dropout, operands.seed,
                            operands.step, options.stream);
  }
  return result;
}

Value dropped(Value x, Value keep, double p) {
  if (!keep) return x;
  return select(keep, x * (1 / (1 - p)), scalar(*x.graph, 0, x.dtype()));
}

std::vector<Value> gradient(std::span<const Value> inputs, std::span<const Value> gradients,
                            const AttentionOptions& options, double scale) {
  const Operands operands = unpack(inputs, options);
  const Inner forward = inner(operands, options, scale);
  const Value p = forward.probabilities;
  std::vector<Value> result(inputs.size());
  Value ds;
  if (gradients[0]) {
    Shape shape = p.shape();
    shape.back() = operands.v.dim(3);
    const Value dout = reshape(gradients[0], shape);
    Value dv = matmul(transpose(dropped(p, forward.keep, options.dropout)), dout);
    const int64_t group_axis = 2;
    if (p.rank() == 5) dv = sum(dv, {group_axis});
    result[2] = reshape(dv, operands.v.shape());
    const Value dp = dropped(matmul(dout, transpose(forward.v)), forward.keep, options.dropout);
    ds = p * (dp - sum(p * dp, {-1}));
  }
  if (gradients.size() > 1 && gradients[1]) {
    Shape shape = p.shape();
    shape.back() = 1;
    const Value from_lse = p * reshape(gradients[1], shape);
    ds = ds ? ds + from_lse : from_lse;
  }
  if (!ds) return result;
  // A masked score has p = 0, except in a row that is masked throughout.
  if (options.key_mask) ds = select(forward.visible, ds, scalar(*ds.graph, 0, ds.dtype()));
  ds = ds * scale;
  result[0] = reshape(matmul(ds, forward.k), operands.q.shape());
  Value dk = matmul(transpose(ds), forward.q);
  if (p.rank() == 5) dk = sum(dk, {2});
  result[1] = reshape(dk, operands.k.shape());
  return result;
}

void check_operands(Value q, Value k, Value v, const AttentionOptions& options) {
  const auto shapes = [&] {
    return fmt::format("q {}, k {}, v {}", to_string(q.type()), to_string(k.type()),
                       to_string(v.type()));
  };
  check(q.rank() == 4 && k.rank() == 4 && v.rank() == 4,
        "[attention] operands must be [B, H, T, D]: {}", shapes());
  check(q.dim(0) == k.dim(0) && k.dim(0) == v.dim(0), "[attention] batches differ: {}", shapes());
  check(q.dim(3) == k.dim(3), "[attention] head widths of q and k differ: {}", shapes());
  check(k.dim(1) == v.dim(1) && k.dim(2) == v.dim(2), "[attention] k and v do not match: {}",
        shapes());
  check(q.dim(1) % k.dim(1) == 0, "[attention] key/value heads must divide query heads: {}",
        shapes());
  check(!options.position || options.position.type() == Type{DType::u32, {}},
        "[attention] position must be a u32 scalar");
  check(!options.key_mask || options.key_mask.type() == Type{DType::boolean, {k.dim(0), k.dim(2)}},
        "[attention] the key mask is {}, not [B, S] boolean",
        options.key_mask ? to_string(options.key_mask.type()) : "");
}

double scale_of(const AttentionOptions& options, Value q) {
  return options.scale > 0 ? options.scale : 1 / std::sqrt(double(q.dim(3)));
}

}  // namespace

Attention scaled_dot_product_attention(Value q, Value k, Value v, const AttentionOptions& options) {
  check_operands(q, k, v, options);
  const double scale = scale_of(options, q);
  std::vector<Value> inputs = {q, k, v};
  if (options.position) inputs.push_back(options.position);
  if (options.key_mask) inputs.push_back(options.key_mask);
  if (options.dropout > 0) {
    check(options.seed && options.step, "[attention] dropout needs a seed and a step");
    inputs.push_back(options.seed);
    inputs.push_back(options.step);
  }

  auto attention = std::make_shared<Region>();
  attention->name = kAttentionRegion;
  attention->body = std::make_shared<Graph>();
  for (size_t i = 0; i < inputs.size(); ++i) {
    attention->parameters.push_back(
        attention->body->parameter(fmt::format("operand{}", i), inputs[i].type()));
  }
  const Inner body = inner(unpack(attention->parameters, options), options, scale);
  const Value out = matmul(dropped(body.probabilities, body.keep, options.dropout), body.v);
  attention->results = {reshape(out, {q.dim(0), q.dim(1), q.dim(2), v.dim(3)}),
                        reshape(body.lse, {q.dim(0), q.dim(1), q.dim(2), 1})};
  attention->gradient = [options, scale](std::span<const Value> operands, std::span<const Value>,
                                         std::span<const Value> gradients) {
    return gradient(operands, gradients, options, scale);
  };
  const std::vector<Value> results = region(attention, inputs);
  return {results[0], results[1]};
}

Value linear_attention(Value q, Value k, Value v, const AttentionOptions& options) {
  check_operands(q, k, v, options);
  check(options.dropout == 0, "[attention] linear attention has no probabilities to drop");
  const Operands operands{q, k, v, options.position, options.key_mask};
  const Inner heads = grouped(operands);
  Value scores = matmul(heads.q, transpose(heads.k)) * scale_of(options, q);
  if (const Value visible = visible_keys(operands, options, q.dim(1) / k.dim(1))) {
    scores = select(visible, scores, scalar(*scores.graph, 0, scores.dtype()));
  }
  return reshape(matmul(scores, heads.v), {q.dim(0), q.dim(1), q.dim(2), v.dim(3)});
}

}  // namespace surtsey::graph
