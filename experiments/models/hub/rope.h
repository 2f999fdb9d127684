// rope_scaling and rope_parameters of config.json.
#pragma once

#include "experiments/models/hub/config.h"
#include "experiments/models/hub/fields.h"

namespace surtsey::experiments::hub {

// Of a configuration whose heads are head_dim wide. UserError: a type that is not supported (named, with those that
// are), a parameter of another type, missing or impossible, lists of another length.
RopeConfig parse_rope(const Fields& config, int64_t head_dim);

// Adds the keys that parse_rope() reads back to the same.
void add_rope(nlohmann::json& config, const RopeConfig& rope);

}  // namespace surtsey::experiments::hub
