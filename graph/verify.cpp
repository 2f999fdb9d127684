#include "graph/verify.h"

#include "graph/text.h"

namespace surtsey::graph {

namespace {

void verify_node(const Graph& graph, uint32_t index) {
  const Node& node = graph.node(index);
  const OpDef& row = definition(node.op);
  const auto require = [&](bool condition, std::string_view what) {
    ensure(condition, "node %{} [{}]: {}", index, row.name, what);
  };
  require(row.arity < 0 || static_cast<size_t>(row.arity) == node.inputs.size(), "wrong number of operands");
  require(!node.types.empty(), "no result");
  require(node.scope < graph.scopes().size(), "unknown scope");
  std::vector<Type> input_types;
  for (const Value& input : node.inputs) {
    require(input.graph == &graph, "an operand belongs to another graph");
    require(input.node < index, "an operand comes later than its user");
    require(input.output < graph.node(input.node).types.size(), "an operand does not exist");
    input_types.push_back(input.type());
  }
  std::vector<Type> inferred;
  try {
    inferred = row.infer(input_types, node.attr);
  } catch (const UserError& error) {
    ensure(false, "{}\n  {}", error.what(), print_node(graph, index));
  }
  ensure(inferred == node.types, "the types differ from what [{}] infers\n  {}", row.name, print_node(graph, index));
}

}  // namespace

void verify(const Graph& graph) {
  for (uint32_t index = 0; index < graph.size(); ++index) verify_node(graph, index);
  for (const auto& [name, value] : graph.parameters()) {
    ensure(value.graph == &graph && value.node < graph.size() && graph.node(value).op == Op::parameter,
           "'{}' is registered as a parameter but is none", name);
  }
  for (const Assignment& assignment : graph.assignments()) {
    ensure(assignment.parameter.graph == &graph && assignment.value.graph == &graph &&
               assignment.parameter.node < graph.size() && assignment.value.node < graph.size(),
           "an assignment refers to another graph");
    ensure(
        graph.node(assignment.parameter).op == Op::parameter && assignment.parameter.type() == assignment.value.type(),
        "an assignment of {} to\n  {}", to_string(assignment.value.type()),
        print_node(graph, assignment.parameter.node));
  }
}

}  // namespace surtsey::graph
