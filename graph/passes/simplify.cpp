#include "graph/passes/passes.h"

#include "graph/rewrite.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

namespace surtsey::graph {

namespace {

using Results = std::vector<Value>;
using Inputs = std::span<const Value>;

const Node& source(const Value& value) { return value.graph->node(value); }

std::optional<double> constant_value(const Value& value) {
  const Node& node = source(value);
  if (node.op != Op::constant) return std::nullopt;
  return std::get<LeafAttr>(node.attr).value;
}

bool is_constant(const Value& value, double wanted) { return constant_value(value) == wanted; }

// An elementwise op of constants is a constant. Results that are not finite stay visible as nodes.
Results fold(Graph& graph, const Node& node, Inputs in) {
  const OpDef& row = definition(node.op);
  if (row.family != Family::elementwise || row.scalar == nullptr) return {};
  double operands[3] = {};
  for (size_t i = 0; i < in.size(); ++i) {
    const auto value = constant_value(in[i]);
    if (!value) return {};
    operands[i] = *value;
  }
  const double result = row.scalar(operands, in[0].dtype());
  if (!std::isfinite(static_cast<float>(result))) return {};
  return {constant(graph, result, node.types[0])};
}

Results simplify_elementwise(Graph& graph, const Node& node, Inputs in) {
  switch (node.op) {
    case Op::add:
      if (is_constant(in[0], 0)) return {in[1]};
      if (is_constant(in[1], 0)) return {in[0]};
      break;
    case Op::sub:
      if (is_constant(in[1], 0)) return {in[0]};
      break;
    case Op::mul:
      if (is_constant(in[0], 1)) return {in[1]};
      if (is_constant(in[1], 1)) return {in[0]};
      break;
    case Op::div:
      if (is_constant(in[1], 1)) return {in[0]};
      break;
    case Op::neg:
    case Op::logical_not:
      if (source(in[0]).op == node.op) return {source(in[0]).inputs[0]};
      break;
    case Op::max:
    case Op::min:
      if (in[0] == in[1]) return {in[0]};
      break;
    case Op::logical_and:
      if (is_constant(in[0], 1)) return {in[1]};
      if (is_constant(in[1], 1) || in[0] == in[1]) return {in[0]};
      break;
    case Op::logical_or:
      if (is_constant(in[0], 0)) return {in[1]};
      if (is_constant(in[1], 0) || in[0] == in[1]) return {in[0]};
      break;
    case Op::select:
      if (const auto condition = constant_value(in[0])) return {*condition != 0 ? in[1] : in[2]};
      if (in[1] == in[2]) return {in[1]};
      break;
    case Op::cast:
      if (in[0].dtype() == node.types[0].dtype) return {in[0]};
      break;
    default:
      break;
  }
  return fold(graph, node, in);
}

Results simplify_permute(const Node& node, Value x) {
  const auto& axes = std::get<AxesAttr>(node.attr).axes;
  if (source(x).op == Op::permute) {
    const auto& inner = std::get<AxesAttr>(source(x).attr).axes;
    std::vector<int64_t> both;
    for (const int64_t axis : axes) both.push_back(inner[static_cast<size_t>(axis)]);
    return {permute(source(x).inputs[0], std::move(both))};
  }
  // Moving axes of extent 1 only is a reshape.
  int64_t last = -1;
  for (const int64_t axis : axes) {
    if (x.dim(axis) == 1) continue;
    if (axis < last) return {};
    last = axis;
  }
  return {reshape(x, node.types[0].shape)};
}

// The part of a pad or concat that a slice falls into.
Results simplify_slice(Graph& graph, const Node& node, Value x) {
  const auto& [start, stop] = std::get<SliceAttr>(node.attr);
  const Node& from = source(x);
  const auto shifted = [](const Shape& a, const Shape& b, int64_t sign) {
    Shape result = a;
    for (size_t i = 0; i < a.size(); ++i) result[i] += sign * b[i];
    return result;
  };
  if (from.op == Op::slice) {
    const Shape& offset = std::get<SliceAttr>(from.attr).start;
    return {slice(from.inputs[0], shifted(start, offset, 1), shifted(stop, offset, 1))};
  }
  if (from.op == Op::pad) {
    const auto& pad = std::get<PadAttr>(from.attr);
    const Shape& inner = from.inputs[0].shape();
    bool inside = true;
    bool outside = false;
    for (size_t i = 0; i < start.size(); ++i) {
      inside = inside && start[i] >= pad.low[i] && stop[i] <= pad.low[i] + inner[i];
      outside = outside || stop[i] <= pad.low[i] || start[i] >= pad.low[i] + inner[i];
    }
    if (inside) {
      return {slice(from.inputs[0], shifted(start, pad.low, -1), shifted(stop, pad.low, -1))};
    }
    if (outside) return {constant(graph, pad.value, node.types[0])};
  }
  if (from.op == Op::concat) {
    const auto axis = static_cast<size_t>(std::get<AxisAttr>(from.attr).axis);
    int64_t offset = 0;
    for (const Value& part : from.inputs) {
      const int64_t extent = part.shape()[axis];
      if (start[axis] >= offset && stop[axis] <= offset + extent) {
        Shape first = start;
        Shape last = stop;
        first[axis] -= offset;
        last[axis] -= offset;
        return {slice(part, std::move(first), std::move(last))};
      }
      offset += extent;
    }
  }
  return {};
}

Results simplify_movement(Graph& graph, const Node& node, Inputs in) {
  const Type& type = node.types[0];
  const Value x = in[0];
  if (node.op == Op::concat) return in.size() == 1 ? Results{x} : Results{};
  if (const auto value = constant_value(x)) {
    const auto* pad = std::get_if<PadAttr>(&node.attr);
    if (pad == nullptr || pad->value == *value) return {constant(graph, *value, type)};
    return {};
  }
  switch (node.op) {
    case Op::reshape:
      if (x.shape() == type.shape) return {x};
      if (source(x).op == Op::reshape) return {reshape(source(x).inputs[0], type.shape)};
      return {};
    case Op::broadcast:
      if (x.shape() == type.shape) return {x};
      if (source(x).op == Op::broadcast) return {broadcast(source(x).inputs[0], type.shape)};
      return {};
    case Op::permute:
      return simplify_permute(node, x);
    case Op::slice:
      if (x.shape() == type.shape) return {x};
      return simplify_slice(graph, node, x);
    case Op::pad:
      if (x.shape() == type.shape) return {x};
      return {};
    default:
      return {};
  }
}

Results simplify_reduce(Graph& graph, const Node& node, Inputs in) {
  if (in[0].shape() != node.types[0].shape) return {};  // something is reduced
  if (node.op == Op::argmax) return {constant(graph, 0, node.types[0])};
  return {in[0]};
}

Results simplify_node(Graph& graph, const Node& node, Inputs in) {
  switch (definition(node.op).family) {
    case Family::elementwise:
      return simplify_elementwise(graph, node, in);
    case Family::movement:
      return simplify_movement(graph, node, in);
    case Family::reduce:
      return simplify_reduce(graph, node, in);
    default:
      return {};
  }
}

}  // namespace

Program simplify(const Program& program) {
  // A replacement may open the way for another one further down the same chain.
  Program result = rewrite(program, simplify_node);
  for (int round = 0; round < 4; ++round) {
    const uint32_t before = result.graph->size();
    result = rewrite(result, simplify_node);
    if (result.graph->size() == before) break;
  }
  return result;
}

}  // namespace surtsey::graph
