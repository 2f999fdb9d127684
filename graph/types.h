// Element types, shapes and strides.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::graph {

// f16 and bf16 are storage types: arithmetic on them is done in f32 and rounded when stored or cast.
enum class DType : uint8_t { f32, i32, u32, boolean, f16, bf16 };

using Shape = std::vector<int64_t>;    // extents, outermost first; {} is a scalar
using Strides = std::vector<int64_t>;  // in elements, one per dimension; 0 repeats

struct Type {
  DType dtype = DType::f32;
  Shape shape;
  bool operator==(const Type&) const = default;
};

const char* name(DType dtype);
DType dtype_from_name(std::string_view name);  // UserError when there is no such type
int64_t storage_bytes(DType dtype);            // boolean is stored as a 32-bit word
bool is_float(DType dtype);
bool is_integer(DType dtype);  // i32, u32

int64_t element_count(const Shape& shape);
Strides contiguous_strides(const Shape& shape);
std::string to_string(const Shape& shape);  // [8,64]
std::string to_string(const Type& type);    // f32[8,64]

// Strides that show `from` (laid out with `strides`) under the shape `to` without moving data; false when no strides
// do.
bool reshape_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& result);

// numpy's rule: align right, extents equal or 1. UserError names `what` when they do not fit.
Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view what);

}  // namespace surtsey::graph
