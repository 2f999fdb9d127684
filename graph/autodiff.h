// Reverse-mode differentiation, from the gradient column of the op table.
#pragma once

#include "graph/graph.h"

namespace surtsey::graph {

// Adds the backward graph of a scalar-seeded loss. `coefficient` is the gradient of `loss` itself (same type; 1 when
// empty).
// Returns d loss / d w for each w (zeros where the loss does not depend on it). Intermediate values may be asked for
// too: the gradient with respect to them treats them as independent variables. Regions use their own gradient where
// they have one, else their body is inlined and differentiated (hash-consing merges it with the forward copy when the
// region is decomposed).
// Nodes of the backward graph take the scope of the forward node they belong to, and Phase::backward.
std::vector<Value> differentiate(Value loss, std::span<const Value> wrt, Value coefficient = {});

}  // namespace surtsey::graph
