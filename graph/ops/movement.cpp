#include "graph/ops/rows.h"

#include <algorithm>

namespace surtsey::graph {

namespace {

// Copies source elements at `offset` + strides (one per result axis) into a result of `type`.
HostTensor strided_copy(const HostTensor& source, const Type& type, const Strides& strides, int64_t offset) {
  HostTensor result = HostTensor::zeros(type);
  const size_t rank = type.shape.size();
  Shape index(rank, 0);
  int64_t at = offset;
  for (double& value : result.values) {
    value = source.values[static_cast<size_t>(at)];
    for (size_t axis = rank; axis-- > 0;) {
      at += strides[axis];
      if (++index[axis] < type.shape[axis]) break;
      at -= strides[axis] * type.shape[axis];
      index[axis] = 0;
    }
  }
  return result;
}

// Writes `source` into `result` at `offset` of its contiguous layout.
void strided_place(const HostTensor& source, HostTensor& result, int64_t offset) {
  const Strides strides = contiguous_strides(result.type.shape);
  const Shape& shape = source.type.shape;
  Shape index(shape.size(), 0);
  int64_t at = offset;
  for (const double value : source.values) {
    result.values[static_cast<size_t>(at)] = value;
    for (size_t axis = shape.size(); axis-- > 0;) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

int64_t dot(const Shape& a, const Strides& b) {
  int64_t result = 0;
  for (size_t i = 0; i < a.size(); ++i) result += a[i] * b[i];
  return result;
}

// ---- reshape ----
std::vector<Type> infer_reshape(std::span<const Type> inputs, const Attr& attr) {
  const Type& to = attribute<TypeAttr>(attr).type;
  check(to.dtype == inputs[0].dtype && element_count(to.shape) == element_count(inputs[0].shape),
        "[reshape] {} does not fit {}", to_string(inputs[0]), to_string(to));
  return {to};
}

std::vector<Value> gradient_reshape(std::span<const Value> inputs, const Attr&, Value, Value g) {
  return {reshape(g, inputs[0].shape())};
}

HostTensor interpret_reshape(std::span<const HostTensor* const> inputs, const Attr&, const Type& type) {
  return HostTensor(type, inputs[0]->values);
}

// ---- permute ----
std::vector<Type> infer_permute(std::span<const Type> inputs, const Attr& attr) {
  const auto& axes = attribute<AxesAttr>(attr).axes;
  const Shape& shape = inputs[0].shape;
  std::vector<bool> seen(shape.size(), false);
  bool good = axes.size() == shape.size();
  Type result{inputs[0].dtype, {}};
  for (size_t i = 0; good && i < axes.size(); ++i) {
    good = axes[i] >= 0 && axes[i] < static_cast<int64_t>(shape.size()) && !seen[static_cast<size_t>(axes[i])];
    if (!good) break;
    seen[static_cast<size_t>(axes[i])] = true;
    result.shape.push_back(shape[static_cast<size_t>(axes[i])]);
  }
  check(good, "[permute] {} is no order of the axes of {}", to_string(axes), to_string(inputs[0]));
  return {result};
}

std::vector<Value> gradient_permute(std::span<const Value>, const Attr& attr, Value, Value g) {
  const auto& axes = std::get<AxesAttr>(attr).axes;
  std::vector<int64_t> inverse(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    inverse[static_cast<size_t>(axes[i])] = static_cast<int64_t>(i);
  }
  return {permute(g, std::move(inverse))};
}

HostTensor interpret_permute(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const Strides source = contiguous_strides(inputs[0]->type.shape);
  Strides strides;
  for (const int64_t axis : std::get<AxesAttr>(attr).axes) {
    strides.push_back(source[static_cast<size_t>(axis)]);
  }
  return strided_copy(*inputs[0], type, strides, 0);
}

// ---- broadcast ----
std::vector<Type> infer_broadcast(std::span<const Type> inputs, const Attr& attr) {
  const Type& to = attribute<TypeAttr>(attr).type;
  const Shape& from = inputs[0].shape;
  bool good = to.dtype == inputs[0].dtype && to.shape.size() == from.size();
  for (size_t i = 0; good && i < from.size(); ++i) {
    good = from[i] == to.shape[i] || from[i] == 1;
  }
  check(good, "[broadcast] {} does not broadcast to {}", to_string(inputs[0]), to_string(to));
  return {to};
}

std::vector<Value> gradient_broadcast(std::span<const Value> inputs, const Attr&, Value out, Value g) {
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < out.rank(); ++axis) {
    if (inputs[0].dim(axis) != out.dim(axis)) axes.push_back(axis);
  }
  return {sum(g, std::move(axes))};
}

HostTensor interpret_broadcast(std::span<const HostTensor* const> inputs, const Attr&, const Type& type) {
  const Shape& from = inputs[0]->type.shape;
  Strides strides = contiguous_strides(from);
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] == 1) strides[i] = 0;
  }
  return strided_copy(*inputs[0], type, strides, 0);
}

// ---- slice ----
std::vector<Type> infer_slice(std::span<const Type> inputs, const Attr& attr) {
  const auto& [start, stop] = attribute<SliceAttr>(attr);
  const Shape& shape = inputs[0].shape;
  bool good = start.size() == shape.size() && stop.size() == shape.size();
  Type result{inputs[0].dtype, {}};
  for (size_t i = 0; good && i < shape.size(); ++i) {
    good = start[i] >= 0 && start[i] < stop[i] && stop[i] <= shape[i];
    result.shape.push_back(stop[i] - start[i]);
  }
  check(good, "[slice] {} to {} of {}", to_string(start), to_string(stop), to_string(inputs[0]));
  return {result};
}

std::vector<Value> gradient_slice(std::span<const Value> inputs, const Attr& attr, Value, Value g) {
  const auto& [start, stop] = std::get<SliceAttr>(attr);
  Shape high = inputs[0].shape();
  for (size_t i = 0; i < high.size(); ++i) high[i] -= stop[i];
  return {pad(g, start, std::move(high))};
}

HostTensor interpret_slice(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const Strides strides = contiguous_strides(inputs[0]->type.shape);
  return strided_copy(*inputs[0], type, strides, dot(std::get<SliceAttr>(attr).start, strides));
}

// ---- pad ----
std::vector<Type> infer_pad(std::span<const Type> inputs, const Attr& attr) {
  const auto& [low, high, value] = attribute<PadAttr>(attr);
  const Shape& shape = inputs[0].shape;
  bool good = low.size() == shape.size() && high.size() == shape.size();
  Type result{inputs[0].dtype, {}};
  for (size_t i = 0; good && i < shape.size(); ++i) {
    good = low[i] >= 0 && high[i] >= 0;
    result.shape.push_back(low[i] + shape[i] + high[i]);
  }
  check(good, "[pad] {} by {} and {}", to_string(inputs[0]), to_string(low), to_string(high));
  return {result};
}

std::vector<Value> gradient_pad(std::span<const Value> inputs, const Attr& attr, Value, Value g) {
  const auto& pad = std::get<PadAttr>(attr);
  Shape stop = pad.low;
  for (size_t i = 0; i < stop.size(); ++i) stop[i] += inputs[0].shape()[i];
  return {slice(g, pad.low, std::move(stop))};
}

HostTensor interpret_pad(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const auto& pad = std::get<PadAttr>(attr);
  HostTensor result = HostTensor::zeros(type);
  std::fill(result.values.begin(), result.values.end(), pad.value);
  strided_place(*inputs[0], result, dot(pad.low, contiguous_strides(type.shape)));
  return result;
}

// ---- concat ----
std::vector<Type> infer_concat(std::span<const Type> inputs, const Attr& attr) {
  const int64_t axis = attribute<AxisAttr>(attr).axis;
  check(!inputs.empty(), "[concat] needs an operand");
  Type result = inputs[0];
  check(axis >= 0 && axis < static_cast<int64_t>(result.shape.size()), "[concat] axis {} of {}", axis,
        to_string(result));
  const auto at = static_cast<size_t>(axis);
  result.shape[at] = 0;
  for (const Type& input : inputs) {
    Type expected = input;
    if (at < expected.shape.size()) expected.shape[at] = 0;
    Type blank = result;
    blank.shape[at] = 0;
    check(expected == blank, "[concat] {} and {} differ in more than axis {}", to_string(inputs[0]), to_string(input),
          axis);
    result.shape[at] += input.shape[at];
  }
  return {result};
}

std::vector<Value> gradient_concat(std::span<const Value> inputs, const Attr& attr, Value, Value g) {
  const int64_t axis = std::get<AxisAttr>(attr).axis;
  std::vector<Value> gradients;
  int64_t start = 0;
  for (const Value& input : inputs) {
    gradients.push_back(slice(g, axis, start, start + input.dim(axis)));
    start += input.dim(axis);
  }
  return gradients;
}

HostTensor interpret_concat(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  const auto axis = static_cast<size_t>(std::get<AxisAttr>(attr).axis);
  const int64_t stride = contiguous_strides(type.shape)[axis];
  HostTensor result = HostTensor::zeros(type);
  int64_t start = 0;
  for (const HostTensor* input : inputs) {
    strided_place(*input, result, start * stride);
    start += input->type.shape[axis];
  }
  return result;
}

}  // namespace

std::vector<OpDef> movement_rows() {
  return {
      {.op = Op::reshape,
       .name = "reshape",
       .family = Family::movement,
       .arity = 1,
       .doc = "the same elements in row-major order under another shape",
       .infer = infer_reshape,
       .gradient = gradient_reshape,
       .interpret = interpret_reshape,
       .samples = {{{f32_type({3, 5})}, TypeAttr{f32_type({15})}},
                   {{f32_type({7})}, TypeAttr{f32_type({1, 7, 1})}},
                   {{i32_type({2, 33, 17})}, TypeAttr{i32_type({33, 34})}},
                   {{u32_type({1})}, TypeAttr{u32_type({})}},
                   {{boolean_type({3, 5})}, TypeAttr{boolean_type({5, 3})}}}},
      {.op = Op::permute,
       .name = "permute",
       .family = Family::movement,
       .arity = 1,
       .doc = "reorders axes: result axis i is source axis axes[i]",
       .infer = infer_permute,
       .gradient = gradient_permute,
       .interpret = interpret_permute,
       .samples = {{{f32_type({3, 5})}, AxesAttr{{1, 0}}},
                   {{f32_type({2, 33, 17})}, AxesAttr{{2, 0, 1}}},
                   {{f32_type({2, 3, 1, 5})}, AxesAttr{{0, 2, 1, 3}}},
                   {{i32_type({2, 3, 5})}, AxesAttr{{1, 2, 0}}},
                   {{u32_type({1, 7})}, AxesAttr{{1, 0}}},
                   {{boolean_type({3, 5})}, AxesAttr{{1, 0}}}}},
      {.op = Op::broadcast,
       .name = "broadcast",
       .family = Family::movement,
       .arity = 1,
       .doc = "repeats axes of extent 1",
       .infer = infer_broadcast,
       .gradient = gradient_broadcast,
       .interpret = interpret_broadcast,
       .samples = {{{f32_type({1})}, TypeAttr{f32_type({7})}},
                   {{f32_type({3, 1})}, TypeAttr{f32_type({3, 5})}},
                   {{f32_type({1, 33, 1})}, TypeAttr{f32_type({2, 33, 17})}},
                   {{i32_type({1, 5})}, TypeAttr{i32_type({3, 5})}},
                   {{u32_type({2, 1, 3})}, TypeAttr{u32_type({2, 7, 3})}},
                   {{boolean_type({1, 1})}, TypeAttr{boolean_type({3, 5})}}}},
      {.op = Op::slice,
       .name = "slice",
       .family = Family::movement,
       .arity = 1,
       .doc = "the elements from start to before stop, per axis",
       .infer = infer_slice,
       .gradient = gradient_slice,
       .interpret = interpret_slice,
       .samples = {{{f32_type({7})}, SliceAttr{{2}, {7}}},
                   {{f32_type({3, 5})}, SliceAttr{{1, 0}, {2, 4}}},
                   {{f32_type({2, 33, 17})}, SliceAttr{{0, 5, 16}, {2, 32, 17}}},
                   {{i32_type({3, 5})}, SliceAttr{{0, 3}, {3, 5}}},
                   {{u32_type({9})}, SliceAttr{{4}, {5}}},
                   {{boolean_type({3, 5})}, SliceAttr{{2, 2}, {3, 5}}}}},
      {.op = Op::pad,
       .name = "pad",
       .family = Family::movement,
       .arity = 1,
       .doc = "adds elements of one value before and after, per axis",
       .infer = infer_pad,
       .gradient = gradient_pad,
       .interpret = interpret_pad,
       .samples = {{{f32_type({7})}, PadAttr{{2}, {3}, 0}},
                   {{f32_type({3, 5})}, PadAttr{{0, 1}, {2, 0}, -1.5}},
                   {{f32_type({2, 33, 17})}, PadAttr{{1, 0, 3}, {0, 2, 0}, 0.25}},
                   {{i32_type({3, 1})}, PadAttr{{1, 1}, {1, 1}, -4}},
                   {{u32_type({5})}, PadAttr{{0}, {4}, 9}},
                   {{boolean_type({3})}, PadAttr{{1}, {1}, 1}}}},
      {.op = Op::concat,
       .name = "concat",
       .family = Family::movement,
       .arity = -1,
       .doc = "joins operands along one axis",
       .infer = infer_concat,
       .gradient = gradient_concat,
       .interpret = interpret_concat,
       .samples = {{{f32_type({7}), f32_type({2})}, AxisAttr{0}},
                   {{f32_type({3, 5}), f32_type({3, 1}), f32_type({3, 4})}, AxisAttr{1}},
                   {{f32_type({2, 3, 17}), f32_type({2, 33, 17})}, AxisAttr{1}},
                   {{i32_type({1, 5}), i32_type({2, 5})}, AxisAttr{0}},
                   {{u32_type({3}), u32_type({4}), u32_type({1})}, AxisAttr{0}},
                   {{boolean_type({3, 2}), boolean_type({3, 3})}, AxisAttr{1}}}},
  };
}

}  // namespace surtsey::graph
