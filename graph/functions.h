// Composites: what a model is written with, each a few lines over primitives with no rule of its
// own. Gradients come from the primitives (or from the region, for attention); every function here
// is a chain of reductions over the last axis and elementwise work, so that forward and backward
// each fuse into one kernel.
//
// Letters: B batch, T time (S: time of keys), C channels, H heads, D head width, V vocabulary.
#pragma once

#include "graph/graph.h"

#include <string_view>

namespace surtsey::graph {

// ---- small pieces ----

// x with a whole-number shift that is constant to the gradient: floor of the row maximum. Softmax
// and log-sum-exp do not depend on the shift, so its gradient is zero in exact arithmetic; floor
// has none, so none is computed. exp(x - row_shift(x)) is at most e.
Value row_shift(Value x);

Value sigmoid(Value x);              // through tanh, so that no exp overflows: its gradient is finite everywhere
Value log_sigmoid(Value x);          // -log(1 + exp(-x)), finite everywhere; its gradient is sigmoid(-x), 1/2 at 0
Value silu(Value x);                 // x sigmoid(x)
Value gelu_erf(Value x);             // x/2 (1 + erf(x / sqrt 2)), Hendrycks and Gimpel 2016
Value gelu_tanh(Value x);            // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
Value swiglu(Value gate, Value up);  // silu(gate) up, Shazeer 2020

// x, constant to the gradient.
Value stop_gradient(Value x);

// x cut along an axis into parts of the given extents, which add up to x's. A region of slices with
// its own gradient: the concat of the parts' gradients, which kernels write in place, where slices
// alone would give a sum of padded tensors.
std::vector<Value> split(Value x, int64_t axis, const std::vector<int64_t>& extents);

// ---- rows: the last axis ----

Value softmax(Value x);      // exp(x - m) / sum exp(x - m)
Value log_softmax(Value x);  // x - logsumexp(x)
Value logsumexp(Value x);    // keeps the axis with extent 1

// (x - mean) / sqrt(variance + epsilon) * weight + bias; weight and bias [C], either may be empty.
Value layer_norm(Value x, Value weight, Value bias, double epsilon = 1e-5);
// x / sqrt(mean(x^2) + epsilon) * weight + bias (Zhang and Sennrich 2019).
Value rms_norm(Value x, Value weight, Value bias = {}, double epsilon = 1e-5);

struct CrossEntropy {
  Value mean;        // f32 []: sum(weight * loss) / sum(weight); 0 when every weight is 0
  Value per_token;   // f32 [..]: -log p(target), unweighted, in nats
  Value weight_sum;  // f32 []
};
// logits f32 [.., V], targets u32 [..], weights f32 [..] >= 0. A token is ignored by weight 0; its
// target may then be anything. An empty `weights` means 1 everywhere.
// d mean / d logits = (softmax - onehot) * weight / sum(weight): one exp, shared by both
// directions.
// Or targets are distributions p, f32 [.., V], rows >= 0 that sum to 1 (soft targets: Hinton, Vinyals and Dean 2015,
// 1503.02531): per token -sum(p log softmax), which is KL(p || softmax) and p's entropy. The gradient is (softmax - p)
// in place of (softmax - onehot). It is one of the logits alone: p is given, and nothing is derived by it.
CrossEntropy cross_entropy(Value logits, Value targets, Value weights = {});

struct SoftTargets {
  double temperature = 1;  // of the distributions, > 0
  double share = 1;        // of the loss, in [0, 1]; the tokens have the rest
};
// A student's loss (the same, section 2), with what the teacher's logits / temperature became as distributions:
//   share temperature^2 cross_entropy(logits / temperature, distributions) + (1 - share) cross_entropy(logits, targets)
// The square keeps the gradient's size whatever the temperature. A share of 1 reads no targets, which may be empty.
CrossEntropy distillation(Value logits, Value targets, Value distributions, SoftTargets soft, Value weights = {});

// ---- layers ----

// x [.., in] weight [out, in]^T + bias [out]. Leading axes are flattened first, so that the weight
// gradient is a single matmul and not a sum over the batch.
Value linear(Value x, Value weight, Value bias = {});
// table [V, C], tokens u32 [..] -> [.., C].
Value embedding(Value table, Value tokens);

// Inverted dropout: keeps an element with probability 1 - p and divides it by that. The draw is
// Philox under stream_seed(seed, stream), the step and the element's index in x, so it depends on
// nothing else. seed and step are u32 scalars; every use in a model needs a stream of its own.
Value dropout(Value x, double p, Value seed, Value step, std::string_view stream);
// stream_seed() of random.h as a value: the key of a named stream under a seed on the device.
Value stream_key(Value seed, std::string_view stream);
// boolean, true with probability 1 - p: the mask of dropout().
Value keep_mask(Graph& graph, Shape shape, double p, Value seed, Value step, std::string_view stream);

// Rotary positions in the rotate-half form (Su et al. 2021, as in Hugging Face): with x = [a, b]
// cut in the middle of the last axis, the result is [a cos - b sin, b cos + a sin]. cosine and sine
// broadcast against [.., D/2]. See rotary_tables() for their values.
Value rotary(Value x, Value cosine, Value sine);

}  // namespace surtsey::graph
