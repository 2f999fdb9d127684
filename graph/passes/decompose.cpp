#include "graph/passes/passes.h"

#include "graph/few_rows.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace surtsey::graph {

namespace {

using Results = std::vector<Value>;
using Inputs = std::span<const Value>;

// From this many elements on, one lane or one workgroup per result is too little for a device.
constexpr int64_t kLongReduction = 8192;

// onehot[b, r, n] = 1 where index[b, n] is r (past the end: the last row); result = onehot @
// updates.
Value scatter_as_matmul(Graph& graph, const Node& node, Value index, Value updates) {
  const auto& [rows, batch_axes] = std::get<ScatterAttr>(node.attr);
  const Shape batch(index.shape().begin(), index.shape().begin() + batch_axes);
  const int64_t batches = element_count(batch);
  const int64_t count = element_count(index.shape()) / batches;
  const int64_t tail = element_count(updates.shape()) / (batches * count);
  const auto with_batch = [&](Shape shape) {
    if (batch_axes > 0) shape.insert(shape.begin(), batches);
    return shape;
  };
  const Type type{DType::u32, with_batch({rows, count})};
  const Value row = iota(graph, type, -2);
  const Value last = constant(graph, static_cast<double>(rows - 1), Type{DType::u32, index.shape()});
  const Value wanted = broadcast(reshape(min(index, last), with_batch({1, count})), type.shape);
  const Value hit = equal(row, wanted);
  const Value one = constant(graph, 1, Type{DType::f32, type.shape});
  const Value onehot = select(hit, one, constant_like(one, 0));
  const Value sums = matmul(onehot, reshape(updates, with_batch({count, tail})));
  return reshape(sums, node.types[0].shape);
}

// Split-K: a product of few tiles and a long inner axis, as weight gradients are, leaves most of a
// GPU idle. Its inner axis is cut into parts that are products of their own, and a second pass adds
// the parts up in order.
constexpr int64_t kSplitTile = 64;          // of the shared-tile matmul
constexpr int64_t kWantedWorkgroups = 128;  // about the compute units of a large GPU; a small one loses little by more
constexpr int64_t kShortestPart = 256;  // of the inner axis, so that the sums that are stored and read again stay few

// Of [M, K] @ [K, N], or of every member of an ensemble of them: a member's bits do not depend on
// how many there are. Products with more leading axes, as attention has, fill the device by these.
int64_t product_parts(const Shape& result, int64_t inner) {
  const size_t rank = result.size();
  if (rank > 3) return 1;
  const auto tiles = [](int64_t extent) { return (extent + kSplitTile - 1) / kSplitTile; };
  const int64_t workgroups = tiles(result[rank - 2]) * tiles(result[rank - 1]);
  int64_t parts = 1;
  while (inner % (2 * parts) == 0 && inner / (2 * parts) >= kShortestPart &&
         workgroups * 2 * parts <= kWantedWorkgroups)
    parts *= 2;
  return parts;
}

// The view of a value; of one that is cast, the cast of the view: kernels read the stored tensor.
template <typename View>
Value viewed(Value value, View&& view) {
  const Node& node = value.graph->node(value);
  return node.op == Op::cast ? cast(view(node.inputs[0]), node.types[0].dtype) : view(value);
}

// [.., M, K] @ [.., K, N] = the sum over parts of [.., parts, M, K / parts] @ [.., parts, K /
// parts, N]
Results split_product(Value a, Value b, const Shape& result) {
  const size_t rank = result.size();
  if (rank == 2 && has_few_rows(result[0], result[1], a.dim(-1)) && b.graph->node(b).op == Op::permute) return {};
  const int64_t inner = a.dim(-1), parts = product_parts(result, inner);
  if (parts == 1) return {};
  Shape rows(a.shape().begin(), a.shape().end() - 1), columns(b.shape().begin(), b.shape().end() - 2);
  rows.insert(rows.end(), {parts, inner / parts});
  columns.insert(columns.end(), {parts, inner / parts, b.dim(-1)});
  std::vector<int64_t> order(rank + 1);
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[rank - 2], order[rank - 1]);  // the parts before the rows
  const Value products = matmul(viewed(a, [&](Value x) { return permute(reshape(x, rows), order); }),
                                viewed(b, [&](Value x) { return reshape(x, columns); }));
  return {reshape(sum(products, {int64_t(rank) - 2}), result)};
}

// The number of parts of the first stage: a power of two near the root, one that divides the extent
// if there is.
int64_t stage_parts(int64_t extent) {
  const auto root = static_cast<uint64_t>(std::ceil(std::sqrt(static_cast<double>(extent))));
  const auto near = static_cast<int64_t>(std::min<uint64_t>(std::bit_ceil(root), 1024));
  for (int64_t parts = near; parts >= near / 4; parts /= 2) {
    if (extent % parts == 0) return parts;
  }
  return near;
}

// Reduces one axis of a long reduction in two stages. The parts lie where the device reads
// neighbours together: next to each other for lanes, one after the other for workgroups.
Value reduce_in_stages(Graph& graph, Op op, Value x, int64_t axis, bool parts_inside) {
  const int64_t extent = x.dim(axis);
  const int64_t parts = stage_parts(extent);
  const int64_t length = (extent + parts - 1) / parts;
  const auto at = static_cast<size_t>(axis);
  Shape none(x.shape().size(), 0);
  Shape missing = none;
  missing[at] = parts * length - extent;
  x = pad(x, none, missing, definition(op).identity(x.dtype()));
  Shape split = x.shape();
  split[at] = parts_inside ? length : parts;
  split.insert(split.begin() + axis + 1, parts_inside ? parts : length);
  const int64_t first = parts_inside ? axis : axis + 1;
  const Value partial = graph.add(op, {reshape(x, std::move(split))}, AxesAttr{{first}});
  Shape shape = x.shape();
  shape[at] = parts;
  return graph.add(op, {reshape(partial, std::move(shape))}, AxesAttr{{axis}});
}

// Reduced axes that lie next to each other become one; groups that do not are reduced one after the
// other, the last first.
Results shorten_reduction(Graph& graph, const Node& node, Value x, bool parts_inside) {
  const auto& axes = std::get<AxesAttr>(node.attr).axes;
  int64_t total = 1;
  for (const int64_t axis : axes) total *= x.dim(axis);
  if (total < kLongReduction) return {};
  std::vector<std::pair<int64_t, int64_t>> groups;  // first, last axis
  for (const int64_t axis : axes) {
    bool adjacent = !groups.empty();
    for (int64_t between = adjacent ? groups.back().second + 1 : axis; between < axis; ++between) {
      adjacent = adjacent && x.dim(between) == 1;
    }
    if (adjacent) {
      groups.back().second = axis;
    } else {
      groups.emplace_back(axis, axis);
    }
  }
  Value result = x;
  for (size_t i = groups.size(); i-- > 0;) {
    const auto [first, last] = groups[i];
    Shape merged(result.shape().begin(), result.shape().begin() + first);
    int64_t extent = 1;
    for (int64_t axis = first; axis <= last; ++axis) extent *= result.dim(axis);
    merged.push_back(extent);
    merged.insert(merged.end(), result.shape().begin() + last + 1, result.shape().end());
    Shape kept = result.shape();
    for (int64_t axis = first; axis <= last; ++axis) kept[static_cast<size_t>(axis)] = 1;
    const Value flat = reshape(result, std::move(merged));
    const Value sum = extent >= kLongReduction ? reduce_in_stages(graph, node.op, flat, first, parts_inside)
                                               : graph.add(node.op, {flat}, AxesAttr{{first}});
    result = reshape(sum, std::move(kept));
  }
  return {result};
}

bool has_unclaimed_regions(const Program& program) {
  for (const uint32_t index : reachable(*program.graph, roots(program))) {
    const Node& node = program.graph->node(index);
    if (node.op == Op::region && !is_claimed(node)) return true;
  }
  return false;
}

}  // namespace

Program decompose(const Program& program, const Target& target) {
  Program result = program;
  while (has_unclaimed_regions(result)) {  // bodies may hold regions themselves
    result = rewrite(result, [](Graph& graph, const Node& node, Inputs inputs) -> Results {
      const auto* attr = std::get_if<RegionAttr>(&node.attr);
      return attr && !is_claimed(node) ? inline_region(graph, *attr->region, inputs) : Results{};
    });
  }
  const bool parts_inside = target.reduce_variant() == ReduceVariant::lane_per_row;
  return rewrite(result, [&](Graph& graph, const Node& node, Inputs inputs) -> Results {
    if (node.op == Op::scatter_add && !target.scatters(std::get<ScatterAttr>(node.attr).rows)) {
      return {scatter_as_matmul(graph, node, inputs[0], inputs[1])};
    }
    if (node.op == Op::matmul && target.matmul_variant() != MatmulVariant::lane_broadcast)
      return split_product(inputs[0], inputs[1], node.types[0].shape);
    if (node.op == Op::sum || node.op == Op::reduce_max) {
      return shorten_reduction(graph, node, inputs[0], parts_inside);
    }
    return {};
  });
}

}  // namespace surtsey::graph
