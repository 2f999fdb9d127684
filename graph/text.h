// The text form of a graph: prints and parses, so a pass test is two pieces of text and the printer is the debugger.
//
//     %0 = parameter "weight" : f32[8,64]
//     %1 = constant 0.5 : f32[8,64]
//     %2 = mul %0 %1 : f32[8,64]                    @blocks.0.mlp model.cpp:41
//     %3 = sum %2 axes=[0] : f32[1,64]              @blocks.0.mlp model.cpp:41 backward
//     assign %0 %2
//     output "y" %3
#pragma once

#include "graph/graph.h"

#include <string>
#include <string_view>

namespace surtsey::graph {

// Prints the nodes that outputs and assignments reach (all of them with `everything`), renumbered from 0.
std::string print(const Program& program, bool everything = false);
std::string print_node(const Graph& graph, uint32_t node);
// Parses what print() wrote (regions excepted). UserError with line and column.
Program parse(std::string_view text);

}  // namespace surtsey::graph
