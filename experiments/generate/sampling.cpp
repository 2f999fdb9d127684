#include "experiments/generate/sampling.h"

#include "graph/functions.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Value;

constexpr int kBisections = 32;
constexpr double kNever = -1e30;

// -log(-log u) for u = 1 - v, f32 [N, V].
Value gumbel(graph::Graph& graph, const TokenDraw& draw, int64_t rows, int64_t vocabulary) {
  const auto word = [&](double value) { return graph::scalar(graph, value, DType::u32); };
  const Value key =
      random_bits(graph::stream_key(draw.seed, "sample"), word(0), graph::reshape(draw.stream, {rows, 1}));
  const Value token = graph::iota(graph, {DType::u32, {rows, vocabulary}}, 1);
  const Value bits = random_bits(key, draw.step, token);
  // 23 bits and a half: v and 1 - v are exact, neither is ever 0.
  const Value v = (cast(bits / word(512), DType::f32) + 0.5) * 0x1p-23;
  // log(1 - v) is inexact near 1 by more than it is far from 0: the first terms of its series
  // there.
  const Value series = v * (1.0 + v * (0.5 + v * (1.0 / 3)));
  const Value exponential = graph::select(graph::less(v, graph::constant_like(v, 1.0 / 64)), series, -log(1.0 - v));
  return -log(exponential);
}

// The largest threshold, to the end of the bisection, at which holds(threshold) is still true;
// f32 [N, 1]. It holds at the least logit of a row.
template <typename Holds>
Value largest(Value logits, const Holds& holds) {
  // Below the least: where all logits are equal the middle is below them all.
  Value low = -graph::reduce_max(-logits, {1}) - 1.0;
  Value high = graph::reduce_max(logits, {1});
  for (int i = 0; i < kBisections; ++i) {
    const Value middle = (low + high) * 0.5;
    const Value good = holds(middle);
    low = graph::select(good, middle, low);
    high = graph::select(good, high, middle);
  }
  return low;
}

}  // namespace

void check_filter(const TokenFilter& filter) {
  check(filter.top_k >= 0, "top_k cannot be {}", filter.top_k);
  check(filter.top_p > 0 && filter.top_p <= 1, "top_p is above 0 and at most 1, not {}", filter.top_p);
}

Value draw_tokens(Value logits, const TokenDraw& draw, const TokenFilter& filter) {
  check_filter(filter);
  check(logits.rank() == 2, "[sample] logits are {}, not [N, V]", to_string(logits.type()));
  graph::Graph& graph = *logits.graph;
  const int64_t vocabulary = logits.dim(1);
  const auto at_least = [&](Value threshold) { return graph::logical_not(graph::less(logits, threshold)); };
  Value kept;  // boolean [N, V]; empty: all
  if (filter.top_k > 0 && filter.top_k < vocabulary) {
    const Value wanted = graph::scalar(graph, double(filter.top_k));
    kept = at_least(largest(logits, [&](Value threshold) {
      const Value count = graph::sum(cast(at_least(threshold), DType::f32), {1});
      return graph::logical_not(graph::less(count, wanted));
    }));
  }
  if (filter.top_p < 1) {
    const Value cold = graph::max(draw.temperature, graph::scalar(graph, 1e-6));
    Value weight = exp((logits - graph::reduce_max(logits, {1})) / cold);
    if (kept) weight = graph::select(kept, weight, graph::constant_like(weight, 0));
    const Value wanted = graph::sum(weight, {1}) * filter.top_p;
    const Value nucleus = at_least(largest(logits, [&](Value threshold) {
      const Value chosen = graph::select(at_least(threshold), weight, graph::constant_like(weight, 0));
      return graph::logical_not(graph::less(graph::sum(chosen, {1}), wanted));
    }));
    kept = kept ? graph::logical_and(kept, nucleus) : nucleus;
  }
  Value noisy = logits + draw.temperature * gumbel(graph, draw, logits.dim(0), vocabulary);
  if (kept) noisy = graph::select(kept, noisy, graph::constant_like(noisy, kNever));
  return graph::argmax(noisy, 1);
}

}  // namespace surtsey::experiments
