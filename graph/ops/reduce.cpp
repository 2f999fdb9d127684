#include "graph/ops/rows.h"

#include <algorithm>
#include <cmath>

namespace surtsey::graph {

namespace {

Type reduced_type(const Type& input, const Attr& attr) {
  const auto& axes = attribute<AxesAttr>(attr).axes;
  Type result = input;
  int64_t last = -1;
  for (const int64_t axis : axes) {
    check(axis > last && axis < static_cast<int64_t>(input.shape.size()), "axes {} of {} (they must be sorted)",
          to_string(axes), to_string(input));
    result.shape[static_cast<size_t>(axis)] = 1;
    last = axis;
  }
  check(!axes.empty(), "no axis to reduce");
  return result;
}

std::vector<Type> infer_reduction(std::span<const Type> inputs, const Attr& attr) {
  const DType dtype = inputs[0].dtype;
  check(dtype == DType::f32 || is_integer(dtype), "reduces f32, i32 or u32, not {}", to_string(inputs[0]));
  return {reduced_type(inputs[0], attr)};
}

std::vector<Type> infer_argmax(std::span<const Type> inputs, const Attr& attr) {
  std::vector<Type> result = infer_reduction(inputs, attr);
  check(std::get<AxesAttr>(attr).axes.size() == 1, "takes one axis");
  result[0].dtype = DType::u32;
  return result;
}

// For every source element, in row-major order, the result element it goes to.
std::vector<size_t> targets(const Shape& shape, const std::vector<int64_t>& axes) {
  std::vector<size_t> result = {0};
  size_t step = 1;
  // From the innermost axis outwards, each axis repeats what is there, shifted unless it is
  // reduced.
  for (auto axis = static_cast<int64_t>(shape.size()); axis-- > 0;) {
    const bool reduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
    const auto extent = static_cast<size_t>(shape[static_cast<size_t>(axis)]);
    const size_t inner = result.size();
    result.resize(inner * extent);
    for (size_t i = inner; i < result.size(); ++i) {
      result[i] = result[i % inner] + (reduced ? 0 : i / inner * step);
    }
    if (!reduced) step *= extent;
  }
  return result;
}

HostTensor interpret_sum(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  const std::vector<double>& x = inputs[0]->values;
  const auto to = targets(inputs[0]->type.shape, std::get<AxesAttr>(attr).axes);
  for (size_t from = 0; from < x.size(); ++from) result.values[to[from]] += x[from];
  if (!is_float(type.dtype)) {
    for (double& value : result.values) {
      const auto word = static_cast<uint32_t>(static_cast<int64_t>(value));
      value = type.dtype == DType::i32 ? static_cast<double>(static_cast<int32_t>(word)) : static_cast<double>(word);
    }
  }
  return result;
}

HostTensor interpret_max(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  std::fill(result.values.begin(), result.values.end(), -INFINITY);
  const std::vector<double>& x = inputs[0]->values;
  const auto to = targets(inputs[0]->type.shape, std::get<AxesAttr>(attr).axes);
  for (size_t from = 0; from < x.size(); ++from) {
    double& best = result.values[to[from]];
    best = std::max(best, x[from]);
  }
  return result;
}

HostTensor interpret_argmax(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  const std::vector<double>& x = inputs[0]->values;
  const Shape& shape = inputs[0]->type.shape;
  const auto axis = static_cast<size_t>(std::get<AxesAttr>(attr).axes[0]);
  const int64_t stride = contiguous_strides(shape)[axis];
  std::vector<double> best(result.values.size(), -INFINITY);
  const auto to = targets(shape, std::get<AxesAttr>(attr).axes);
  for (size_t from = 0; from < x.size(); ++from) {
    if (!(x[from] > best[to[from]])) continue;
    best[to[from]] = x[from];
    result.values[to[from]] = static_cast<double>(static_cast<int64_t>(from) / stride % shape[axis]);
  }
  return result;
}

// d sum(x) / dx = 1
std::vector<Value> gradient_sum(std::span<const Value> inputs, const Attr&, Value, Value g) {
  return {broadcast(g, inputs[0].shape())};
}

// The elements equal to the maximum share the gradient.
std::vector<Value> gradient_max(std::span<const Value> inputs, const Attr& attr, Value out, Value g) {
  const Value x = inputs[0];
  const Value winner = equal(x, broadcast(out, x.shape()));
  const Value count = sum(select(winner, constant_like(x, 1), constant_like(x, 0)), std::get<AxesAttr>(attr).axes);
  return {select(winner, broadcast(g / count, x.shape()), constant_like(x, 0))};
}

// Leading, trailing, middle and all axes; extents of 1, 7, 300 and 3000.
std::vector<Sample> reduction_samples() {
  return {
      {{f32_type({7})}, AxesAttr{{0}}},
      {{f32_type({3, 5})}, AxesAttr{{1}}},
      {{f32_type({3, 5})}, AxesAttr{{0}}},
      {{f32_type({1, 1})}, AxesAttr{{0, 1}}},
      {{f32_type({2, 33, 17})}, AxesAttr{{1}}},
      {{f32_type({2, 33, 17})}, AxesAttr{{0, 2}}},
      {{f32_type({2, 3, 5})}, AxesAttr{{0, 1, 2}}},
      {{f32_type({300, 3})}, AxesAttr{{0}}},
      {{f32_type({3, 300})}, AxesAttr{{1}}},
      {{f32_type({2, 3000})}, AxesAttr{{1}}},
      {{f32_type({3000})}, AxesAttr{{0}}},
      {{i32_type({7, 3})}, AxesAttr{{0}}, -1000, 1000},
      {{u32_type({3, 300})}, AxesAttr{{1}}, 0, 4294967296.0},
  };
}

std::vector<Sample> argmax_samples() {
  return {
      {{f32_type({7})}, AxesAttr{{0}}},
      {{f32_type({3, 5})}, AxesAttr{{1}}},
      {{f32_type({3, 1})}, AxesAttr{{1}}},
      {{f32_type({2, 33, 17})}, AxesAttr{{1}}},
      {{f32_type({300, 3})}, AxesAttr{{0}}},
      {{f32_type({2, 3000})}, AxesAttr{{1}}},
      {{i32_type({5, 40})}, AxesAttr{{1}}, -4, 4},  // many equals: the first wins
      {{u32_type({3, 300})}, AxesAttr{{1}}, 0, 9},
  };
}

}  // namespace

std::vector<OpDef> reduce_rows() {
  const auto zero = [](DType) { return 0.0; };
  const auto least = [](DType dtype) -> double {
    return dtype == DType::u32 ? 0 : dtype == DType::i32 ? -2147483648.0 : -INFINITY;
  };
  return {
      {.op = Op::sum,
       .name = "sum",
       .family = Family::reduce,
       .arity = 1,
       .doc = "the sum over axes, which stay with extent 1",
       .glsl = "$0 = $0 + $1;",
       .identity = zero,
       .infer = infer_reduction,
       .gradient = gradient_sum,
       .interpret = interpret_sum,
       .absolute = 1e-4,
       .relative = 1e-5,
       .samples = reduction_samples()},
      {.op = Op::reduce_max,
       .name = "reduce_max",
       .family = Family::reduce,
       .arity = 1,
       .doc = "the largest element over axes, which stay with extent 1",
       .glsl = "$0 = max($0, $1);",
       .identity = least,
       .infer = infer_reduction,
       .gradient = gradient_max,
       .interpret = interpret_max,
       .samples = reduction_samples()},
      {.op = Op::argmax,
       .name = "argmax",
       .family = Family::reduce,
       .arity = 1,
       .doc = "the index (u32) of the first of the largest elements along one axis",
       .glsl = "if ($1 > $0 || ($1 == $0 && $3 < $2)) { $0 = $1; $2 = $3; }",
       .identity = least,
       .infer = infer_argmax,
       .interpret = interpret_argmax,
       .samples = argmax_samples()},
  };
}

}  // namespace surtsey::graph
