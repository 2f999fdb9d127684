// GGUF's keys and names of the families that it has: llama (mistral), qwen2, qwen3, gpt2.
#pragma once

#include "experiments/formats/gguf.h"
#include "experiments/models/hub/layout.h"

namespace surtsey::experiments::hub {

// What the keys say, and whether tensors of biases and of an own head are there. Rope factors that stand in tensors
// (rope_freqs, rope_factors_*) become those of a longrope: frequencies divided by them, whatever the length. UserError
// beginning with `where`: an architecture or a key's value that is not supported, by name; a key that is missing.
Config gguf_config(const Gguf& file, const std::string& where);

// The table of names. The llama architecture has the rows of q and k interleaved.
Layout gguf_layout(const Config& config);
// Tensors that gguf_config() has read.
bool is_gguf_constant(const std::string& name);

// And back: the keys of a configuration (tokenizer apart), and its rope factors (empty where it has none). UserError
// for what GGUF cannot say.
GgufMetadata gguf_metadata(const Config& config);
struct RopeFactors {
  std::string name;
  std::vector<float> factors;
};
std::vector<RopeFactors> gguf_rope_factors(const Config& config);

}  // namespace surtsey::experiments::hub
