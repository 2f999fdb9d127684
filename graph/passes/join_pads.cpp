#include "graph/passes/passes.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <map>
#include <optional>

namespace surtsey::graph {
namespace {

struct Piece {
  Value value;
  int64_t begin, end;
};

// The one axis along which a zero pad places its operand; none when it is another kind of pad.
std::optional<size_t> placed_axis(const Node& node) {
  const auto& attr = std::get<PadAttr>(node.attr);
  std::optional<size_t> axis;
  if (attr.value != 0) return std::nullopt;
  for (size_t d = 0; d < attr.low.size(); ++d) {
    if (attr.low[d] == 0 && attr.high[d] == 0) continue;
    if (axis) return std::nullopt;
    axis = d;
  }
  return axis;
}

// The operands of a tree of additions whose inner nodes nobody else reads.
void addends(const Graph& graph, const Value& value, const std::vector<int>& uses, bool root,
             std::vector<Value>& found) {
  const Node& node = graph.node(value);
  if (node.op == Op::add && (root || uses[value.node] == 1)) {
    for (const Value& input : node.inputs) addends(graph, input, uses, false, found);
  } else {
    found.push_back(value);
  }
}

}  // namespace

Program join_pads(const Program& program) {
  const Graph& old = *program.graph;
  std::vector<int> uses(old.size(), 0);
  const std::vector<uint32_t> nodes = reachable(old, roots(program));
  for (const uint32_t n : nodes)
    for (const Value& input : old.node(n).inputs) ++uses[input.node];
  for (const Value& root : roots(program)) ++uses[root.node];

  // Which additions become which concat, on the old graph; inner additions of a tree that is replaced are left to die.
  std::map<const Node*, std::pair<size_t, std::vector<Piece>>> replaced;
  for (const uint32_t n : nodes) {
    if (old.node(n).op != Op::add) continue;
    std::vector<Value> parts;
    addends(old, {program.graph.get(), n, 0}, uses, true, parts);
    std::optional<size_t> axis;
    std::vector<Piece> pieces;
    for (const Value& part : parts) {
      const Node& pad = old.node(part);
      if (pad.op != Op::pad) break;
      const std::optional<size_t> at = placed_axis(pad);
      if (!at || (axis && *axis != *at)) break;
      axis = at;
      const int64_t low = std::get<PadAttr>(pad.attr).low[*at];
      pieces.push_back({pad.inputs[0], low, low + pad.inputs[0].shape()[*at]});
    }
    if (pieces.size() != parts.size()) continue;
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
    int64_t reached = 0;
    for (const Piece& piece : pieces) reached = piece.begin == reached ? piece.end : -1;
    if (reached == old.node(n).types[0].shape[*axis]) replaced[&old.node(n)] = {*axis, pieces};
  }
  if (replaced.empty()) return program;

  // Old values that pieces name, in the new graph.
  std::map<const Node*, Value> renamed;
  return rewrite(program, [&](Graph& graph, const Node& node, std::span<const Value> inputs) -> std::vector<Value> {
    const auto found = replaced.find(&node);
    if (found == replaced.end()) {
      const Value copy = graph.add(node.op, {inputs.begin(), inputs.end()}, node.attr);
      renamed[&node] = copy;
      std::vector<Value> results;
      for (uint32_t i = 0; i < node.types.size(); ++i) results.push_back({copy.graph, copy.node, i});
      return results;
    }
    std::vector<Value> parts;
    for (const Piece& piece : found->second.second) parts.push_back(renamed.at(&old.node(piece.value)));
    const Value joined = concat(parts, int64_t(found->second.first));
    renamed[&node] = joined;
    return {joined};
  });
}

}  // namespace surtsey::graph
