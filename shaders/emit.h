// From kernels to GLSL: the archetypes. Variants (lane broadcast or shared tile, lane or workgroup per row) follow Target alone.
#pragma once

#include "graph/plan.h"
#include "shaders/shader.h"

#include <vector>

namespace surtsey::shaders {

// One shader per kernel of the plan, in its order. Equal kernels of different layers get equal text, so they compile once.
std::vector<Shader> emit(const graph::Plan& plan, const graph::Target& target);
// even_outputs: see Writer.
Shader emit(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target, std::vector<bool> even_outputs = {});

}  // namespace surtsey::shaders
