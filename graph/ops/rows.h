// The rows of the op table, by file. op.cpp puts them in the order of the enumerators.
#pragma once

#include "graph/error.h"
#include "graph/graph.h"

#include <vector>

namespace surtsey::graph {

std::vector<OpDef> leaf_rows();  // leaves, assign and region
std::vector<OpDef> elementwise_rows();
std::vector<OpDef> movement_rows();
std::vector<OpDef> reduce_rows();
std::vector<OpDef> matmul_rows();
std::vector<OpDef> index_rows();

// The attribute as the kind that a rule needs; UserError when it is another one.
template <typename T>
const T& attribute(const Attr& attr) {
  const T* found = std::get_if<T>(&attr);
  check(found != nullptr, "the attribute is of the wrong kind");
  return *found;
}

inline Type f32_type(Shape shape) { return Type{DType::f32, std::move(shape)}; }
inline Type i32_type(Shape shape) { return Type{DType::i32, std::move(shape)}; }
inline Type u32_type(Shape shape) { return Type{DType::u32, std::move(shape)}; }
inline Type boolean_type(Shape shape) { return Type{DType::boolean, std::move(shape)}; }

}  // namespace surtsey::graph
