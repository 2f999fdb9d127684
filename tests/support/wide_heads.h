// Models of random weights in Hugging Face's form whose heads a cache in groups of 32 numbers can hold.
#pragma once

#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/layout.h"
#include "experiments/models/hub/source.h"
#include "tests/support/folder.h"
#include "tests/support/tensors.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <memory>

namespace surtsey::tests {

// The model of a config.json with weights in [-scale, scale), in `folder`.
inline std::unique_ptr<experiments::hub::Source> random_model(const std::filesystem::path& folder,
                                                              const nlohmann::json& config, double scale) {
  experiments::Safetensors content;
  for (const experiments::hub::TensorRow& row :
       experiments::hub::hugging_face_layout(experiments::hub::parse_config(config, "a test")))
    content.tensors[row.file_name] = graph::HostTensor::random({graph::DType::f32, row.file_shape()}, -scale, scale,
                                                               uint32_t(content.tensors.size()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << config.dump();
  write_tensors(folder / "model.safetensors", content);
  return experiments::hub::open_model(folder);
}

// Mistral of 61 tokens: four heads of 32 over two of keys, which see `window` tokens.
inline std::unique_ptr<experiments::hub::Source> wide_heads(const std::filesystem::path& folder, int64_t window = 2048,
                                                            int64_t head_dim = 32) {
  return random_model(folder,
                      {{"model_type", "mistral"},
                       {"architectures", {"MistralForCausalLM"}},
                       {"hidden_size", 48},
                       {"intermediate_size", 64},
                       {"num_hidden_layers", 2},
                       {"num_attention_heads", 4},
                       {"num_key_value_heads", 2},
                       {"head_dim", head_dim},
                       {"hidden_act", "silu"},
                       {"max_position_embeddings", 2048},
                       {"rms_norm_eps", 1e-5},
                       {"rope_theta", 10000.0},
                       {"sliding_window", window},
                       {"tie_word_embeddings", false},
                       {"vocab_size", 61}},
                      .4);
}

}  // namespace surtsey::tests
