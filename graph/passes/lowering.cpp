// Questions about groups, and the few changes to them that several passes make.
#include "graph/passes/lowering.h"

#include <algorithm>

namespace surtsey::graph {

namespace {

// Each node once: an expression is a graph, and one that uses its parts twice (a search by halves, a power by squares)
// has as many paths as 2 to the number of its levels.
void collect(const Lowering& lowering, std::vector<uint32_t> open, std::set<uint32_t>& found) {
  const Graph& graph = *lowering.program.graph;
  std::vector<bool> seen(graph.size(), false);
  while (!open.empty()) {
    const uint32_t n = open.back();
    open.pop_back();
    if (seen[n]) continue;
    seen[n] = true;
    if (is_terminal(lowering, n)) {
      found.insert(n);
    } else {
      for (const Value& input : graph.node(n).inputs) open.push_back(input.node);
    }
  }
}

}  // namespace

void collect_value(const Lowering& lowering, uint32_t n, std::set<uint32_t>& found) { collect(lowering, {n}, found); }

void collect_expression(const Lowering& lowering, uint32_t n, std::set<uint32_t>& found) {
  std::vector<uint32_t> operands;
  for (const Value& input : lowering.program.graph->node(n).inputs) operands.push_back(input.node);
  collect(lowering, std::move(operands), found);
}

bool same_loops(const Lowering& lowering, uint32_t n, uint32_t g) {
  const Node& reduction = lowering.program.graph->node(n);
  const Group& group = lowering.groups[g];
  const Shape& operand = reduction.inputs[0].shape();
  const auto& axes = std::get<AxesAttr>(reduction.attr).axes;
  IndexContext mine_context, theirs_context;
  const LoopIndex mine = loop_index(mine_context, Archetype::reduce, operand, axes);
  const LoopIndex theirs = loop_index(theirs_context, Archetype::reduce, group.space, group.reduced);
  if (mine.row_count != theirs.row_count) return false;
  // Then the flat position is the same function of (r, k). Compared by value at a few places: derived variables of two
  // contexts cannot be compared as they are.
  const int64_t columns = mine.full_count / std::max<int64_t>(mine.row_count, 1);
  const auto place = [](const Shape& space, const std::vector<int64_t>& reduced, int64_t r, int64_t k) {
    int64_t position = 0, stride = 1;
    for (size_t d = space.size(); d-- > 0;) {
      int64_t& from = std::find(reduced.begin(), reduced.end(), int64_t(d)) == reduced.end() ? r : k;
      position += from % space[d] * stride;
      from /= space[d];
      stride *= space[d];
    }
    return position;
  };
  for (int64_t r = 0; r < mine.row_count; r += std::max<int64_t>(1, mine.row_count / 61))
    for (int64_t k = 0; k < columns; k += std::max<int64_t>(1, columns / 61))
      if (place(operand, axes, r, k) != place(group.space, group.reduced, r, k)) return false;
  return true;
}

namespace {

void collect_loads(const Lowering& lowering, uint32_t g, uint32_t n, std::set<uint32_t>& seen,
                   std::set<uint32_t>& found);

// Node n as an operand in group g: loaded as the outermost view that strides may express, or computed from loads.
void collect_load(const Lowering& lowering, uint32_t g, uint32_t n, std::set<uint32_t>& seen,
                  std::set<uint32_t>& found) {
  const Graph& graph = *lowering.program.graph;
  bool padded = false;
  uint32_t base = n;
  for (; is_view(graph.node(base).op); base = graph.node(base).inputs[0].node) padded |= graph.node(base).op == Op::pad;
  if (is_terminal(lowering, base) && lowering.home[base] == g) return;
  if (is_terminal(lowering, base) && !padded) {
    found.insert(n);
  } else if (seen.insert(n).second) {
    collect_loads(lowering, g, n, seen, found);
  }
}

void collect_loads(const Lowering& lowering, uint32_t g, uint32_t n, std::set<uint32_t>& seen,
                   std::set<uint32_t>& found) {
  for (const Value& input : lowering.program.graph->node(n).inputs) collect_load(lowering, g, input.node, seen, found);
}

}  // namespace

std::set<uint32_t> loads_of(const Lowering& lowering, uint32_t g) {
  std::set<uint32_t> seen, found;
  for (const uint32_t m : lowering.groups[g].members) collect_loads(lowering, g, m, seen, found);
  for (const Value& copy : lowering.groups[g].copies) collect_load(lowering, g, copy.node, seen, found);
  return found;
}

void add_source(Lowering& lowering, uint32_t g, uint32_t source) {
  if (g == source) return;
  ensure(!lowering.groups[source].depends[g], "kernels {} and {} would wait for each other", g, source);
  lowering.groups[g].sources.insert(source);
  const std::vector<bool> theirs = lowering.groups[source].depends;
  for (uint32_t h = 0; h < lowering.groups.size(); ++h) {
    auto& mine = lowering.groups[h].depends;
    if (h != g && !mine[g]) continue;
    for (size_t i = 0; i < theirs.size(); ++i)
      if (theirs[i]) mine[i] = true;
    mine[source] = true;
  }
}

std::set<uint32_t> writers(const Lowering& lowering, uint32_t n) {
  if (lowering.home[n] != kNone) return {lowering.home[n]};
  const Graph& graph = *lowering.program.graph;
  if (graph.node(n).op != Op::concat) return {};
  std::set<uint32_t> groups;
  for (size_t i = 0; i < graph.node(n).inputs.size(); ++i) {
    const auto copy = lowering.part_copies.find({n, i});
    groups.insert(copy != lowering.part_copies.end()
                      ? copy->second
                      : lowering.home[behind_views(graph, graph.node(n).inputs[i].node)]);
  }
  return groups;
}

std::optional<View> view_behind(const Graph& graph, uint32_t n, View view) {
  while (graph.node(n).op == Op::reshape || graph.node(n).op == Op::permute) {
    const Node& node = graph.node(n);
    const Shape& from = node.inputs[0].shape();
    Strides strides(from.size());
    if (node.op == Op::permute) {
      const auto& axes = std::get<AxesAttr>(node.attr).axes;
      for (size_t d = 0; d < axes.size(); ++d) strides[size_t(axes[d])] = view.strides[d];
    } else if (!reshape_strides(view.shape, view.strides, from, strides)) {
      return std::nullopt;
    }
    view.shape = from;
    view.strides = strides;
    n = node.inputs[0].node;
  }
  return view;
}

View concat_region(const Graph& graph, uint32_t concat, size_t part, const View& all) {
  const Node& node = graph.node(concat);
  const auto axis = size_t(std::get<AxisAttr>(node.attr).axis);
  View region = all;
  region.shape = node.inputs[part].shape();
  for (size_t i = 0; i < part; ++i) region.offset += node.inputs[i].shape()[axis] * all.strides[axis];
  return region;
}

uint32_t add_group(Lowering& lowering, Archetype archetype, uint32_t anchor, const Shape& space,
                   std::vector<int64_t> reduced) {
  for (auto& group : lowering.groups) group.depends.push_back(false);
  Group group;
  group.archetype = archetype;
  group.anchor = anchor;
  group.space = space;
  group.reduced = std::move(reduced);
  group.depends.assign(lowering.groups.size() + 1, false);
  lowering.groups.push_back(std::move(group));
  return uint32_t(lowering.groups.size() - 1);
}

uint32_t add_copy_group(Lowering& lowering, const Value& value) {
  const uint32_t g = add_group(lowering, Archetype::pointwise, value.node, value.shape(), {});
  lowering.groups[g].copies.push_back(value);
  std::set<uint32_t> reads;
  collect_value(lowering, value.node, reads);
  for (const uint32_t t : reads)
    for (const uint32_t source : writers(lowering, t)) add_source(lowering, g, source);
  return g;
}

}  // namespace surtsey::graph
