// The double interpreter: the living definition of the ops and the oracle of every test.
#pragma once

#include "graph/graph.h"

#include <map>
#include <string>

namespace surtsey::graph {

using State = std::map<std::string, HostTensor>;  // by parameter name

// Runs a program once on the CPU: floats in double (rounded to the storage type only at casts to f16 and bf16),
// integers as 32-bit integers. Reads parameters from `state` (UserError when one is missing or has another type),
// applies the assignments to it at the end, returns the outputs by name.
std::map<std::string, HostTensor> interpret(const Program& program, State& state);

// The values of some graph values, without applying assignments.
std::vector<HostTensor> evaluate(const Graph& graph, std::span<const Value> values, const State& state);

}  // namespace surtsey::graph
