// What `inspect` and `tune` are asked to compile.
#pragma once

#include <string>
#include <vector>

#include "experiments/train/step_program.h"

namespace surtsey::experiments::commands {

// What `inspect` and `tune` compile: a model, its program and how to compile it.
struct RequestedStep {
  Model model;
  graph::Program program;
  graph::CompileOptions compile;
};

// program: "train" or "forward"; config: a TOML file or a checkpoint's config.json, or empty; keys
// as in `surtsey train`. UserError for another program, fewer than one member, or a wrong key.
RequestedStep requested_step(const std::string& program, int64_t members, const std::string& config,
                             const std::vector<std::string>& keys);

}  // namespace surtsey::experiments::commands
