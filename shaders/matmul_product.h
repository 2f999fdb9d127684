// A product as its kernels see it, whatever the variant: extents, operands, results, and the operands' own sums over K.
#pragma once

#include "shaders/writer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace surtsey::shaders {

// C[z, m, n] = sum over k of A[z, m, k] B[z, k, n]; operands are any expressions, their layout is in their strides.
// Several products of the same A by matrices B of one form are computed side by side (fuse).
struct MatmulProduct {
  explicit MatmulProduct(Writer& writer);

  graph::Index a_index(const graph::Affine& row, const graph::Affine& inner) { return batched(row, inner); }
  graph::Index b_index(const graph::Affine& inner, const graph::Affine& column) { return batched(inner, column); }

  graph::Value right(size_t product) const { return w.graph().node(products[product]).inputs[1]; }
  // GLSL for the results of all products at the element at hand.
  void bind(const std::vector<std::string>& accumulators);

  // Stores the sums of a side at its row or column, which is defined here.
  void store_sums(size_t side, const std::string& accumulator);

  // Sums over K of the rows of A (0) or the columns of B (1) that are computed along with the product.
  struct Side {
    std::vector<uint32_t> sums;
    std::vector<size_t> outputs;  // of the kernel
  };

  Writer& w;
  graph::LoopIndex loop;
  graph::Value a, b;               // of the first product
  std::vector<uint32_t> products;  // their nodes; the kernel's anchor is the first
  int64_t m, n, k, batch;
  graph::Shape batch_shape;
  Side sides[2];
  std::vector<uint32_t> statistics;  // reductions of A's rows that A itself is computed from (join_statistics)
  std::vector<size_t> outputs;       // of the kernel: those of the product's size
  bool plain = false;                // the product is stored as it is, and nothing else of its size

 private:
  graph::Index batched(const graph::Affine& second_last, const graph::Affine& last);
};

}  // namespace surtsey::shaders
