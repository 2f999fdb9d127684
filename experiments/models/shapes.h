// Models that are known by name: their shapes, not their weights.
#pragma once

#include "experiments/models/model_config.h"

#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

// Sets what a name says of a model and leaves the rest:
//   d1, d2 .. d1000   the size dial: d12 is 12 layers, 64 x 12 = 768 wide, 12 heads (GPT-2's smallest); dN likewise
//   GPT-2-124M, SmolLM2-135M, Qwen2.5-0.5B, TinyLlama-1.1B, in any case of letters: every key of the published model,
//                     its context as block_size
// UserError for any other text.
void apply_shape(ModelConfig& config, std::string_view name);

// The published ones.
std::vector<std::string> shape_names();

}  // namespace surtsey::experiments
