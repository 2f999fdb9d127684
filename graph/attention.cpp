#include "graph/attention.h"

#include "graph/functions.h"

#include <cmath>

namespace surtsey::graph {
namespace {

// The values that the body and the gradient share; heads are [B, K, G, T, D] with G = H / K, or
// [B, H, T, D] where every query head has its own keys. The heads of a group with one query each (decoding) are the
// queries of its head of keys, [B, K, G, D]: keys and values are then read once for all of them.
struct Inner {
  Value q, k, v;        // with the group axis
  Value visible;        // boolean, broadcasts against the scores; empty when everything is
  Value probabilities;  // [B, (K, G | H), T, S]
  Value keep;           // dropout's mask; empty without
  Value lse;
};

Value visible_keys(const AttentionOperands& operands, const AttentionForm& form, int64_t groups) {
  Graph& graph = *operands.q.graph;
  const int64_t queries = operands.q.dim(2);
  const int64_t keys = operands.k.dim(2);
  Value visible;
  const auto also = [&](Value condition) { visible = visible ? logical_and(visible, condition) : condition; };
  if (form.causal || form.window > 0) {
    // Positions as i32, so that differences may be negative.
    Value query = iota(graph, {DType::i32, {queries, 1}}, 0);
    if (operands.position) query = query + cast(operands.position, DType::i32);
    const Value key = iota(graph, {DType::i32, {1, keys}}, 1);
    if (form.causal) also(logical_not(less(query, key)));
    if (form.window > 0) {
      const Value window = scalar(graph, double(form.window), DType::i32);
      also(less(query, key + window));
      if (!form.causal) also(less(key, query + window));
    }
  }
  if (operands.key_mask) {
    const int64_t batch = operands.q.dim(0);
    Shape shape = {batch, 1, 1, keys};
    if (groups > 1) shape.insert(shape.begin() + 1, 1);
    also(reshape(operands.key_mask, shape));
  }
  if (operands.first_key) {
    Shape shape = {operands.q.dim(0), 1, queries, 1};
    if (groups > 1) shape.insert(shape.begin() + 1, 1);
    const Value key = iota(graph, {DType::u32, {1, keys}}, 1);
    also(logical_not(less(key, reshape(operands.first_key, shape))));
  }
  return visible;
}

// Heads of queries that share a head of keys, as an axis of their own: not those with one query each.
int64_t group_axis(const Value& q, const Value& k) { return q.dim(2) == 1 ? 1 : q.dim(1) / k.dim(1); }

// q, k and v with the group axis, where there are groups.
Inner grouped(const AttentionOperands& operands) {
  Inner result{operands.q, operands.k, operands.v};
  const Shape q = operands.q.shape();
  const Shape k = operands.k.shape();
  const int64_t groups = q[1] / k[1];
  if (groups > 1 && q[2] == 1) {
    result.q = reshape(operands.q, {q[0], k[1], groups, q[3]});
  } else if (groups > 1) {
    result.q = reshape(operands.q, {q[0], k[1], groups, q[2], q[3]});
    result.k = reshape(operands.k, {k[0], k[1], 1, k[2], k[3]});
    result.v = reshape(operands.v, {k[0], k[1], 1, k[2], operands.v.dim(3)});
  }
  return result;
}

Inner inner(const AttentionOperands& operands, const AttentionForm& form) {
  Inner result = grouped(operands);
  const int64_t groups = group_axis(operands.q, operands.k);
  Value scores = matmul(result.q, transpose(result.k)) * form.scale;
  result.visible = visible_keys(operands, form, groups);
  if (result.visible) {
    scores = select(result.visible, scores, scalar(*scores.graph, kMaskedScore, scores.dtype()));
  }
  const Value shift = row_shift(scores);
  const Value exponential = exp(scores - shift);
  const Value total = sum(exponential, {-1});
  result.probabilities = exponential / total;
  result.lse = log(total) + shift;
  if (form.dropout > 0) {
    result.keep = keep_mask(*scores.graph, scores.shape(), form.dropout, operands.seed, operands.step, form.stream);
  }
  return result;
}

Value dropped(Value x, Value keep, double p) {
  if (!keep) return x;
  return select(keep, x * (1 / (1 - p)), scalar(*x.graph, 0, x.dtype()));
}

// p * (dp - delta), scaled: the gradient of q k^T. A masked score has p = 0, except in a row that
// is masked throughout.
Value score_gradient(const Inner& forward, Value dp, Value delta, const AttentionForm& form) {
  Value ds = forward.probabilities * (dp - delta);
  if (form.has_empty_rows()) {
    ds = select(forward.visible, ds, scalar(*ds.graph, 0, ds.dtype()));
  }
  return ds * form.scale;
}

Value probability_gradient(const Inner& forward, Value dout, const AttentionForm& form) {
  return dropped(matmul(dout, transpose(forward.v)), forward.keep, form.dropout);
}

// [B, H, T, n] as the probabilities have it, with the group axis.
Value with_groups(Value x, const Inner& forward) {
  Shape shape = forward.probabilities.shape();
  shape.back() = x.dim(3);
  return reshape(x, shape);
}

// [B, K, G, S, D] summed over the queries that share a head of keys, as [B, K, S, D].
Value sum_groups(Value x, const Shape& shape) { return reshape(x.rank() == 5 ? sum(x, {2}) : x, shape); }

std::vector<Value> forward_body(const AttentionOperands& operands, const AttentionForm& form) {
  const Inner in = inner(operands, form);
  const Shape& q = operands.q.shape();
  const Value out = matmul(dropped(in.probabilities, in.keep, form.dropout), in.v);
  return {reshape(out, {q[0], q[1], q[2], operands.v.dim(3)}), reshape(in.lse, {q[0], q[1], q[2], 1})};
}

std::vector<Value> query_gradient_body(const AttentionOperands& operands, const AttentionForm& form) {
  const Inner forward = inner(operands, form);
  const Value dp = probability_gradient(forward, with_groups(operands.dout, forward), form);
  Value delta = sum(forward.probabilities * dp, {-1});
  if (operands.dlse) delta = delta - with_groups(operands.dlse, forward);
  const Value ds = score_gradient(forward, dp, delta, form);
  return {reshape(matmul(ds, forward.k), operands.q.shape()), reshape(delta, operands.lse.shape())};
}

std::vector<Value> key_gradient_body(const AttentionOperands& operands, const AttentionForm& form) {
  const Inner forward = inner(operands, form);
  const Value dout = with_groups(operands.dout, forward);
  const Value dp = probability_gradient(forward, dout, form);
  const Value ds = score_gradient(forward, dp, with_groups(operands.delta, forward), form);
  const Value p = dropped(forward.probabilities, forward.keep, form.dropout);
  return {sum_groups(matmul(transpose(ds), forward.q), operands.k.shape()),
          sum_groups(matmul(transpose(p), dout), operands.v.shape())};
}

std::shared_ptr<Region> make_region(const AttentionForm& form, std::span<const Value> inputs) {
  constexpr const char* kNames[] = {"attention", "attention_query_gradient", "attention_key_gradient"};
  constexpr std::vector<Value> (*kBodies[])(const AttentionOperands&, const AttentionForm&) = {
      forward_body, query_gradient_body, key_gradient_body};
  auto made = std::make_shared<Region>();
  made->name = kNames[size_t(form.part)];
  made->attention = std::make_shared<const AttentionForm>(form);
  made->body = std::make_shared<Graph>();
  for (size_t i = 0; i < inputs.size(); ++i) {
    made->parameters.push_back(made->body->parameter(fmt::format("operand{}", i), inputs[i].type()));
  }
  made->results = kBodies[size_t(form.part)](attention_operands(form, made->parameters), form);
  return made;
}

// `inputs` are those of the forward region.
std::vector<Value> gradient(std::vector<Value> inputs, std::span<const Value> results, std::span<const Value> gradients,
                            AttentionForm form) {
  const size_t count = inputs.size();
  const Value lse = results[1];
  const Value dout = gradients[0] ? gradients[0] : constant_like(results[0], 0);
  std::vector<Value> key_inputs = inputs;
  inputs.insert(inputs.end(), {results[0], lse, dout});
  form.part = AttentionPart::query_gradient;
  form.has_lse_gradient = bool(gradients[1]);
  if (form.has_lse_gradient) inputs.push_back(gradients[1]);
  const std::vector<Value> query = region(make_region(form, inputs), inputs);
  form.part = AttentionPart::key_gradient;
  form.has_lse_gradient = false;
  key_inputs.insert(key_inputs.end(), {lse, query[1], dout});
  const std::vector<Value> key = region(make_region(form, key_inputs), key_inputs);
  std::vector<Value> all(count);
  all[0] = query[0];
  all[1] = key[0];
  all[2] = key[1];
  return all;
}

void check_operands(Value q, Value k, Value v, const AttentionOptions& options) {
  const auto shapes = [&] {
    return fmt::format("q {}, k {}, v {}", to_string(q.type()), to_string(k.type()), to_string(v.type()));
  };
  check(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, "[attention] operands must be [B, H, T, D]: {}", shapes());
  check(q.dim(0) == k.dim(0) && k.dim(0) == v.dim(0), "[attention] batches differ: {}", shapes());
  check(q.dim(3) == k.dim(3), "[attention] head widths of q and k differ: {}", shapes());
  check(k.dim(1) == v.dim(1) && k.dim(2) == v.dim(2), "[attention] k and v do not match: {}", shapes());
  check(q.dim(1) % k.dim(1) == 0, "[attention] key/value heads must divide query heads: {}", shapes());
  check(!options.position || options.position.type() == Type{DType::u32, {}},
        "[attention] position must be a u32 scalar");
  check(!options.key_mask || options.key_mask.type() == Type{DType::boolean, {k.dim(0), k.dim(2)}},
        "[attention] the key mask is {}, not [B, S] boolean",
        options.key_mask ? to_string(options.key_mask.type()) : "");
  check(!options.first_key || options.first_key.type() == Type{DType::u32, {q.dim(0), q.dim(2)}},
        "[attention] the first keys are {}, not u32 [B, T]",
        options.first_key ? to_string(options.first_key.type()) : "");
  check(!options.first_key || (options.causal && !options.position && q.dim(2) == k.dim(2)),
        "[attention] first keys are of causal attention over the row itself, without a position");
  const auto fits = [](int64_t extent, int64_t whole) { return extent == 1 || extent == whole; };
  check(!options.bias ||
            (options.bias.rank() == 4 && options.bias.dtype() == DType::f32 && fits(options.bias.dim(0), q.dim(0)) &&
             fits(options.bias.dim(1), q.dim(1)) && options.bias.dim(2) == q.dim(2) && options.bias.dim(3) == k.dim(2)),
        "[attention] the bias is {}, not f32 [1 or B, 1 or H, T, S]",
        options.bias ? to_string(options.bias.type()) : "");
}

// With a bias on the scores: plain products and a softmax, whose gradients are those of the primitives.
Attention biased_attention(const AttentionOperands& operands, const AttentionOptions& options,
                           const AttentionForm& form) {
  const Inner heads = grouped(operands);
  const int64_t groups = group_axis(operands.q, operands.k);
  Value scores = matmul(heads.q, transpose(heads.k)) * form.scale;
  Shape shape = options.bias.shape();
  if (heads.q.dim(1) != operands.q.dim(1) && groups == 1) {
    if (shape[1] > 1) shape = {shape[0], operands.k.dim(1), heads.q.dim(2), shape[3]};
  } else if (groups > 1) {
    shape[1] = shape[1] == 1 ? 1 : operands.k.dim(1);
    shape.insert(shape.begin() + 2, options.bias.dim(1) == 1 ? 1 : groups);
  }
  scores = scores + reshape(options.bias, shape);
  if (const Value visible = visible_keys(operands, form, groups)) {
    scores = select(visible, scores, scalar(*scores.graph, kMaskedScore, scores.dtype()));
  }
  Value probabilities = softmax(scores);
  if (form.dropout > 0) {
    const Value keep =
        keep_mask(*scores.graph, scores.shape(), form.dropout, operands.seed, operands.step, form.stream);
    probabilities = dropped(probabilities, keep, form.dropout);
  }
  const Shape& q = operands.q.shape();
  return {reshape(matmul(probabilities, heads.v), {q[0], q[1], q[2], operands.v.dim(3)}),
          reshape(logsumexp(scores), {q[0], q[1], q[2], 1})};
}

AttentionForm form_of(const AttentionOptions& options, Value q) {
  AttentionForm form;
  form.causal = options.causal;
  form.window = options.window;
  form.scale = options.scale > 0 ? options.scale : 1 / std::sqrt(double(q.dim(3)));
  form.dropout = options.dropout;
  form.stream = options.stream;
  form.has_position = bool(options.position);
  form.has_key_mask = bool(options.key_mask);
  form.has_first_key = bool(options.first_key);
  return form;
}

}  // namespace

Value linear_attention(Value q, Value k, Value v, const AttentionOptions& options) {
  check_operands(q, k, v, options);
  check(!options.bias, "[attention] linear attention takes no bias on its scores");
  check(options.dropout == 0, "[attention] linear attention has no probabilities to drop");
  const AttentionForm form = form_of(options, q);
  const AttentionOperands operands{q, k, v, options.position, options.key_mask, options.first_key};
  const Inner heads = grouped(operands);
  Value scores = matmul(heads.q, transpose(heads.k)) * form.scale;
  if (const Value visible = visible_keys(operands, form, group_axis(q, k))) {
    scores = select(visible, scores, scalar(*scores.graph, 0, scores.dtype()));
  }
  return reshape(matmul(scores, heads.v), {q.dim(0), q.dim(1), q.dim(2), v.dim(3)});
}

AttentionOperands attention_operands(const AttentionForm& form, std::span<const Value> inputs) {
  AttentionOperands operands{inputs[0], inputs[1], inputs[2]};
  size_t next = 3;
  if (form.has_position) operands.position = inputs[next++];
  if (form.has_key_mask) operands.key_mask = inputs[next++];
  if (form.has_first_key) operands.first_key = inputs[next++];
  if (form.dropout > 0) {
    operands.seed = inputs[next++];
    operands.step = inputs[next++];
  }
  if (form.part == AttentionPart::forward) return operands;
  if (form.part == AttentionPart::query_gradient) operands.out = inputs[next++];
  operands.lse = inputs[next++];
  if (form.part == AttentionPart::key_gradient) operands.delta = inputs[next++];
  operands.dout = inputs[next++];
  if (form.has_lse_gradient) operands.dlse = inputs[next++];
  return operands;
}

Attention scaled_dot_product_attention(Value q, Value k, Value v, const AttentionOptions& options) {
  check_operands(q, k, v, options);
  std::vector<Value> inputs = {q, k, v};
  if (options.position) inputs.push_back(options.position);
  if (options.key_mask) inputs.push_back(options.key_mask);
  if (options.first_key) inputs.push_back(options.first_key);
  if (options.dropout > 0) {
    check(options.seed && options.step, "[attention] dropout needs a seed and a step");
    inputs.push_back(options.seed);
    inputs.push_back(options.step);
  }
  const AttentionForm form = form_of(options, q);
  if (options.bias) {
    return biased_attention(
        {q, k, v, options.position, options.key_mask, options.first_key, options.seed, options.step}, options, form);
  }
  const std::shared_ptr<Region> attention = make_region(form, inputs);
  attention->gradient = [form](std::span<const Value> operands, std::span<const Value> results,
                               std::span<const Value> gradients) {
    return gradient({operands.begin(), operands.end()}, results, gradients, form);
  };
  const std::vector<Value> results = region(attention, inputs);
  return {results[0], results[1]};
}

}  // namespace surtsey::graph
