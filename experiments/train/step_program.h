// One training step and one forward pass of a model as programs with plain inputs, for `inspect`
// and `bench`: what is there is what a real run has, without its data ring and evaluation.
//
// State tensors, besides those of graph/optimizer.h and the model's constants:
//   tokens, targets   u32 [B, T]; source u32 [B, S] for an encoder_decoder
//   weights           f32 [B, T], of the loss; encoder only, whose loss is on masked tokens
//   seed              u32 [], with dropout
// With members > 1 all of them but the constants have a leading axis [E, ..].
#pragma once

#include "engine/session.h"
#include "experiments/models/model.h"
#include "experiments/train/options.h"
#include "graph/compile.h"
#include "graph/optimizer.h"

namespace surtsey::experiments {

struct StepConfig {
  int64_t batch_size = 12;
  int64_t members = 1;
  graph::OptimizerConfig optimizer;
};

// The optimizer that these keys describe, one step at a time.
graph::OptimizerConfig step_optimizer(const TrainingOptions& options);

// Output "loss" f32 [] (or [E]).
graph::Program training_step(const Model& model, const StepConfig& config);
// Output "logits" f32 [B, T, V] (or [E, B, T, V]).
graph::Program forward_pass(const Model& model, const StepConfig& config);

// Fills the state of an allocated session: member e starts from seed + e; tokens and targets are
// uniform.
void write_initial_state(engine::Session& session, const Model& model, const StepConfig& config, double learning_rate,
                         uint32_t seed);

}  // namespace surtsey::experiments
