// Products of few rows with a wide matrix whose rows lie along K, as decoding has them: reading the matrix is all the
// time they take.
#pragma once

#include <cstdint>

namespace surtsey::graph {

// Rows of all texts that are decoded at once, columns and inner axis from which on tiles would leave a GPU idle.
inline constexpr int64_t kFewRows = 8;
inline constexpr int64_t kFewRowsColumns = 32;
inline constexpr int64_t kFewRowsInner = 64;

// [m, k] @ [k, n], the matrix transposed in memory or unpacked on load. On targets with workgroups of shared tiles such
// a product is added up along K by all lanes of a workgroup (shaders/matmul_rows.cpp), whatever the number of rows in
// the same order, and its inner axis is not cut into products of their own before.
inline bool has_few_rows(int64_t m, int64_t n, int64_t k) {
  return m <= kFewRows && n >= kFewRowsColumns && k >= kFewRowsInner;
}

}  // namespace surtsey::graph
