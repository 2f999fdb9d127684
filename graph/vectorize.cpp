#include "graph/vectorize.h"

#include "graph/rewrite.h"

#include <map>

namespace surtsey::graph {

namespace {

using Results = std::vector<Value>;

bool names_parameter(const std::set<std::string>& patterns, const std::string& name) {
  for (const std::string& pattern : patterns) {
    if (pattern == name) return true;
    if (!pattern.empty() && pattern.back() == '*' &&
        name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1))) {
      return true;
    }
  }
  return false;
}

Shape with_members(const Shape& shape, int64_t members) {
  Shape result = shape;
  result.insert(result.begin(), members);
  return result;
}

// Gives a shared value the leading axis, as a view.
Value promote(Value value, int64_t members) {
  return broadcast(reshape(value, with_members(value.shape(), 1)), with_members(value.shape(), members));
}

// One operand of a node: its value in the new graph and whether it has the leading axis.
struct Operand {
  Value value;
  bool owned = false;
};

class Vectorizer {
 public:
  Vectorizer(const Program& program, int64_t members, const std::set<std::string>& per_member)
      : program_(program), members_(members) {
    const Graph& graph = *program.graph;
    owned_.assign(graph.size(), false);
    for (uint32_t index = 0; index < graph.size(); ++index) {
      const Node& node = graph.node(index);
      if (node.op == Op::parameter) {
        owned_[index] = names_parameter(per_member, std::get<LeafAttr>(node.attr).name);
      }
      for (const Value& input : node.inputs) {
        if (owned_[input.node]) owned_[index] = true;
      }
    }
  }

  bool owned(const Value& value) const { return owned_[value.node]; }

  Program run() {
    return rewrite(
        program_,
        [this](Graph& graph, const Node& node, std::span<const Value> inputs) { return rule(graph, node, inputs); },
        [this](const Assignment& assignment, Value value) {
          const bool widens = owned(assignment.parameter) && !owned(assignment.value);
          return widens ? promote(value, members_) : value;
        });
  }

 private:
  Results rule(Graph& graph, const Node& node, std::span<const Value> inputs) {
    const auto index = static_cast<size_t>(&node - &program_.graph->node(0));
    if (!owned_[index]) return {};
    std::vector<Operand> operands;
    for (size_t i = 0; i < inputs.size(); ++i) {
      operands.push_back({inputs[i], owned(node.inputs[i])});
    }
    switch (definition(node.op).family) {
      case Family::leaf:
        return parameter(graph, node);
      case Family::elementwise:
        return elementwise(graph, node, operands);
      case Family::movement:
        return movement(graph, node, operands);
      case Family::reduce:
        return reduce(graph, node, operands);
      case Family::matmul:
        return matmul(graph, node, operands);
      case Family::index:
        return indexed(graph, node, operands);
      case Family::region:
        return apply_region(node, operands);
      case Family::state:
        break;
    }
    throw InternalError(fmt::format("[vectorize] no rule for {}", definition(node.op).name));
  }

  Value promoted(const Operand& operand) const {
    return operand.owned ? operand.value : promote(operand.value, members_);
  }
  std::vector<Value> promoted(const std::vector<Operand>& operands) const {
    std::vector<Value> values;
    for (const Operand& operand : operands) values.push_back(promoted(operand));
    return values;
  }
  Type member_type(const Type& type) const { return Type{type.dtype, with_members(type.shape, members_)}; }

  Results parameter(Graph& graph, const Node& node) const {
    return {graph.parameter(std::get<LeafAttr>(node.attr).name, member_type(node.types[0]))};
  }

  Results elementwise(Graph& graph, const Node& node, const std::vector<Operand>& operands) const {
    Attr attr = node.attr;
    if (auto* typed = std::get_if<TypeAttr>(&attr)) typed->type = member_type(typed->type);
    return {graph.add(node.op, promoted(operands), std::move(attr))};
  }

  Results movement(Graph& graph, const Node& node, const std::vector<Operand>& operands) const {
    Attr attr = node.attr;
    if (auto* typed = std::get_if<TypeAttr>(&attr)) typed->type = member_type(typed->type);
    if (auto* axis = std::get_if<AxisAttr>(&attr)) ++axis->axis;
    if (auto* axes = std::get_if<AxesAttr>(&attr)) {
      for (int64_t& axis : axes->axes) ++axis;
      axes->axes.insert(axes->axes.begin(), 0);
    }
    if (auto* slice = std::get_if<SliceAttr>(&attr)) {
      slice->start.insert(slice->start.begin(), 0);
      slice->stop.insert(slice->stop.begin(), members_);
    }
    if (auto* pad = std::get_if<PadAttr>(&attr)) {
      pad->low.insert(pad->low.begin(), 0);
      pad->high.insert(pad->high.begin(), 0);
    }
    return {graph.add(node.op, promoted(operands), std::move(attr))};
  }

  Results reduce(Graph& graph, const Node& node, const std::vector<Operand>& operands) const {
    AxesAttr attr = std::get<AxesAttr>(node.attr);
    for (int64_t& axis : attr.axes) ++axis;
    return {graph.add(node.op, promoted(operands), std::move(attr))};
  }

  // A matrix that all members share meets their rows as one product: [E, M, K] @ [K, N] is [E M, K] @ [K, N].
  Results matmul(Graph& graph, const Node& node, const std::vector<Operand>& operands) const {
    const Operand& x = operands[0];
    const Operand& matrix = operands[1];
    if (!x.owned || matrix.owned || matrix.value.rank() != 2) return {graph.add(node.op, promoted(operands))};
    const Value rows = reshape(x.value, {-1, x.value.dim(-1)});
    return {reshape(graph.add(node.op, {rows, matrix.value}), with_members(node.types[0].shape, members_))};
  }

  Results indexed(Graph& graph, const Node& node, const std::vector<Operand>& operands) const {
    if (const auto* scatter = std::get_if<ScatterAttr>(&node.attr)) {
      return {graph.add(node.op, promoted(operands), ScatterAttr{scatter->rows, scatter->batch + 1})};
    }
    if (const auto* gather = std::get_if<GatherAttr>(&node.attr)) {
      return {gather_rows(operands[0], operands[1], *gather)};
    }
    const int64_t axis = std::get<AxisAttr>(node.attr).axis + 1;
    const Value x = promoted(operands[0]);
    const Value update = promoted(operands[1]);
    // One start for all, or each member its own.
    const bool each = operands[2].owned || operands[2].value.rank() > 0;
    return {slice_update(x, update, each ? promoted(operands[2]) : operands[2].value, axis)};
  }

  Value gather_rows(const Operand& x, const Operand& index, const GatherAttr& attr) const {
    // Shared rows or a shared index need no copy where the result keeps members first.
    if (x.owned && !index.owned && attr.batch == 0) {
      return gather(x.value, index.value, attr.axis + 1, 0);
    }
    if (!x.owned && attr.batch == 0 && attr.axis == 0) return gather(x.value, index.value, 0, 0);
    return gather(promoted(x), promoted(index), attr.axis + 1, attr.batch + 1);
  }

  // A region of many members is a region again, so that a kernel can still claim it.
  Results apply_region(const Node& node, const std::vector<Operand>& operands) {
    const Region& old_region = *std::get<RegionAttr>(node.attr).region;
    std::vector<bool> owned;
    std::vector<Value> values;
    for (const Operand& operand : operands) {
      owned.push_back(operand.owned);
      values.push_back(operand.value);
    }
    auto& found = regions_[{&old_region, owned}];
    if (!found) found = vectorized_region(old_region, owned);
    return region(found, std::move(values));
  }

  std::shared_ptr<const Region> vectorized_region(const Region& old_region, const std::vector<bool>& owned) const {
    Program body{old_region.body, {}};
    std::set<std::string> own_names;
    std::vector<std::string> names;
    for (size_t i = 0; i < owned.size(); ++i) {
      const Node& parameter = old_region.body->node(old_region.parameters[i]);
      names.push_back(std::get<LeafAttr>(parameter.attr).name);
      if (owned[i]) own_names.insert(names.back());
      // Keeps a parameter that no result reads.
      body.outputs.emplace_back("parameter " + names.back(), old_region.parameters[i]);
    }
    for (const Value& result : old_region.results) body.outputs.emplace_back("result", result);
    Vectorizer inner(body, members_, own_names);
    const Program copy = inner.run();
    auto result = std::make_shared<Region>();
    result->name = old_region.name;
    result->attention = old_region.attention;
    result->body = copy.graph;
    for (const std::string& name : names) {
      result->parameters.push_back(copy.graph->parameters().at(name));
    }
    for (size_t i = 0; i < old_region.results.size(); ++i) {
      const Value value = copy.outputs[names.size() + i].second;
      const bool has_members = inner.owned(old_region.results[i]);
      result->results.push_back(has_members ? value : promote(value, members_));
    }
    return result;
  }

  const Program& program_;
  int64_t members_;
  std::vector<bool> owned_;
  std::map<std::pair<const Region*, std::vector<bool>>, std::shared_ptr<const Region>> regions_;
};

}  // namespace

Program vectorize(const Program& program, int64_t members, const std::set<std::string>& per_member) {
  check(members >= 1, "[vectorize] an ensemble needs a member or more, not {}", members);
  const Graph& graph = *program.graph;
  Vectorizer vectorizer(program, members, per_member);
  for (const Assignment& assignment : graph.assignments()) {
    const bool own_target = vectorizer.owned(assignment.parameter);
    const bool own_value = vectorizer.owned(assignment.value);
    check(own_target || !own_value, "[vectorize] '{}' is shared, but the value assigned to it differs by member",
          std::get<LeafAttr>(graph.node(assignment.parameter).attr).name);
  }
  return vectorizer.run();
}

}  // namespace surtsey::graph
