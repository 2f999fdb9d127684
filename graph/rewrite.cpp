#include "graph/rewrite.h"

namespace surtsey::graph {

std::vector<Value> roots(const Program& program) {
  std::vector<Value> result;
  for (const auto& [name, value] : program.outputs) result.push_back(value);
  for (const Assignment& assignment : program.graph->assignments()) {
    result.push_back(assignment.value);
  }
  return result;
}

// Operands come before users in the graph itself, so marking backwards and listing forwards is
// enough.
std::vector<uint32_t> reachable(const Graph& graph, std::span<const Value> roots) {
  std::vector<bool> marked(graph.size(), false);
  for (const Value& root : roots) {
    ensure(root.graph == &graph && root.node < graph.size(), "a root of another graph");
    marked[root.node] = true;
  }
  for (uint32_t node = graph.size(); node-- > 0;) {
    if (!marked[node]) continue;
    for (const Value& input : graph.node(node).inputs) marked[input.node] = true;
  }
  std::vector<uint32_t> result;
  for (uint32_t node = 0; node < graph.size(); ++node) {
    if (marked[node]) result.push_back(node);
  }
  return result;
}

Program rewrite(const Program& program, const RewriteRule& rule, const AssignRule& assigned) {
  const Graph& old_graph = *program.graph;
  Program result{std::make_shared<Graph>(), {}};
  Graph& graph = *result.graph;
  std::vector<Value> wanted = roots(program);
  for (const Assignment& assignment : old_graph.assignments()) {
    wanted.push_back(assignment.parameter);
  }
  std::vector<std::vector<Value>> copies(old_graph.size());
  const auto translate = [&](const Value& value) { return copies[value.node].at(value.output); };
  for (const uint32_t index : reachable(old_graph, wanted)) {
    const Node& node = old_graph.node(index);
    std::vector<Value> inputs;
    inputs.reserve(node.inputs.size());
    for (const Value& input : node.inputs) inputs.push_back(translate(input));
    graph.set_scope(old_graph.scope(index));
    std::vector<Value> results = rule(graph, node, inputs);
    if (results.empty()) {
      const Value copy = graph.add(node.op, std::move(inputs), node.attr);
      for (uint32_t output = 0; output < node.types.size(); ++output) {
        results.push_back(Value{&graph, copy.node, output});
      }
    }
    ensure(results.size() == node.types.size(), "[{}] a rewrite gave {} results for {}", definition(node.op).name,
           results.size(), node.types.size());
    copies[index] = std::move(results);
  }
  for (const Assignment& assignment : old_graph.assignments()) {
    const Value value = translate(assignment.value);
    graph.assign(translate(assignment.parameter), assigned ? assigned(assignment, value) : value);
  }
  for (const auto& [name, value] : program.outputs) {
    result.outputs.emplace_back(name, translate(value));
  }
  return result;
}

}  // namespace surtsey::graph
