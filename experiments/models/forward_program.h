// A forward pass of a model as a program with plain inputs, for `inspect`, `tune` and `bench forward`.
//
// State tensors, besides the parameters and the model's constants:
//   tokens   u32 [B, T]
//   source   u32 [B, S]   what the encoder of an encoder_decoder reads
// With several members both, and the parameters, have a leading axis [E, ..].
#pragma once

#include "experiments/models/model.h"
#include "graph/plan.h"

namespace surtsey::experiments {

// Output "logits" f32 [B, T, V] (or [E, B, T, V]).
graph::Program forward_program(const Model& model, int64_t batch_size, size_t members = 1);

}  // namespace surtsey::experiments
