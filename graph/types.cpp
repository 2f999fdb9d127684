#include "graph/types.h"

#include "graph/error.h"

#include <algorithm>

namespace surtsey::graph {

namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  int64_t bytes;
  bool is_float;
};

constexpr DTypeRow kDTypes[] = {
    {DType::f32, "f32", 4, true},       {DType::i32, "i32", 4, false}, {DType::u32, "u32", 4, false},
    {DType::boolean, "bool", 4, false}, {DType::f16, "f16", 2, true},  {DType::bf16, "bf16", 2, true},
};

const DTypeRow& row(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

}  // namespace

const char* name(DType dtype) { return row(dtype).name; }

DType dtype_from_name(std::string_view name) {
  for (const DTypeRow& candidate : kDTypes) {
    if (name == candidate.name) return candidate.dtype;
  }
  throw UserError(fmt::format("'{}' is no element type; there are f32, i32, u32, bool, f16 and bf16", name));
}

int64_t storage_bytes(DType dtype) { return row(dtype).bytes; }
bool is_float(DType dtype) { return row(dtype).is_float; }
bool is_integer(DType dtype) { return dtype == DType::i32 || dtype == DType::u32; }

// No product of sizes that somebody asked for wraps around.
constexpr int64_t kMostElements = int64_t{1} << 48;

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  bool fits = true;
  for (const int64_t extent : shape)
    fits = fits && !__builtin_mul_overflow(count, extent, &count) && count <= kMostElements;
  check(fits, "a tensor of shape {} has more than {} elements", to_string(shape), kMostElements);
  return count;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides(shape.size());
  int64_t step = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis > 0) text += ',';
    text += std::to_string(shape[axis]);
  }
  return text + ']';
}

std::string to_string(const Type& type) { return name(type.dtype) + to_string(type.shape); }

bool reshape_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& result) {
  ensure(from.size() == strides.size(), "reshape_strides: {} extents, {} strides", from.size(), strides.size());
  if (element_count(from) != element_count(to)) return false;
  Shape old_shape;
  Strides old_strides;
  for (size_t axis = 0; axis < from.size(); ++axis) {
    if (from[axis] == 1) continue;
    old_shape.push_back(from[axis]);
    old_strides.push_back(strides[axis]);
  }
  result.assign(to.size(), 0);
  size_t old_first = 0;
  size_t new_first = 0;
  // Match the shortest runs of axes with equal products; a run of source axes must be one stride
  // apart.
  while (old_first < old_shape.size()) {
    while (to[new_first] == 1) ++new_first;
    size_t old_last = old_first + 1;
    size_t new_last = new_first + 1;
    int64_t old_product = old_shape[old_first];
    int64_t new_product = to[new_first];
    while (old_product != new_product) {
      if (old_product < new_product) {
        old_product *= old_shape[old_last++];
      } else {
        new_product *= to[new_last++];
      }
    }
    for (size_t axis = old_first; axis + 1 < old_last; ++axis) {
      if (old_strides[axis] != old_strides[axis + 1] * old_shape[axis + 1]) return false;
    }
    int64_t step = old_strides[old_last - 1];
    for (size_t axis = new_last; axis-- > new_first;) {
      result[axis] = step;
      step *= to[axis];
    }
    old_first = old_last;
    new_first = new_last;
  }
  return true;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view what) {
  const size_t rank = std::max(a.size(), b.size());
  Shape result(rank);
  for (size_t back = 1; back <= rank; ++back) {
    const int64_t left = back <= a.size() ? a[a.size() - back] : 1;
    const int64_t right = back <= b.size() ? b[b.size() - back] : 1;
    check(left == right || left == 1 || right == 1, "[{}] shapes {} and {} do not broadcast", what, to_string(a),
          to_string(b));
    result[rank - back] = std::max(left, right);
  }
  return result;
}

}  // namespace surtsey::graph
