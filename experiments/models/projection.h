// The door of every matrix of a model: what an adapter or a weight of another kind is written as.
//
//   model.on_projection([](const Projection& p) -> graph::Value {
//     if (!p.name.ends_with("attention.q")) return {};  // as it is
//     return p.plain() + low_rank(p.parameters, p.name, p.x);
//   });
//
// The matrices are all that activations are multiplied with: q, k, v, out, up, gate and down of every block, the input
// layer of a model that reads vectors, and the head.
#pragma once

#include "graph/parameters.h"

#include <functional>
#include <string>

namespace surtsey::experiments {

struct Projection {
  graph::Parameters& parameters;
  std::string name;    // of the matrix: "blocks.0.attention.q", "embed.input", "head"
  std::string weight;  // its parameter [out, in]: NAME.weight, or embed.token of a tied head and embed.input itself
  std::string bias;    // its parameter [out]; empty: it has none
  graph::Value x;      // [.., in]
  // x weight^T + bias, [.., out], or what the hooks before this one make of it; of any x [.., in].
  std::function<graph::Value(graph::Value x)> of;
  // Of a pass with dropout, u32 [] each; empty otherwise.
  graph::Value seed = {}, step = {};
  // u32 [] or [B]: which of several adapters each text has (ForwardOptions::adapter); may be empty.
  graph::Value adapter = {};

  graph::Value plain() const { return of(x); }
};

// Returns [.., out], or an empty value for a matrix that it leaves as it is: only such matrices are multiplied together
// (q, k and v as one product).
using ProjectionHook = std::function<graph::Value(const Projection& projection)>;

}  // namespace surtsey::experiments
