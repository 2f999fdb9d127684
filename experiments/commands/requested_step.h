// What `inspect`, `analyze`, `profile` and `tune` are asked to look at: a model, what a run would train of it, and the
// program of that.
#pragma once

#include <string>
#include <vector>

#include "experiments/train/options.h"

namespace surtsey::experiments::commands {

struct RequestedStep {
  Model model;
  TrainConfig train;  // without accumulation: a batch and its update
  graph::Program program;
  graph::CompileOptions compile;
};

// program: "train" (train_step()) or "forward" (forward_program()); config: a TOML file or a checkpoint's config.json,
// or empty; keys as in `surtsey train`, and `members`, which is `members` unless it is given. UserError for another
// program, fewer than one member, or a wrong key.
RequestedStep requested_step(const std::string& program, int64_t members, const std::string& config,
                             const std::vector<std::string>& keys);

}  // namespace surtsey::experiments::commands
