// What keys and values are kept in between tokens, by name:
//   f32    as they are computed
//   f16    half of that; a number above 65,504 becomes infinite
//   q8_0   whole numbers of 8 bits and a scale for 32 of them (models/hub/stored_weights.h): 1.06 quarters
#pragma once

#include "experiments/models/model_config.h"
#include "graph/storage.h"
#include "graph/target.h"

#include <string_view>

namespace surtsey::experiments {

// For Model::keep_cache_as(). UserError: another name, heads that q8_0 cannot keep, a device that stores no 16 bits.
graph::Storage cache_storage(std::string_view name, const ModelConfig& config, const graph::Target& target);

}  // namespace surtsey::experiments
