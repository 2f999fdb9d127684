#include "graph/graph.h"

#include "graph/rewrite.h"

#include <algorithm>
#include <bit>
#include <filesystem>

namespace surtsey::graph {

namespace {

void mix(size_t& hash, size_t value) { hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2); }

void mix(size_t& hash, const Shape& shape) {
  mix(hash, shape.size());
  for (const int64_t extent : shape) mix(hash, static_cast<size_t>(extent));
}

void mix(size_t& hash, const Type& type) {
  mix(hash, static_cast<size_t>(type.dtype));
  mix(hash, type.shape);
}

struct AttrHash {
  size_t& hash;
  void operator()(const NoAttr&) const {}
  void operator()(const LeafAttr& a) const {
    mix(hash, a.type);
    mix(hash, std::hash<std::string>()(a.name));
    mix(hash, std::bit_cast<uint64_t>(a.value));
    mix(hash, static_cast<size_t>(a.axis));
  }
  void operator()(const AxisAttr& a) const { mix(hash, static_cast<size_t>(a.axis)); }
  void operator()(const AxesAttr& a) const { mix(hash, a.axes); }
  void operator()(const TypeAttr& a) const { mix(hash, a.type); }
  void operator()(const SliceAttr& a) const {
    mix(hash, a.start);
    mix(hash, a.stop);
  }
  void operator()(const PadAttr& a) const {
    mix(hash, a.low);
    mix(hash, a.high);
    mix(hash, std::bit_cast<uint64_t>(a.value));
  }
  void operator()(const GatherAttr& a) const {
    mix(hash, static_cast<size_t>(a.axis));
    mix(hash, static_cast<size_t>(a.batch));
  }
  void operator()(const ScatterAttr& a) const {
    mix(hash, static_cast<size_t>(a.rows));
    mix(hash, static_cast<size_t>(a.batch));
  }
  void operator()(const RegionAttr& a) const { mix(hash, std::hash<const void*>()(a.region.get())); }
};

size_t node_hash(Op op, const std::vector<Value>& inputs, const Attr& attr) {
  size_t hash = static_cast<size_t>(op);
  for (const Value& input : inputs) {
    mix(hash, input.node);
    mix(hash, input.output);
  }
  mix(hash, attr.index());
  std::visit(AttrHash{hash}, attr);
  return hash;
}

// Distinguishes -0 from 0, so that 1 / x keeps its sign.
bool same_attr(const Attr& a, const Attr& b) {
  if (!(a == b)) return false;
  const auto* left = std::get_if<LeafAttr>(&a);
  return left == nullptr ||
         std::bit_cast<uint64_t>(left->value) == std::bit_cast<uint64_t>(std::get<LeafAttr>(b).value);
}

}  // namespace

const Type& Value::type() const {
  ensure(graph != nullptr, "the type of an empty value");
  return graph->node(node).types[output];
}

int64_t Value::dim(int64_t axis) const {
  const int64_t at = axis < 0 ? axis + rank() : axis;
  check(at >= 0 && at < rank(), "axis {} of {}", axis, to_string(type()));
  return shape()[static_cast<size_t>(at)];
}

const char* name(Phase phase) {
  constexpr const char* kNames[] = {"forward", "backward", "optimizer"};
  return kNames[size_t(phase)];
}

Graph::Graph() : scopes_{Scope{}}, scope_stack_{0} {}

Value Graph::add(Op op, std::vector<Value> inputs, Attr attr) {
  const OpDef& row = definition(op);
  // Blames the caller: which op, and where in the model it was called.
  const auto complain = [&](std::string_view message) {
    const Scope& scope = scopes_[scope_stack_.back()];
    std::string text;
    if (message.empty() || message.front() != '[') text = fmt::format("[{}] ", row.name);
    text += message;
    if (!scope.path.empty()) {
      text += fmt::format(" (in {}, {}:{})", scope.path, scope.file, scope.line);
    }
    throw UserError(text);
  };
  if (op == Op::assign) complain("use Graph::assign");
  if (row.arity >= 0 && static_cast<size_t>(row.arity) != inputs.size()) {
    complain(fmt::format("takes {} operands, not {}", row.arity, inputs.size()));
  }
  std::vector<Type> input_types;
  input_types.reserve(inputs.size());
  for (const Value& input : inputs) {
    if (!input) complain("an operand is an empty value");
    if (input.graph != this) complain("an operand belongs to another graph");
    ensure(input.node < nodes_.size() && input.output < nodes_[input.node].types.size(),
           "[{}] operand %{}.{} does not exist", row.name, input.node, input.output);
    input_types.push_back(input.type());
  }
  if (auto* leaf = std::get_if<LeafAttr>(&attr); leaf && op == Op::constant) {
    // What a device would hold: the same number everywhere.
    if (leaf->type.dtype == DType::f32) leaf->value = static_cast<float>(leaf->value);
  }
  if (auto* pad = std::get_if<PadAttr>(&attr); pad && !inputs.empty()) {
    if (inputs[0] && inputs[0].dtype() == DType::f32) pad->value = static_cast<float>(pad->value);
  }
  const size_t hash = node_hash(op, inputs, attr);
  const auto [first, last] = index_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const Node& found = nodes_[it->second];
    if (found.op == op && found.inputs == inputs && same_attr(found.attr, attr)) {
      return Value{this, it->second, 0};
    }
  }
  std::vector<Type> types;
  try {
    types = row.infer(input_types, attr);
    for (const Type& type : types) {
      for (const int64_t extent : type.shape) {
        check(extent >= 1, "the result would be {}: extents must be at least 1", to_string(type));
      }
      (void)element_count(type.shape);  // throws where that does not fit
    }
  } catch (const UserError& error) {
    complain(error.what());
  }
  const auto index = static_cast<uint32_t>(nodes_.size());
  const Value result{this, index, 0};
  if (op == Op::parameter) {
    const auto& leaf = std::get<LeafAttr>(attr);
    const auto [it, is_new] = parameters_.emplace(leaf.name, result);
    if (!is_new) {
      complain(
          fmt::format("'{}' is {} already, not {}", leaf.name, to_string(it->second.type()), to_string(leaf.type)));
    }
  }
  index_.emplace(hash, index);
  nodes_.push_back(Node{op, std::move(inputs), std::move(attr), std::move(types), scope_stack_.back()});
  return result;
}

Value Graph::parameter(std::string name, Type type) {
  return add(Op::parameter, {}, LeafAttr{std::move(type), std::move(name)});
}

void Graph::assign(Value parameter, Value value) {
  check(parameter.graph == this && value.graph == this, "[assign] a value of another graph");
  const Node& target = node(parameter);
  check(target.op == Op::parameter, "[assign] the target is a {}, not a parameter", definition(target.op).name);
  const std::string& name = std::get<LeafAttr>(target.attr).name;
  check(parameter.type() == value.type(), "[assign] '{}' is {}, the value {}", name, to_string(parameter.type()),
        to_string(value.type()));
  for (const Assignment& assignment : assignments_) {
    check(!(assignment.parameter == parameter), "[assign] '{}' is assigned twice", name);
  }
  assignments_.push_back({parameter, value});
}

void Graph::push_scope(std::string_view name, std::source_location where, std::optional<Phase> phase) {
  const Scope& parent = scopes_[scope_stack_.back()];
  const Scope scope{parent.path.empty() ? std::string(name) : fmt::format("{}.{}", parent.path, name),
                    std::filesystem::path(where.file_name()).filename().string(), where.line(),
                    phase.value_or(parent.phase)};
  scope_stack_.push_back(scope_stack_.back());
  set_scope(scope);
}

void Graph::pop_scope() {
  ensure(scope_stack_.size() > 1, "pop_scope without push_scope");
  scope_stack_.pop_back();
}

void Graph::set_scope(const Scope& scope) {
  if (scopes_[scope_stack_.back()] == scope) return;
  const auto found = std::find(scopes_.rbegin(), scopes_.rend(), scope);
  if (found != scopes_.rend()) {
    scope_stack_.back() = static_cast<uint32_t>(scopes_.rend() - found - 1);
    return;
  }
  scope_stack_.back() = static_cast<uint32_t>(scopes_.size());
  scopes_.push_back(Scope(scope));
}

std::vector<Value> region(std::shared_ptr<const Region> region, std::vector<Value> inputs) {
  check(!inputs.empty(), "[region] needs an operand");
  Graph& graph = *inputs.front().graph;
  const Value first = graph.add(Op::region, std::move(inputs), RegionAttr{std::move(region)});
  std::vector<Value> results;
  for (uint32_t output = 0; output < graph.node(first).types.size(); ++output) {
    results.push_back(Value{&graph, first.node, output});
  }
  return results;
}

std::vector<Value> inline_region(Graph& graph, const Region& region, std::span<const Value> inputs) {
  ensure(inputs.size() == region.parameters.size(), "region {} takes {} operands, not {}", region.name,
         region.parameters.size(), inputs.size());
  std::map<uint32_t, uint32_t> copies;
  const auto translate = [&](const Value& value) -> Value {
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (region.parameters[i] == value) return inputs[i];
    }
    return Value{&graph, copies.at(value.node), value.output};
  };
  for (const uint32_t index : reachable(*region.body, region.results)) {
    const Node& node = region.body->node(index);
    if (node.op == Op::parameter) continue;
    std::vector<Value> operands;
    for (const Value& input : node.inputs) operands.push_back(translate(input));
    copies[index] = graph.add(node.op, std::move(operands), node.attr).node;
  }
  std::vector<Value> results;
  for (const Value& result : region.results) results.push_back(translate(result));
  return results;
}

}  // namespace surtsey::graph
