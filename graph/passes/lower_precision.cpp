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
    const Op op = old_graph.node(index).op;
    if (op != Op::matmul && op != Op::region) continue;
    for (const Value& operand : old_graph.node(index).inputs) {
      // Rows of claimed attention (lse, delta) and what it stores keep their precision.
      if (op == Op::region && (operand.rank() < 4 || operand.dim(-1) == 1)) continue;
      const Value value = origin(operand);
      const Family family = definition(old_graph.node(value).op).family;
      if (family == Family::leaf || family == Family::region) continue;
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
