// The op table: one row says what an op is by itself: its types, its meaning in double, its GLSL, its gradient, its
// cost, its tests. Verifier, interpreter, autodiff, emission, tests and documentation read the row.
//
// The rest is known by the op's name, in these places. Who adds an op that is not elementwise meets them:
//   index.cpp            where an element of a view lies in its operand; gather and slice_update likewise
//   vectorize.cpp        family by family, how an axis of members passes through
//   text.cpp             how the attribute of a leaf is written
//   passes/simplify.cpp  identities: x + 0, a permute of a permute
//   passes/*             what is stored, joined or updated in place rather than computed, and what is the anchor of a
//                        kernel: parameters, concats, pads, slice_update, casts, sums, products, scatters
//   shaders/*            iota, pad, gather and slice_update as expressions; argmax, which carries an index
#pragma once

#include "graph/host_tensor.h"
#include "graph/types.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace surtsey::graph {

enum class Family : uint8_t { leaf, elementwise, movement, reduce, matmul, index, state, region };

enum class Op : uint8_t {
  // leaf
  parameter,
  constant,
  iota,
  // elementwise, one operand
  neg,
  abs,
  exp,
  log,
  sqrt,
  rsqrt,
  sin,
  cos,
  tanh,
  erf,
  floor,
  is_finite,
  logical_not,
  cast,
  // elementwise, two operands
  add,
  sub,
  mul,
  div,
  mod,
  max,
  min,
  equal,
  less,
  logical_and,
  logical_or,
  // elementwise, three operands
  select,
  random_bits,
  // movement
  reshape,
  permute,
  broadcast,
  slice,
  pad,
  concat,
  // reduce
  sum,
  reduce_max,
  argmax,
  // matmul
  matmul,
  // index
  gather,
  scatter_add,
  slice_update,
  // state
  assign,
  // region
  region,
  count_
};

struct Region;

struct NoAttr {
  bool operator==(const NoAttr&) const = default;
};
// concat, slice_update
struct AxisAttr {
  int64_t axis;
  bool operator==(const AxisAttr&) const = default;
};
// permute (source axis of each result axis), reductions (sorted)
struct AxesAttr {
  std::vector<int64_t> axes;
  bool operator==(const AxesAttr&) const = default;
};
// cast, reshape, broadcast: the result type
struct TypeAttr {
  Type type;
  bool operator==(const TypeAttr&) const = default;
};
// slice: half-open, step 1
struct SliceAttr {
  Shape start, stop;
  bool operator==(const SliceAttr&) const = default;
};
// pad: extra elements, >= 0
struct PadAttr {
  Shape low, high;
  double value;
  bool operator==(const PadAttr&) const = default;
};
// see gather() in graph.h
struct GatherAttr {
  int64_t axis, batch;
  bool operator==(const GatherAttr&) const = default;
};
struct ScatterAttr {
  int64_t rows, batch;
  bool operator==(const ScatterAttr&) const = default;
};
struct RegionAttr {
  std::shared_ptr<const Region> region;
  bool operator==(const RegionAttr&) const = default;
};
struct LeafAttr {  // parameter, constant, iota: the result type and what fills it
  Type type;
  std::string name;  // parameter
  double value = 0;  // constant
  int64_t axis = 0;  // iota: the index along this axis
  bool operator==(const LeafAttr&) const = default;
};
using Attr = std::variant<NoAttr, LeafAttr, AxisAttr, AxesAttr, TypeAttr, SliceAttr, PadAttr, GatherAttr, ScatterAttr,
                          RegionAttr>;

class Graph;
struct Value;
struct Node;

// One case of the op suite: operand types, attribute, operand ranges. Values are drawn uniformly from [low, high).
struct Sample {
  std::vector<Type> inputs;
  Attr attr = NoAttr{};
  double low = -2, high = 2;
  // Per operand, where the common range does not serve; empty: [low, high) for all.
  std::vector<std::pair<double, double>> ranges;
};

struct OpDef {
  Op op;
  const char* name;
  Family family;
  int arity;        // number of operands, -1: any
  const char* doc;  // one line, for `surtsey ops`
  // Elementwise: the GLSL expression with $0 $1 $2 for the operands (already parenthesised as needed) and $t for the
  // GLSL type of the result. And the same in double.
  // Integers travel in doubles and must wrap as 32-bit integers do; `dtype` is the type of the first operand ($0).
  // Reductions: the GLSL statement that takes the value $1 (of index $3, where results are indices) into the
  // accumulator $0 (and its index $2).
  const char* glsl = nullptr;
  bool calls_helpers = false;  // it calls functions of ops/glsl_helpers.h
  double (*scalar)(const double* x, DType dtype) = nullptr;
  // Reductions: what the accumulator is before the first value, for operands of this type.
  double (*identity)(DType dtype) = nullptr;
  // Result types; UserError with a message such as `[matmul] inner dimensions differ: f32[8,64] @ f32[32,8]`.
  std::vector<Type> (*infer)(std::span<const Type> inputs, const Attr& attr) = nullptr;
  // Vector-Jacobian products: one per operand, an empty Value where the operand takes no gradient. Null: not
  // differentiable (integers, comparisons). `out` is the node's first result, `g` the gradient of the loss with respect
  // to it.
  std::vector<Value> (*gradient)(std::span<const Value> inputs, const Attr& attr, Value out, Value g) = nullptr;
  // Meaning for the interpreter where it is not elementwise.
  HostTensor (*interpret)(std::span<const HostTensor* const> inputs, const Attr& attr, const Type& type) = nullptr;
  // Tolerance on a device against the double interpreter: |difference| <= absolute + relative * |reference|. 0, 0:
  // bit-equal to the reference rounded to the storage type.
  double absolute = 0, relative = 0;
  // What an element costs, in additions: fusion computes cheap things twice rather than store them. 8: a
  // transcendental.
  int work = 1;
  std::vector<Sample> samples = {};
};

const OpDef& definition(Op op);
// Whether every element of the result is one of the only operand's (of a pad: or its value). A concat has several.
bool is_view(Op op);
std::span<const OpDef> op_table();  // in the order of the enumerators
const OpDef* find_op(std::string_view name);

}  // namespace surtsey::graph
