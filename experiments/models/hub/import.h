// A model of ours made of a model that others trained.
#pragma once

#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"

#include <functional>

namespace surtsey::experiments::hub {

// Parameters whose names begin so are an adapter's, not the model's: read_weights() passes them over.
inline constexpr const char* kAdapterPrefix = "adapter.";

// How long texts may be, in tokens; 0: what the model was made for, at most 2048 unless its positions are learned.
struct ContextLength {
  int64_t tokens = 0;
  int64_t source = 0;  // of an encoder-decoder's source
};

// What our graph makes of a configuration. UserError, beginning with the path, for what it cannot be: a head of another
// kind, windows that differ from layer to layer, more positions than the model has learned.
ModelConfig model_config(const Source& source, const ContextLength& length = {});

// The source's name for a parameter of such a model ("blocks.3.norm1.weight": "layers.3.norm1.weight").
std::string source_name(const ModelConfig& config, std::string_view parameter);

// What is frozen of a model's state, tensor by tensor, as its storage keeps it; an adapter's apart.
void read_frozen(const Source& source, const Model& model,
                 const std::function<void(const std::string& state, std::span<const std::byte> bytes)>& write);

// The model's state, tensor by tensor, as it is to be written into a session: what trains as one "parameters", each
// frozen tensor as its storage keeps it (bytes for Session::write_bytes()). One tensor of the file is in memory at a
// time, all of those that train are.
void read_weights(const Source& source, const Model& model,
                  const std::function<void(const std::string& state, std::span<const std::byte> bytes)>& write);

}  // namespace surtsey::experiments::hub
