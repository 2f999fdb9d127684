// From logits to tokens, on the device: greedy, temperature, top-k, top-p.
//
// A draw is argmax(logits + temperature * g), g = -log(-log u) with u uniform in (0, 1): the Gumbel
// trick, which picks token v with probability softmax(logits / temperature)[v]. At temperature 0 it
// is the most likely token, the first of equals. u is a pure function of (seed, stream of the row,
// step, token): the same whatever else is decoded with it.
#pragma once

#include "graph/graph.h"

namespace surtsey::experiments {

struct TokenFilter {
  int64_t top_k = 0;  // only the k most likely (and what equals the last of them); 0: all
  double top_p = 1;   // of those only the fewest, from the most likely on, whose share is >= p
                      // (nucleus sampling, Holtzman et al. 2020)
};

// UserError that names the option.
void check_filter(const TokenFilter& filter);

struct TokenDraw {
  graph::Value temperature;  // f32 []
  graph::Value seed;         // u32 []
  graph::Value step;         // u32 []: draws at different steps are independent
  graph::Value stream;       // u32 [N]: rows with different streams draw independently
};

// logits f32 [N, V] -> u32 [N, 1]. Thresholds of top-k and top-p are found by bisection, 32 passes
// over a row each: exact but for logits closer than 1e-9 of their range.
graph::Value draw_tokens(graph::Value logits, const TokenDraw& draw, const TokenFilter& filter);

}  // namespace surtsey::experiments
