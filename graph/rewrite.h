// Copying a program node by node with a rule: the way every pass is written.
#pragma once

#include "graph/graph.h"

#include <functional>

namespace surtsey::graph {

// Rebuilds `program` in a fresh graph, operands first, only what outputs and assignments reach. `rule(graph, node,
// inputs)` gets the old node and its operands in the new graph and returns its results there; an empty result means:
// copy the node as it is.
using RewriteRule = std::function<std::vector<Value>(Graph& graph, const Node& node, std::span<const Value> inputs)>;
// Where given, `assigned(assignment, value)` gets an old assignment and its new value and returns what is assigned.
using AssignRule = std::function<Value(const Assignment& assignment, Value value)>;
Program rewrite(const Program& program, const RewriteRule& rule, const AssignRule& assigned = {});

// Indices of the nodes that `roots` reach, operands before users.
std::vector<uint32_t> reachable(const Graph& graph, std::span<const Value> roots);
// The values that must be computed: outputs and assigned values.
std::vector<Value> roots(const Program& program);

}  // namespace surtsey::graph
