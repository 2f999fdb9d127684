// Index algebra: sums of loop variables with constant factors. Views (reshape, permute, broadcast, slice) are followed
// by rewriting indices instead of moving data; a split that an outer merge undoes disappears, so a fused kernel pays no
// division it does not need.
#pragma once

#include "graph/graph.h"

#include <string>
#include <vector>

namespace surtsey::graph {

// constant + sum of factor * variable. Terms are sorted by variable, factors are never 0.
struct Affine {
  struct Term {
    uint32_t variable;
    int64_t factor;
    bool operator==(const Term&) const = default;
  };
  std::vector<Term> terms;
  int64_t constant = 0;

  Affine() = default;
  Affine(int64_t c) : constant(c) {}
  bool operator==(const Affine&) const = default;
  bool is_constant() const { return terms.empty(); }
};

using Index = std::vector<Affine>;

class IndexContext {
 public:
  // A variable in [0, extent). Loops, lanes and values read from memory are `free`; the others are derived from an
  // expression.
  enum class Kind : uint8_t { free, quotient, remainder };
  struct Variable {
    std::string name;
    int64_t extent = 1;
    Kind kind = Kind::free;
    Affine of;  // quotient, remainder: of this expression
    int64_t divisor = 1;
  };

  // A new free variable; one of extent 1 is the constant 0.
  Affine variable(std::string name, int64_t extent);

  Affine add(const Affine& a, const Affine& b);
  Affine scale(const Affine& a, int64_t factor);
  Affine divide(const Affine& a, int64_t divisor);  // floor; a must not be negative
  Affine modulo(const Affine& a, int64_t divisor);
  int64_t maximum(const Affine& a) const;  // upper bound, given that every variable is in range

  Affine linearize(const Index& index, const Strides& strides);
  Affine linearize_contiguous(const Index& index, const Shape& shape);
  Index delinearize(const Affine& linear, const Shape& shape);

  // The index of the operand of a movement node that `index` of its result reads. pad: the shifted index, which is
  // outside the operand where the result is padding. Not for concat.
  Index operand_index(const Node& node, const Shape& operand_shape, const Index& index);

  // What an inlined node reads to give its element `index`: each operand with the index there. Elementwise, movement,
  // gather and slice_update; what is known at run time only (the row that is read, a place in the part of a concat) is
  // a fresh variable.
  std::vector<std::pair<Value, Index>> operands(const Node& node, const Index& index);

  const Variable& operator[](uint32_t variable) const { return variables_[variable]; }
  uint32_t size() const { return uint32_t(variables_.size()); }

 private:
  Affine derived(Kind kind, const Affine& of, int64_t divisor);
  void recombine(Affine& a);

  std::vector<Variable> variables_;
};

// Where a gather reads: the element of its index operand, and its table at a row still to be filled in at `axis`.
struct GatherIndex {
  Index table, index;
};
Index start_index(const Node& node, const Index& index);  // of the start of the slice_update `node`
GatherIndex gather_index(const Node& node, const Index& index);

}  // namespace surtsey::graph
