// The verifier: run after each pass. Every rule it states is one that later stages rely on.
#pragma once

#include "graph/graph.h"

namespace surtsey::graph {

// InternalError, with the node printed, when: an operand comes later than its user or does not exist; a node's types
// differ from what its definition infers; an attribute is of the wrong kind; a value belongs to another graph; an
// assignment's types differ.
void verify(const Graph& graph);

}  // namespace surtsey::graph
