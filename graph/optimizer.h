// Optimizers as graphs over the flat parameter tensor. Nothing runs on the host: the step, the
// schedule, clipping and the decision to skip are values of the graph, so a recorded step replays
// unchanged.
//
// State tensors (P = flat size, of what trains alone; R = rows of the ring):
//   parameters            f32 [P]
//   adam.m, adam.v        f32 [P]   AdamW: moving averages of the gradient and of its square
//   adam.ones             f32 [2]   the same averages of the constant 1. Dividing by them is Adam's
//                                   bias correction 1 - beta^t, without its cancellation
//   sgd.momentum          f32 [P]   SGD
//   parameters.lr_multiplier,       f32 [P], only when a group differs
//   parameters.decay_multiplier
//   step                  u32 []    advanced by 1, whatever happens
//   learning_rate         f32 []    the peak; the schedule multiplies it
//   skipped               u32 []    how many steps were skipped
//   loss_scale            f32 []    with loss scaling: what the gradient was multiplied by
//   loss_scale.good_steps u32 []    steps applied since it last changed
//   metrics               f32 [R, 3]  row step mod R: loss, gradient norm (before clipping), lr
//   gradient_accumulator  f32 [P], loss_accumulator f32 [], micro_step u32 []: with accumulation
//
// A step whose gradient is not finite (or whose squared norm leaves f32) changes neither parameters
// nor moments: it is counted in `skipped`, and `step` goes on. With loss scaling it halves the
// scale.
#pragma once

#include "graph/parameters.h"

#include <set>
#include <string>

namespace surtsey::graph {

enum class OptimizerKind : uint8_t { adamw, sgd };
enum class Decay : uint8_t { none, linear, cosine };

// With s = step (from 0), W = warmup_steps, N = total_steps, f = final_ratio:
//   s < W:  (s + 1) / W
//   else    f + (1 - f) d(u), u = min(1, (s - W) / (N - W));
//           linear d = 1 - u, cosine d = (1 + cos(pi u)) / 2, none d = 1
struct Schedule {
  Decay decay = Decay::none;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;  // needed by linear and cosine
  double final_ratio = 0;
};

// Small gradients vanish in f16, whose least normal number is 6e-5. Differentiating `loss_scale`
// times the loss moves them into its range (Micikevicius et al. 2018); optimize() divides them by
// it again. Dynamic: halved at a step that is not finite, doubled after `growth_interval` steps in
// a row that are. Powers of two, so that neither factor rounds.
struct LossScaling {
  bool enabled = false;
  double initial = 65536;
  int64_t growth_interval = 2000;
  double largest = 16777216;
};

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::adamw;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  // decoupled for AdamW (Loshchilov and Hutter 2019), L2 for SGD
  double momentum = 0.9;       // SGD: b = momentum b + g, p -= lr b (PyTorch's form, no dampening)
  bool nesterov = false;
  double clip_norm = 1;  // 0: no clipping. g *= min(1, clip_norm / (norm + 1e-6))
  Schedule schedule;
  int64_t metrics_rows = 256;  // R
  int64_t accumulation_steps = 1;
  bool split = false;  // accumulate() and optimize_accumulated() even for one micro-batch: something stands between
  bool accumulates() const { return accumulation_steps > 1 || split; }
  LossScaling loss_scaling;
};

// f32 []: the coefficient to differentiate with, for flat_gradient(). An empty Value without loss
// scaling.
Value gradient_coefficient(Graph& graph, const OptimizerConfig& config);

// The factor of the peak learning rate at `step` (u32 []), f32 [].
Value schedule_factor(Value step, const Schedule& schedule);
// The same on the host, in double: for logs and tests.
double schedule_factor(int64_t step, const Schedule& schedule);

struct OptimizerStep {
  Value gradient_norm;  // f32 [], before clipping
  Value learning_rate;  // f32 [], after the schedule
  Value applied;        // boolean []: false when the step is skipped
};

// Adds one step to the graph of `parameters`: reads `gradient` (f32 [P], see flat_gradient) and
// `loss` (f32 []), and assigns every state tensor listed above.
OptimizerStep optimize(const Parameters& parameters, Value gradient, Value loss, const OptimizerConfig& config);

// Accumulation over `accumulation_steps` micro-batches, as two programs over the same state:
// accumulate() adds a micro-batch's gradient and loss to the accumulators and advances `micro_step`
// (the counter that dropout should use); optimize_accumulated() takes their mean for a step and
// clears them. `change`, where given, has the mean gradient before the optimizer does.
void accumulate(const Parameters& parameters, Value gradient, Value loss);
OptimizerStep optimize_accumulated(const Parameters& parameters, const OptimizerConfig& config,
                                   const std::function<Value(Value gradient)>& change = {});

// What a fresh run starts from, `parameters` excepted: zero moments and counters.
State initial_optimizer_state(const ParameterStore& store, const OptimizerConfig& config, double learning_rate);

// The names of the optimizer's state that members of an ensemble own, for vectorize(); `step` and
// the multipliers are shared.
std::set<std::string> per_member_state();

}  // namespace surtsey::graph
