// A kernel: a cluster of graph nodes that one dispatch computes. Fusion exists only here; the graph never learns of
// fused ops.
#pragma once

#include "graph/index.h"

#include <optional>
#include <string>
#include <vector>

namespace surtsey::graph {

// How the loops of a kernel are written. Each has named holes filled by expressions over the graph's nodes.
//   pointwise  one lane per element of `space`; every output is a function of its index
//   reduce     rows over the kept axes of `space`, a loop over the reduced ones, in stages: later reductions may use
//              earlier ones
//   matmul     an anchor matmul node; operand prologues on load, elementwise epilogue at the store
//   attention  claimed regions of one attention (attention.h); its members are what is stored
//   scatter    an anchor scatter_add: blocks of rows of the result, each added up by one workgroup in the order of
//              the index
enum class Archetype : uint8_t { pointwise, reduce, matmul, attention, scatter };

// Its loops are its own: nothing joins the kernel but what it was made for.
inline bool is_closed(Archetype archetype) {
  return archetype == Archetype::attention || archetype == Archetype::scatter;
}

// Where a value lives: a strided region of a buffer of the plan. Offsets and strides are in elements.
struct View {
  uint32_t buffer = 0;
  DType dtype = DType::f32;
  Shape shape;
  Strides strides;
  int64_t offset = 0;
};

// How far a view is moved at run time: by min(start, last) * stride elements. For a slice_update of state in place,
// which writes its window and nothing else.
struct Moved {
  Value start;  // u32 [], or of the view's first axes; empty: the view stays where it is
  int64_t last = 0;
  int64_t stride = 0;
};

struct KernelOperand {
  Value value;  // the value read or written
  View view;
  Moved moved = {};  // outputs only
};

struct Kernel {
  std::string name;  // readable, shown by the profiler: matmul_nt_64x32x512_gelu
  Archetype archetype = Archetype::pointwise;
  Value anchor;                  // matmul, scatter: that node; attention: the first region; else empty
  Shape space;                   // the loops; matmul: the shape of the product; attention, scatter: of the first result
  std::vector<int64_t> reduced;  // reduce: which axes of `space` are reduced
  std::vector<uint32_t>
      members;  // nodes computed here and (some) stored, in topological order; other nodes are inlined
  std::vector<uint32_t> inlined;       // of those, what is computed here: expressions and views, in topological order
  std::vector<KernelOperand> inputs;   // values stored elsewhere that this kernel reads
  std::vector<KernelOperand> outputs;  // members that are stored
  uint64_t flops = 0;                  // multiply-adds count two
  uint64_t matmul_flops = 0;           // of them, in products: 2 * M * N * K * batch
  uint64_t bytes = 0;                  // logical: each operand once
};

const char* name(Archetype archetype);

// Every graph node that the kernel computes, stores or copies, in topological order: what it was made from.
std::vector<uint32_t> origins(const Kernel& kernel);

// The canonical index of a kernel's loops: flat variables and the flat index of a full-space element in terms of them.
//   pointwise  i                      full = i; so for closed archetypes, whose loops nobody joins
//   reduce     r, k                   full = position of (r, k) in `space`; row = r
//   matmul     z, m, n                full = (z * M + m) * N + n
struct LoopIndex {
  Affine first, second, third;
  Affine full;
  Affine row;  // reduce only
  int64_t full_count = 0;
  int64_t row_count = 0;  // reduce only
};
LoopIndex loop_index(IndexContext& context, Archetype archetype, const Shape& space,
                     const std::vector<int64_t>& reduced);
// The flat index in the space of a reduction's element, at a row and a column of it.
Affine reduced_element(IndexContext& context, const Shape& space, const std::vector<int64_t>& reduced,
                       const Affine& row, const Affine& column);

// The computed or stored node behind a chain of views.
uint32_t behind_views(const Graph& graph, uint32_t n);

// Which operand of a matmul the sum `n` adds up over exactly the product's inner axis: 0 the rows of A, 1 the columns
// of B (a bias gradient, beside the gradient of its weight). None otherwise. Its element (z * extent + i) belongs to
// row or column i of product z.
std::optional<size_t> summed_operand(const Graph& graph, uint32_t matmul, uint32_t n);

}  // namespace surtsey::graph
