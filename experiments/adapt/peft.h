// The two files of an adapter, as PEFT has them: adapter_config.json and adapter_model.safetensors.
//
// What PEFT has no type for has a peft_type of ours: FULL, PARTIAL, ADAPTERS, BITFIT, HEAD.
#pragma once

#include "experiments/adapt/adapt_config.h"
#include "graph/interpret.h"

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

inline constexpr const char* kAdapterConfig = "adapter_config.json";
inline constexpr const char* kAdapterTensors = "adapter_model.safetensors";
// The one tensor of a prompt or a prefix.
inline constexpr std::string_view kPromptEmbeddings = "prompt_embeddings";

// Of the base, what the configuration says beside the keys.
struct AdaptedBase {
  std::string name;  // base_model_name_or_path
  int64_t layers = 0, key_heads = 0, head_width = 0, width = 0;
  bool transposed = false;                // its matrices are [in, out]: fan_in_fan_out
  std::vector<std::string> modules;       // that are changed, by their shortest names
  std::vector<std::string> feed_forward;  // of them, those whose input is scaled
  std::vector<std::string> whole;         // modules_to_save: "score" or "classifier", and perhaps "pooler"
};

nlohmann::ordered_json peft_config(const AdaptConfig& config, const AdaptedBase& base);
// UserError beginning with `where`: another peft_type, an option that would change what is computed and is not
// supported, by name. What stands in the tensors (modules, labels) is not read here.
AdaptConfig parse_peft_config(std::string_view text, const std::string& where);

// Tensors by their names without "base_model.model.", as f32. UserError: a type that is no weight, by name.
graph::State read_adapter_tensors(const std::filesystem::path& file);
// Both files, each whole; the folder is made where there is none.
void write_adapter(const std::filesystem::path& folder, const nlohmann::ordered_json& config,
                   const graph::State& tensors);

}  // namespace surtsey::experiments
