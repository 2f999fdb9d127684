// A checkpoint of ours in the names of a family that others have.
#pragma once

#include "experiments/models/hub/source.h"
#include "experiments/models/model_config.h"

#include <nlohmann/json_fwd.hpp>

namespace surtsey::experiments::hub {

// The format of a checkpoint as its config.json names it.
inline constexpr const char* kCheckpointFormat = "surtsey-checkpoint-1";

// Whether a folder's config.json is that of a checkpoint (train/checkpoint.h).
bool is_own_config(const nlohmann::json& config);

// The family that computes the same: GPT-2 (learned positions, LayerNorm, gelu or gelu_tanh) or LLaMA (rotary
// positions, RMSNorm without bias, swiglu; with a window Mistral, with biases of q, k and v alone Qwen2). Biases that
// the family has and the model does not are zeros. UserError: what neither can say, by its key.
Config config_of(const ModelConfig& model);

// Opens one save: `config` is its config.json, read already. `path` as it was given to open_model().
std::unique_ptr<Source> open_own(const std::filesystem::path& path, const std::filesystem::path& folder,
                                 const nlohmann::json& config);

}  // namespace surtsey::experiments::hub
