// The door before a text: what prefix and prompt tuning are written as.
//
// So many virtual tokens stand before every text, at positions 0 and on; its own tokens follow them. Every query of the
// text sees them.
#pragma once

#include "graph/parameters.h"

#include <array>
#include <functional>
#include <string>

namespace surtsey::experiments {

struct VirtualTokens {
  int64_t count = 0;  // 0: none
  // One of the two. Their embeddings [count, C], before positions are added ..
  std::function<graph::Value(graph::Parameters& parameters)> embeddings = {};
  // .. or their keys and values in the attention of that name ("blocks.0.attention"), [K, count, D] each, as a cache
  // has them: keys turned already where positions are rotary.
  std::function<std::array<graph::Value, 2>(graph::Parameters& parameters, const std::string& attention)> keys = {};
};

}  // namespace surtsey::experiments
