// One program for many models: the ensemble axis over what each of them owns.
#pragma once

#include <set>
#include <string>

#include "graph/plan.h"

namespace surtsey::experiments {

// Every state tensor of training that members own, for vectorize() and for cutting checkpoints.
std::set<std::string> member_state_names();
// Sums of what a run's log shows of its batches (train/train_program.h).
inline constexpr const char* kMeasures = "train.measures";

// The same program for E members; E = 1 is the program itself. `own` names what members own beside the state of
// training: decode_member_state(), residual_member_state(), ..
graph::Program for_members(const graph::Program& program, size_t members, std::set<std::string> own = {});

}  // namespace surtsey::experiments
