// Between the graph and the plan: which nodes share a kernel (fuse), where their values are stored (place_state and
// on), in which order kernels run (order). Internal to compile().
#pragma once

#include "graph/index.h"
#include "graph/plan.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace surtsey::graph {

inline constexpr uint32_t kNone = ~0u;

// A kernel in the making.
struct Group {
  Archetype archetype = Archetype::pointwise;
  uint32_t anchor = kNone;  // the first node: the matmul, the first reduction, the first elementwise node
  Shape space;              // the loops, as in Kernel
  std::vector<int64_t> reduced;
  std::vector<uint32_t> members;  // nodes whose home is here, in topological order
  std::vector<Value> copies;  // values of elsewhere that this kernel stores as they are (state copies, concat parts)
  std::set<uint32_t>
      sources;  // groups that must run before: this one reads what they store, or overwrites what they read
  std::vector<bool> depends;  // transitive closure of sources
};

// One place a value is written to. A value may have several; the first is where others read it.
struct Store {
  Value value;
  uint32_t group = kNone;
  View view;
  Moved moved = {};
};

// A parameter as matmuls read it when activations are narrow.
struct WeightCopy {
  uint32_t group = kNone;  // that writes it
  View view;
};

struct Lowering {
  Program program;
  Target target;
  std::vector<Group> groups;
  std::vector<uint32_t> home;  // node -> group that computes it, kNone: inlined where it is used
  std::vector<Store> stores;
  std::map<uint32_t, View> location;   // node -> where readers find it (parameters, stored members, concats)
  std::set<uint32_t> inlined_concats;  // that lie nowhere: whoever reads an element computes it
  std::set<uint32_t> windows;  // slice_updates of state that write their window in place; their home only copies
  std::map<std::pair<uint32_t, size_t>, uint32_t>
      part_copies;                               // (concat, part) -> the group that copies the part into place
  DType storage = DType::f32;                    // of activations
  std::vector<bool> narrow;                      // node -> stored in `storage` instead of its own type; empty: none is
  std::map<uint32_t, WeightCopy> weight_copies;  // parameter -> its copy in `storage`
  std::vector<Buffer> buffers;
  std::vector<uint32_t> sequence;  // groups in the order they run
};

// InternalError when the groups disagree with `home`; when one does not wait for who writes what it reads, or waits for
// itself; when a value leaves its buffer; and, once they are in order, when one runs before its sources or reads what
// has no place.
void verify(const Lowering& lowering);
// A line a kernel, a buffer, a store, and a place where values are read; nodes by their number in the program.
std::string print(const Lowering& lowering);

// Has a kernel or a buffer of its own: where following an inlined expression ends.
inline bool is_terminal(const Lowering& lowering, uint32_t n) {
  const Op op = lowering.program.graph->node(n).op;
  return lowering.home[n] != kNone || op == Op::parameter ||
         (op == Op::concat && !lowering.inlined_concats.contains(n));
}

// The terminals behind elements of values, each with the index it is read at. Every node is followed once at an index:
// an expression is a graph, and one that uses its parts twice has as many paths as 2 to the number of its levels.
template <typename Visit>
class Walk {
 public:
  Walk(const Lowering& lowering, IndexContext& context, const Visit& visit)
      : lowering_(lowering), graph_(*lowering.program.graph), context_(context), visit_(visit) {}

  void value(uint32_t n, const Index& index) {
    std::vector<Index>& at = seen_[n];
    if (std::find(at.begin(), at.end(), index) != at.end()) return;
    at.push_back(index);
    if (is_terminal(lowering_, n)) {
      visit_(n, index);
    } else if (definition(graph_.node(n).op).family != Family::leaf) {
      expression(n, index);
    }
  }

  void expression(uint32_t n, const Index& index) {
    for (const auto& [operand, at] : context_.operands(graph_.node(n), index)) value(operand.node, at);
  }

 private:
  const Lowering& lowering_;
  const Graph& graph_;
  IndexContext& context_;
  const Visit& visit_;
  std::unordered_map<uint32_t, std::vector<Index>> seen_;
};

// Follows what somebody reads who wants element `index` of the value of node n: the terminals behind it, n itself where
// it is one. visit(node, index) for each.
template <typename Visit>
void walk_value(const Lowering& lowering, IndexContext& context, uint32_t n, const Index& index, const Visit& visit) {
  Walk<Visit>(lowering, context, visit).value(n, index);
}

// The same for whoever computes element `index` of node n: the terminals that its operands lead to.
template <typename Visit>
void walk_expression(const Lowering& lowering, IndexContext& context, uint32_t n, const Index& index,
                     const Visit& visit) {
  Walk<Visit>(lowering, context, visit).expression(n, index);
}

// Both without an index: the terminals alone.
void collect_value(const Lowering& lowering, uint32_t n, std::set<uint32_t>& found);
void collect_expression(const Lowering& lowering, uint32_t n, std::set<uint32_t>& found);

// Would reduction n pass over its operand as the reductions of group g do: the same rows, each in the same order?
bool same_loops(const Lowering& lowering, uint32_t n, uint32_t g);

// The nodes that the kernel of group g loads, each one binding: stored values of elsewhere, each view of one a load of
// its own. At most so many bindings, as views that strides cannot express load what is behind them.
std::set<uint32_t> loads_of(const Lowering& lowering, uint32_t g);

// Adds an edge and keeps the closure. `source` must not depend on g.
void add_source(Lowering& lowering, uint32_t g, uint32_t source);

// A new group with no members, and nothing that it waits for.
uint32_t add_group(Lowering& lowering, Archetype archetype, uint32_t anchor, const Shape& space,
                   std::vector<int64_t> reduced);

// A kernel that stores `value`, an elementwise expression or view of elsewhere, as it is.
uint32_t add_copy_group(Lowering& lowering, const Value& value);

// The groups whose stores hold the value of terminal n (none for parameters).
std::set<uint32_t> writers(const Lowering& lowering, uint32_t n);

// Strides for the value behind a chain of reshapes and permutes such that the chain's end lies as `view` says; none
// when there are none.
std::optional<View> view_behind(const Graph& graph, uint32_t n, View view);

// Where part i of a concat lies in its buffer.
View concat_region(const Graph& graph, uint32_t concat, size_t part, const View& all);

// Groups nodes into kernels. Everything elementwise is inlined into its only user, joins the kernel of an operand
// (epilogue), or starts a kernel of its own; reductions over the same loops share a kernel; matmuls anchor theirs.
// Never makes a cycle.
Lowering fuse(const Program& program, const Target& target);

// What a few rows are normalised by becomes part of the kernel of the product that alone reads them. Of programs
// without a backward pass. After fuse.
void join_statistics(Lowering& lowering);

// Stores activations, and copies of the weights that several matmuls read, in f16 or bf16. Storage only: arithmetic is
// f32, a value is rounded where it is stored, and the kernel that computes it goes on with what it has. An activation
// is what feeds a matmul, forward or backward; gradients of parameters, parameters, outputs, assigned values, results
// of reductions and what rows share stay f32. After fuse, which decides what is stored, and before place_state.
// DType::f32 changes nothing. UserError when the target has no 16-bit storage.
void lower_precision(Lowering& lowering, DType storage);

// The three passes that decide where every stored value lives, in this order.
// Parameters, outputs and new values of state: in place where every reader of the old value runs before, else copied.
void place_state(Lowering& lowering);
// Concats that kernels read: each part directly into its region, where strides can say it, else copied.
void place_concats(Lowering& lowering);
// Everything else that one kernel hands to another, in a buffer of its own.
void place_transients(Lowering& lowering);

// A topological order that follows the order of the graph, which keeps producers near their users.
void order(Lowering& lowering);

// Kernels, dispatches and exact byte ranges from groups that are ordered and placed.
Plan build_plan(const Lowering& lowering);

// Offsets of the transient buffers: dead ranges are used again. Memory comes in blocks of at most `block` bytes.
void plan_memory(Plan& plan, uint64_t block);

// plan_memory() within a limit: kernels are emitted again, just before a value's next reader, so that it need not wait
// in memory; the same values bit for bit. Greedy, by bytes and time saved for what is computed again. Instead of
// plan_memory(). UserError when the limit cannot be met: what could be.
void fit_memory(Plan& plan, const MemoryLimit& limit, uint64_t block);

}  // namespace surtsey::graph
