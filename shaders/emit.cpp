#include "shaders/emit.h"

#include "graph/debug.h"
#include "shaders/archetypes.h"

namespace surtsey::shaders {

using namespace graph;

Shader pointwise(Writer& writer) {
  const LoopIndex loop = loop_index(writer.context, Archetype::pointwise, writer.kernel().space, {});
  // Small workgroups on a CPU, so that both cores get a share of small tensors.
  const int64_t wanted = writer.target().cpu ? 64 : 256;
  const int64_t local = std::min<int64_t>({wanted, writer.target().max_workgroup_invocations, 8 * divide_up(loop.full_count, 8)});
  writer.define(loop.first, fmt::format("group * {}u + gl_LocalInvocationID.x", local));
  if (loop.first.is_constant()) {
    writer.line("if (group * " + fmt::format("{}u", local) + " + gl_LocalInvocationID.x > 0u) return;");
  } else if (loop.full_count % local != 0) {
    writer.line(fmt::format("if (i >= {}u) return;", loop.full_count));
  }
  writer.store(loop.full, writer.all_outputs());
  return writer.finish(uint32_t(divide_up(loop.full_count, local)), uint32_t(local));
}

Shader emit(const Kernel& kernel, const Graph& graph, const Target& target) {
  Writer writer(kernel, graph, target);
  switch (kernel.archetype) {
    case Archetype::pointwise: return pointwise(writer);
    case Archetype::reduce:
      return target.reduce_variant() == ReduceVariant::lane_per_row ? reduce_lane_per_row(writer) : reduce_workgroup_per_row(writer);
    case Archetype::matmul:
      return target.matmul_variant() == MatmulVariant::lane_broadcast ? matmul_lane_broadcast(writer) : matmul_shared_tile(writer);
  }
  ensure(false, "unknown archetype");
  return {};
}

std::vector<Shader> emit(const Plan& plan, const Target& target) {
  std::vector<Shader> shaders;
  for (size_t k = 0; k < plan.kernels.size(); ++k) {
    shaders.push_back(emit(plan.kernels[k], *plan.program.graph, target));
    const Shader& shader = shaders.back();
    dump(fmt::format("{}.{:03}.{}.comp", plan.name, k, shader.name), shader.glsl);
    if (debug_level() >= 4) fmt::print(stderr, "---- {} {} x {}\n{}", shader.name, shader.workgroups, shader.local_size, shader.glsl);
  }
  return shaders;
}

}  // namespace surtsey::shaders
