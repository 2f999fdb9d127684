// From kernels to GLSL: the archetypes. Variants (lane broadcast or shared tile, lane or workgroup per row) follow
// Target alone.
#pragma once

#include "graph/plan.h"
#include "shaders/shader.h"

#include <vector>

namespace surtsey::shaders {

// One shader per kernel of the plan, in its order. Equal kernels of different layers get equal text, so they compile
// once. A choice of the target's tables that is of one kernel alone applies to that one, before those of any kernel of
// its shape.
std::vector<Shader> emit(const graph::Plan& plan, const graph::Target& target);
// alignment: see Writer.
Shader emit(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target,
            std::vector<uint32_t> alignment = {});

// What tells a kernel, with all that is fused into it, from others: a hash of the text it gets without any measured
// choice. Never 0.
uint64_t kernel_hash(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target,
                     const std::vector<uint32_t>& alignment = {});
std::vector<uint64_t> kernel_hashes(const graph::Plan& plan, const graph::Target& target);  // of each kernel

}  // namespace surtsey::shaders
