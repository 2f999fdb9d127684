// One stack of blocks of a transformer: what model.cpp lays out and model_forward.cpp runs.
#pragma once

#include <string>

#include "experiments/models/model_config.h"

namespace surtsey::experiments {

struct Stack {
  std::string prefix;  // of its parameters' names
  int64_t layers = 0;
  int64_t length = 0;  // positions at most
  bool causal = false;
  bool cross = false;  // reads the other stack
};

// The decoder of an encoder_decoder, else the only one.
inline Stack main_stack(const ModelConfig& config) {
  const bool two = config.architecture == Architecture::encoder_decoder;
  return {two ? "decoder." : "", config.n_layer, config.block_size, config.architecture != Architecture::encoder, two};
}

inline Stack source_stack(const ModelConfig& config) {
  return {"encoder.", config.encoder_layers(), config.source_length(), false, false};
}

}  // namespace surtsey::experiments
