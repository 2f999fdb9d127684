#include "graph/passes/passes.h"

#include "graph/rewrite.h"

namespace surtsey::graph {

namespace {

// The value that a chain of movements only rearranges.
Value origin(Value value) {
  for (;;) {
    const Node& node = value.graph->node(value);
    const bool moves = definition(node.op).family == Family::movement && node.inputs.size() == 1;
    if (!moves) return value;
    value = node.inputs[0];
  }
}

}  // namespace

Program lower_precision(const Program& program, Storage storage) {
  if (storage == Storage::f32) return program;
  const DType narrow = storage == Storage::f16 ? DType::f16 : DType::bf16;
  const Graph& old_graph = *program.graph;
  std::vector<bool> stored_narrow(old_graph.size(), false);
  for (const uint32_t index : reachable(old_graph, roots(program))) {
    if (old_graph.node(index).op != Op::matmul) continue;
    for (const Value& operand : old_graph.node(index).inputs) {
      const Value value = origin(operand);
      if (definition(old_graph.node(value).op).family == Family::leaf) continue;
      if (value.dtype() == DType::f32) stored_narrow[value.node] = true;
    }
  }
  // What is assigned or handed out keeps its precision, whoever else reads it.
  for (const Value& root : roots(program)) stored_narrow[origin(root).node] = false;
  return rewrite(
      program,
      [&](Graph& graph, const Node& node, std::span<const Value> inputs) -> std::vector<Value> {
        const auto index = static_cast<size_t>(&node - &old_graph.node(0));
        if (!stored_narrow[index]) return {};
        const Value wide = graph.add(node.op, {inputs.begin(), inputs.end()}, node.attr);
        return {cast(cast(wide, narrow), DType::f32)};
      });
}

}  // namespace surtsey::graph
