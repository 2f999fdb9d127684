#include "graph/ops/rows.h"

#include <algorithm>

namespace surtsey::graph {

namespace {

int64_t product(const Shape& shape, size_t first, size_t last) {
  int64_t result = 1;
  for (size_t i = first; i < last; ++i) result *= shape[i];
  return result;
}

bool same_prefix(const Shape& a, const Shape& b, int64_t count) {
  return std::equal(a.begin(), a.begin() + count, b.begin(), b.begin() + count);
}

// ---- gather ----
std::vector<Type> infer_gather(std::span<const Type> inputs, const Attr& attr) {
  const auto& [axis, batch] = attribute<GatherAttr>(attr);
  const Shape& x = inputs[0].shape;
  const Shape& index = inputs[1].shape;
  const auto text = [&] {
    return fmt::format("{} by {} on axis {}, batch {}", to_string(inputs[0]), to_string(inputs[1]), axis, batch);
  };
  check(inputs[1].dtype == DType::u32, "[gather] the index must be u32: {}", text());
  check(batch >= 0 && batch <= axis && axis < static_cast<int64_t>(x.size()) &&
            batch <= static_cast<int64_t>(index.size()),
        "[gather] axis or batch out of range: {}", text());
  check(same_prefix(x, index, batch), "[gather] batch axes differ: {}", text());
  Type result{inputs[0].dtype, Shape(x.begin(), x.begin() + axis)};
  result.shape.insert(result.shape.end(), index.begin() + batch, index.end());
  result.shape.insert(result.shape.end(), x.begin() + axis + 1, x.end());
  return {result};
}

// The adjoint of reading rows is adding into them. scatter_add wants the rows first, so the axes
// between batch and row go behind: [batch, pre, n, post] -> [batch, n, pre, post] and back.
std::vector<Value> gradient_gather(std::span<const Value> inputs, const Attr& attr, Value, Value g) {
  const auto& [axis, batch] = std::get<GatherAttr>(attr);
  const Value x = inputs[0];
  const Value index = inputs[1];
  const int64_t index_axes = index.rank() - batch;
  std::vector<int64_t> order;
  for (int64_t i = 0; i < batch; ++i) order.push_back(i);
  for (int64_t i = 0; i < index_axes; ++i) order.push_back(axis + i);
  for (int64_t i = batch; i < axis; ++i) order.push_back(i);
  for (int64_t i = axis + index_axes; i < g.rank(); ++i) order.push_back(i);
  const Value rows = scatter_add(index, permute(g, std::move(order)), x.dim(axis), batch);
  std::vector<int64_t> back;
  for (int64_t i = 0; i < batch; ++i) back.push_back(i);
  for (int64_t i = batch; i < axis; ++i) back.push_back(i + 1);
  back.push_back(batch);
  for (int64_t i = axis + 1; i < x.rank(); ++i) back.push_back(i);
  return {permute(rows, std::move(back)), Value{}};
}

HostTensor interpret_gather(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const auto& [axis, batch] = std::get<GatherAttr>(attr);
  const Shape& shape = inputs[0]->type.shape;
  const auto batches = product(shape, 0, static_cast<size_t>(batch));
  const auto before = product(shape, static_cast<size_t>(batch), static_cast<size_t>(axis));
  const int64_t rows = shape[static_cast<size_t>(axis)];
  const auto after = product(shape, static_cast<size_t>(axis) + 1, shape.size());
  const auto count = static_cast<int64_t>(inputs[1]->values.size()) / batches;
  HostTensor result = HostTensor::zeros(type);
  auto target = result.values.begin();
  for (int64_t b = 0; b < batches; ++b) {
    for (int64_t p = 0; p < before; ++p) {
      for (int64_t n = 0; n < count; ++n) {
        const double wanted = inputs[1]->values[static_cast<size_t>(b * count + n)];
        const int64_t row = std::min(static_cast<int64_t>(wanted), rows - 1);
        const auto source = inputs[0]->values.begin() + ((b * before + p) * rows + row) * after;
        target = std::copy(source, source + after, target);
      }
    }
  }
  return result;
}

// ---- scatter_add ----
std::vector<Type> infer_scatter(std::span<const Type> inputs, const Attr& attr) {
  const auto& [rows, batch] = attribute<ScatterAttr>(attr);
  const Shape& index = inputs[0].shape;
  const Shape& updates = inputs[1].shape;
  const auto index_rank = static_cast<int64_t>(index.size());
  const auto text = [&] {
    return fmt::format("{} by {} into {} rows, batch {}", to_string(inputs[1]), to_string(inputs[0]), rows, batch);
  };
  check(inputs[0].dtype == DType::u32, "[scatter_add] the index must be u32: {}", text());
  check(inputs[1].dtype == DType::f32, "[scatter_add] adds f32: {}", text());
  check(rows >= 1 && batch >= 0 && batch <= index_rank && index.size() <= updates.size(),
        "[scatter_add] rows or batch out of range: {}", text());
  check(same_prefix(index, updates, index_rank), "[scatter_add] leading axes differ: {}", text());
  Type result{inputs[1].dtype, Shape(index.begin(), index.begin() + batch)};
  result.shape.push_back(rows);
  result.shape.insert(result.shape.end(), updates.begin() + index_rank, updates.end());
  return {result};
}

std::vector<Value> gradient_scatter(std::span<const Value> inputs, const Attr& attr, Value, Value g) {
  const int64_t batch = std::get<ScatterAttr>(attr).batch;
  return {Value{}, gather(g, inputs[0], batch, batch)};
}

HostTensor interpret_scatter(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const auto& [rows, batch] = std::get<ScatterAttr>(attr);
  const Shape& index_shape = inputs[0]->type.shape;
  const auto batches = product(index_shape, 0, static_cast<size_t>(batch));
  const auto count = static_cast<int64_t>(inputs[0]->values.size()) / batches;
  const auto tail = product(inputs[1]->type.shape, index_shape.size(), inputs[1]->type.shape.size());
  HostTensor result = HostTensor::zeros(type);
  for (int64_t b = 0; b < batches; ++b) {
    for (int64_t n = 0; n < count; ++n) {
      const double wanted = inputs[0]->values[static_cast<size_t>(b * count + n)];
      const int64_t row = std::min(static_cast<int64_t>(wanted), rows - 1);
      for (int64_t t = 0; t < tail; ++t) {
        result.values[static_cast<size_t>((b * rows + row) * tail + t)] +=
            inputs[1]->values[static_cast<size_t>((b * count + n) * tail + t)];
      }
    }
  }
  return result;
}

// ---- slice_update ----
std::vector<Type> infer_slice_update(std::span<const Type> inputs, const Attr& attr) {
  const int64_t axis = attribute<AxisAttr>(attr).axis;
  const Type& x = inputs[0];
  const Type& update = inputs[1];
  const Shape& lead = inputs[2].shape;
  check(inputs[2].dtype == DType::u32 && static_cast<int64_t>(lead.size()) <= axis && lead.size() <= x.shape.size() &&
            std::equal(lead.begin(), lead.end(), x.shape.begin()),
        "[slice_update] the start must be u32[], or u32 of the first axes of {}, not {}", to_string(x),
        to_string(inputs[2]));
  bool good = x.dtype == update.dtype && x.shape.size() == update.shape.size() && axis >= 0 &&
              axis < static_cast<int64_t>(x.shape.size());
  for (size_t i = 0; good && i < x.shape.size(); ++i) {
    good = static_cast<int64_t>(i) == axis ? update.shape[i] <= x.shape[i] : update.shape[i] == x.shape[i];
  }
  check(good, "[slice_update] {} does not fit into {} along axis {}", to_string(update), to_string(x), axis);
  return {x};
}

// dx: the gradient with the window zeroed; dupdate: the window of the gradient.
std::vector<Value> gradient_slice_update(std::span<const Value> inputs, const Attr& attr, Value, Value g) {
  const int64_t axis = std::get<AxisAttr>(attr).axis;
  const Value update = inputs[1];
  const Value start = inputs[2];
  Graph& graph = *g.graph;
  const int64_t extent = update.dim(axis);
  const Value first = min(start, scalar(graph, static_cast<double>(g.dim(axis) - extent), DType::u32));
  const auto lead = static_cast<int64_t>(start.rank());
  Shape column = start.shape(), windows = start.shape();
  column.push_back(1);
  windows.push_back(extent);
  const Value window = iota(graph, u32_type(windows), lead) + reshape(first, column);
  return {slice_update(g, constant_like(update, 0), start, axis), gather(g, window, axis, lead), Value{}};
}

HostTensor interpret_slice_update(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const auto axis = static_cast<size_t>(std::get<AxisAttr>(attr).axis);
  const Shape& shape = inputs[1]->type.shape;
  HostTensor result(type, inputs[0]->values);
  const auto before = product(shape, 0, axis);
  const auto block = product(shape, axis, shape.size());
  const auto whole = product(type.shape, axis, type.shape.size());
  const auto row = product(shape, axis + 1, shape.size());
  const int64_t each = before / static_cast<int64_t>(inputs[2]->values.size());  // that share a start
  for (int64_t b = 0; b < before; ++b) {
    const auto given = static_cast<int64_t>(inputs[2]->values[static_cast<size_t>(b / each)]);
    const int64_t start = std::min(given, type.shape[axis] - shape[axis]);
    std::copy_n(inputs[1]->values.begin() + b * block, block, result.values.begin() + b * whole + start * row);
  }
  return result;
}

using Ranges = std::vector<std::pair<double, double>>;

// Index ranges go past the end by one, which must read or add to the last row.
Sample gather_sample(Type x, Shape index, int64_t axis, int64_t batch) {
  const auto rows = static_cast<double>(x.shape[static_cast<size_t>(axis)]);
  const std::pair<double, double> values = x.dtype == DType::u32 ? std::pair(0.0, 100.0) : std::pair(-2.0, 2.0);
  return {{x, u32_type(std::move(index))}, GatherAttr{axis, batch}, -2, 2, Ranges{values, {0.0, rows + 1}}};
}

Sample scatter_sample(Shape index, Shape updates, int64_t rows, int64_t batch) {
  return {{u32_type(std::move(index)), f32_type(std::move(updates))},
          ScatterAttr{rows, batch},
          -2,
          2,
          Ranges{{0.0, static_cast<double>(rows + 1)}, {-2.0, 2.0}}};
}

Sample update_sample(Type x, Type update, int64_t axis, Shape starts = {}) {
  const auto rows = static_cast<double>(x.shape[static_cast<size_t>(axis)]);
  const std::pair<double, double> values = x.dtype == DType::u32 ? std::pair(0.0, 100.0) : std::pair(-2.0, 2.0);
  return {{x, update, u32_type(std::move(starts))}, AxisAttr{axis}, -2, 2, Ranges{values, values, {0.0, rows + 1}}};
}

}  // namespace

std::vector<OpDef> index_rows() {
  return {
      {.op = Op::gather,
       .name = "gather",
       .family = Family::index,
       .arity = 2,
       .doc = "rows of x along an axis by a u32 index; past the end reads the last row",
       .infer = infer_gather,
       .gradient = gradient_gather,
       .interpret = interpret_gather,
       .samples = {gather_sample(f32_type({7}), {3}, 0, 0), gather_sample(f32_type({7, 5}), {}, 0, 0),
                   gather_sample(f32_type({17, 5}), {2, 33}, 0, 0), gather_sample(f32_type({3, 7, 5}), {4}, 1, 0),
                   gather_sample(f32_type({3, 7, 5}), {3, 4}, 1, 1),
                   gather_sample(f32_type({3, 2, 7, 5}), {3, 4}, 2, 1), gather_sample(f32_type({3, 7}), {3}, 1, 1),
                   gather_sample(i32_type({5, 3}), {4}, 0, 0), gather_sample(u32_type({1, 3}), {2}, 1, 0)}},
      {.op = Op::scatter_add,
       .name = "scatter_add",
       .family = Family::index,
       .arity = 2,
       .doc = "sums updates into rows by a u32 index; past the end adds to the last row",
       .infer = infer_scatter,
       .gradient = gradient_scatter,
       .interpret = interpret_scatter,
       .absolute = 2e-5,
       .relative = 1e-5,
       .samples = {scatter_sample({9}, {9}, 4, 0), scatter_sample({}, {3}, 4, 0), scatter_sample({33}, {33, 5}, 7, 0),
                   scatter_sample({2, 33}, {2, 33, 5}, 17, 0), scatter_sample({3, 8}, {3, 8, 5}, 7, 1),
                   scatter_sample({3, 2, 4}, {3, 2, 4, 2, 5}, 6, 1), scatter_sample({3}, {3}, 5, 1),
                   // Tables of so many rows have a kernel of their own.
                   scatter_sample({2, 33}, {2, 33, 5}, 300, 0), scatter_sample({3, 40}, {3, 40}, 130, 1)}},
      {.op = Op::slice_update,
       .name = "slice_update",
       .family = Family::index,
       .arity = 3,
       .doc = "x with a window along an axis replaced; its start is u32, clamped to fit: one, or one a place of the "
              "first axes",
       .infer = infer_slice_update,
       .gradient = gradient_slice_update,
       .interpret = interpret_slice_update,
       .samples = {update_sample(f32_type({7}), f32_type({2}), 0), update_sample(f32_type({3, 9}), f32_type({3, 1}), 1),
                   update_sample(f32_type({2, 33, 17}), f32_type({2, 5, 17}), 1),
                   update_sample(f32_type({1, 5}), f32_type({1, 5}), 1),
                   update_sample(i32_type({5, 3}), i32_type({2, 3}), 0),
                   update_sample(u32_type({4, 3}), u32_type({4, 2}), 1),
                   update_sample(f32_type({3, 2, 9, 5}), f32_type({3, 2, 2, 5}), 2, {3}),
                   update_sample(f32_type({3, 2, 9}), f32_type({3, 2, 1}), 2, {3, 2})}},
  };
}

}  // namespace surtsey::graph
