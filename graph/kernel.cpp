#include "graph/kernel.h"

#include <algorithm>
#include <set>

namespace surtsey::graph {

const char* name(Archetype archetype) {
  constexpr const char* kNames[] = {"pointwise", "reduce", "matmul", "attention", "scatter"};
  return kNames[size_t(archetype)];
}

std::vector<uint32_t> origins(const Kernel& kernel) {
  std::set<uint32_t> nodes(kernel.members.begin(), kernel.members.end());
  nodes.insert(kernel.inlined.begin(), kernel.inlined.end());
  for (const KernelOperand& output : kernel.outputs) nodes.insert(output.value.node);
  return {nodes.begin(), nodes.end()};
}

namespace {

bool contains(const std::vector<int64_t>& axes, size_t axis) {
  return std::find(axes.begin(), axes.end(), int64_t(axis)) != axes.end();
}

// The index of a reduction's operand at a row and a column of it.
Index reduced_index(IndexContext& context, const Shape& space, const std::vector<int64_t>& reduced, const Affine& row,
                    const Affine& column) {
  Shape kept, inner;
  for (size_t d = 0; d < space.size(); ++d) (contains(reduced, d) ? inner : kept).push_back(space[d]);
  const Index rows = context.delinearize(row, kept), columns = context.delinearize(column, inner);
  Index index;
  for (size_t d = 0, r = 0, c = 0; d < space.size(); ++d)
    index.push_back(contains(reduced, d) ? columns[c++] : rows[r++]);
  return index;
}

}  // namespace

LoopIndex loop_index(IndexContext& context, Archetype archetype, const Shape& space,
                     const std::vector<int64_t>& reduced) {
  LoopIndex loop;
  loop.full_count = element_count(space);
  if (archetype == Archetype::pointwise || is_closed(archetype)) {
    loop.first = loop.full = context.variable("i", loop.full_count);
  } else if (archetype == Archetype::matmul) {
    const int64_t n = space.back(), m = space[space.size() - 2];
    loop.first = context.variable("z", loop.full_count / (m * n));
    loop.second = context.variable("m", m);
    loop.third = context.variable("n", n);
    loop.full = context.add(context.add(context.scale(loop.first, m * n), context.scale(loop.second, n)), loop.third);
  } else {
    loop.row_count = 1;
    for (size_t d = 0; d < space.size(); ++d)
      if (!contains(reduced, d)) loop.row_count *= space[d];
    loop.first = loop.row = context.variable("r", loop.row_count);
    loop.second = context.variable("k", loop.full_count / std::max<int64_t>(1, loop.row_count));
    loop.full = reduced_element(context, space, reduced, loop.first, loop.second);
  }
  return loop;
}

Affine reduced_element(IndexContext& context, const Shape& space, const std::vector<int64_t>& reduced,
                       const Affine& row, const Affine& column) {
  return context.linearize_contiguous(reduced_index(context, space, reduced, row, column), space);
}

uint32_t behind_views(const Graph& graph, uint32_t n) {
  while (is_view(graph.node(n).op)) n = graph.node(n).inputs[0].node;
  return n;
}

namespace {

// The node behind a chain of views and the flat index there.
std::pair<uint32_t, Affine> follow_views(const Graph& graph, IndexContext& context, uint32_t n, Index index) {
  for (;;) {
    const Node& node = graph.node(n);
    if (!is_view(node.op) || node.op == Op::pad) break;
    index = context.operand_index(node, node.inputs[0].shape(), index);
    n = node.inputs[0].node;
  }
  return {n, context.linearize_contiguous(index, graph.node(n).types[0].shape)};
}

}  // namespace

std::optional<size_t> summed_operand(const Graph& graph, uint32_t matmul, uint32_t n) {
  const Node& product = graph.node(matmul);
  const Node& sum = graph.node(n);
  if (sum.op != Op::sum || product.op != Op::matmul) return std::nullopt;
  const Shape& shape = product.types[0].shape;
  const Shape& added = sum.inputs[0].shape();
  const auto& axes = std::get<AxesAttr>(sum.attr).axes;
  const int64_t inner = product.inputs[0].shape().back();
  for (const size_t side : {size_t(0), size_t(1)}) {
    const int64_t extent = shape[shape.size() - 2 + side];
    // A product of one row or one column is no longer than the sum.
    if (shape[shape.size() - 1 - side] == 1 || element_count(sum.types[0].shape) * inner != element_count(added))
      continue;
    if (element_count(sum.types[0].shape) != element_count(shape) / shape[shape.size() - 1 - side]) continue;
    IndexContext context;
    const LoopIndex loop = loop_index(context, Archetype::matmul, shape, {});
    const Affine k = context.variable("k", inner);
    const Affine& own = side == 0 ? loop.second : loop.third;
    Index operand = context.delinearize(loop.first, Shape(shape.begin(), shape.end() - 2));
    operand.push_back(side == 0 ? own : k);
    operand.push_back(side == 0 ? k : own);
    const Index at = reduced_index(context, added, axes, context.add(context.scale(loop.first, extent), own), k);
    if (follow_views(graph, context, product.inputs[side].node, operand) ==
        follow_views(graph, context, sum.inputs[0].node, at))
      return side;
  }
  return std::nullopt;
}

}  // namespace surtsey::graph
