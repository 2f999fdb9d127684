#include "graph/interpret.h"

#include "graph/rewrite.h"

#include <functional>
#include <optional>

namespace surtsey::graph {

namespace {

using ReadParameter = std::function<HostTensor(uint32_t node)>;
using Slots = std::vector<std::vector<std::optional<HostTensor>>>;

HostTensor elementwise(const OpDef& row, std::span<const HostTensor* const> inputs, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  const DType dtype = inputs[0]->type.dtype;
  double operands[3] = {};
  for (size_t i = 0; i < result.values.size(); ++i) {
    for (size_t k = 0; k < inputs.size(); ++k) operands[k] = inputs[k]->values[i];
    result.values[i] = row.scalar(operands, dtype);
  }
  return result;
}

std::vector<HostTensor> run(const Graph& graph, std::span<const Value> wanted, const ReadParameter& read_parameter);

std::vector<HostTensor> run_region(const Region& region, std::span<const HostTensor* const> inputs) {
  return run(*region.body, region.results, [&](uint32_t node) {
    for (size_t i = 0; i < region.parameters.size(); ++i) {
      if (region.parameters[i].node == node) return *inputs[i];
    }
    throw InternalError("region " + region.name + " reads a parameter that is no operand");
  });
}

std::vector<HostTensor> run_node(const Node& node, std::span<const HostTensor* const> inputs) {
  const OpDef& row = definition(node.op);
  if (const auto* attr = std::get_if<RegionAttr>(&node.attr)) {
    return run_region(*attr->region, inputs);
  }
  if (row.interpret) return {row.interpret(inputs, node.attr, node.types[0])};
  ensure(row.scalar != nullptr, "[{}] has no meaning", row.name);
  return {elementwise(row, inputs, node.types[0])};
}

std::vector<HostTensor> run(const Graph& graph, std::span<const Value> wanted, const ReadParameter& read_parameter) {
  const std::vector<uint32_t> order = reachable(graph, wanted);
  // Tensors are dropped after their last use; wanted ones have one use more.
  std::vector<uint32_t> uses(graph.size(), 0);
  for (const Value& value : wanted) ++uses[value.node];
  for (const uint32_t index : order) {
    for (const Value& input : graph.node(index).inputs) ++uses[input.node];
  }
  Slots slots(graph.size());
  for (const uint32_t index : order) {
    const Node& node = graph.node(index);
    std::vector<HostTensor> results;
    if (node.op == Op::parameter) {
      results.push_back(read_parameter(index));
    } else {
      std::vector<const HostTensor*> inputs;
      for (const Value& input : node.inputs) {
        inputs.push_back(&*slots[input.node].at(input.output));
      }
      results = run_node(node, inputs);
    }
    for (size_t output = 0; output < results.size(); ++output) {
      ensure(results[output].type == node.types[output], "[{}] computed {}, not {}", definition(node.op).name,
             to_string(results[output].type), to_string(node.types[output]));
      slots[index].emplace_back(std::move(results[output]));
    }
    for (const Value& input : node.inputs) {
      if (--uses[input.node] == 0) slots[input.node].clear();
    }
  }
  std::vector<HostTensor> results;
  for (const Value& value : wanted) results.push_back(*slots[value.node].at(value.output));
  return results;
}

}  // namespace

std::vector<HostTensor> evaluate(const Graph& graph, std::span<const Value> values, const State& state) {
  return run(graph, values, [&](uint32_t index) {
    const Node& node = graph.node(index);
    const std::string& name = std::get<LeafAttr>(node.attr).name;
    const auto found = state.find(name);
    check(found != state.end(), "the state has no tensor '{}'", name);
    check(found->second.type == node.types[0], "'{}' is {} in the state, {} in the program", name,
          to_string(found->second.type), to_string(node.types[0]));
    return found->second;
  });
}

std::map<std::string, HostTensor> interpret(const Program& program, State& state) {
  const Graph& graph = *program.graph;
  std::vector<HostTensor> values = evaluate(graph, roots(program), state);
  std::map<std::string, HostTensor> outputs;
  size_t next = 0;
  for (const auto& [name, value] : program.outputs) outputs[name] = values[next++];
  for (const Assignment& assignment : graph.assignments()) {
    const auto& attr = std::get<LeafAttr>(graph.node(assignment.parameter).attr);
    state[attr.name] = std::move(values[next++]);
  }
  return outputs;
}

}  // namespace surtsey::graph
