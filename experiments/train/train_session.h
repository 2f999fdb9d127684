// The programs and the state of training in a session, for what trains (train.h) and for what looks at a training step:
// benchmarks, profiles, checks of a device.
#pragma once

#include "engine/session.h"
#include "experiments/train/train_program.h"

namespace surtsey::experiments {

// Adds train_programs() as a run compiles them, the data ring shared with the host. The session is not yet allocated.
void add_train_programs(engine::Session& session, const Model& model, const TrainConfig& config);

// Writes those of these tensors that the session has: a graph that does not need one has none of that name.
void write_state(engine::Session& session, const graph::State& state);

// Models that learned nothing yet, without a run: their parameters by seed, and the constants of their graphs.
void write_models(engine::Session& session, const Model& model, const std::vector<Member>& members);

// The state of a fresh run, and a ring of tokens, targets and sources, uniform over the vocabulary, with weights
// of 1: a step's work without a task.
void write_uniform_start(engine::Session& session, const Model& model, const TrainConfig& config);

// The same inputs alone, those of forward_program() and the data ring, in whichever the session has; a function of the
// seed.
void write_uniform_tokens(engine::Session& session, const ModelConfig& model, uint32_t seed);

}  // namespace surtsey::experiments
