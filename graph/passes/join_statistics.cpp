// What the rows of a product are normalised by (the mean square of an RMSNorm, the mean and variance of a LayerNorm) is
// added up in the product's kernel, where the rows are few.
//
// fuse gives it a kernel of its own, a row kernel that stores what it makes of the rows. Of a few rows that is a launch
// for nearly no work: each workgroup of the product adds it up for itself instead, in the same order
// (shaders/matmul.cpp), and the rows are normalised where they are loaded.
#include "graph/few_rows.h"
#include "graph/passes/lowering.h"
#include "graph/passes/placement.h"
#include "graph/passes/uses.h"
#include "graph/rewrite.h"

#include <algorithm>

namespace surtsey::graph {
namespace {

// Work (OpDef::work) that is done for each element of the rows wherever they are loaded, again for every tile.
constexpr int kLoadedWork = 6;
// Elements of the product's matrices from where on reading the rows so often costs more than a launch.
constexpr int64_t kMostElements = 4 << 20;

class Joiner {
 public:
  explicit Joiner(Lowering& lowering)
      : l_(lowering), graph_(*lowering.program.graph), uses_(count_uses(lowering.program)) {}

  void run() {
    const Target& target = l_.target;
    // Elsewhere lanes share a row of a reduction, and tiles a product's rows.
    if (!target.fusion || uses_.trains || target.matmul_variant() != MatmulVariant::lane_broadcast ||
        target.reduce_variant() != ReduceVariant::lane_per_row)
      return;
    find_readers();
    for (uint32_t g = 0; g < l_.groups.size(); ++g) {
      if (!is_small_product(g)) continue;
      std::set<uint32_t> read;
      collect_value(l_, rows_of(g).node, read);
      std::set<uint32_t> homes;
      for (const uint32_t t : read)
        if (l_.home[t] != kNone) homes.insert(l_.home[t]);
      for (const uint32_t r : homes)
        if (may_join(r, g)) join(r, g);
    }
  }

 private:
  const Node& node(uint32_t n) const { return graph_.node(n); }
  Family family(uint32_t n) const { return definition(node(n).op).family; }
  int64_t elements(uint32_t n) const { return element_count(node(n).types[0].shape); }
  const Value& rows_of(uint32_t g) const { return node(l_.groups[g].anchor).inputs[0]; }

  void find_readers() {
    readers_.resize(l_.groups.size());
    for (uint32_t g = 0; g < l_.groups.size(); ++g)
      for (const uint32_t t : terminals_read(l_, g))
        if (l_.home[t] != kNone) readers_[l_.home[t]].insert(g);
    for (const Value& root : roots(l_.program)) collect_value(l_, root.node, kept_);
  }

  // Few rows, of which a lane has one, by matrices that are soon read; nothing is added up in it so far.
  bool is_small_product(uint32_t g) const {
    const Group& group = l_.groups[g];
    if (group.archetype != Archetype::matmul || group.space.size() != 2) return false;
    const int64_t m = group.space[0], n = group.space[1];
    int64_t products = 0;
    for (const uint32_t member : group.members) {
      if (family(member) == Family::reduce) return false;
      products += family(member) == Family::matmul;
    }
    return m <= std::min<int64_t>(kFewRows, l_.target.subgroup_size) &&
           products * n * rows_of(g).dim(-1) <= kMostElements;
  }

  // A row of the reduction, or an element of its space.
  bool is_row(uint32_t r, uint32_t n) const { return family(n) == Family::reduce || elements(n) == rows(r); }
  int64_t rows(uint32_t r) const {
    int64_t count = 1;
    const Group& group = l_.groups[r];
    for (size_t d = 0; d < group.space.size(); ++d)
      if (std::find(group.reduced.begin(), group.reduced.end(), int64_t(d)) == group.reduced.end())
        count *= group.space[d];
    return count;
  }

  bool may_join(uint32_t r, uint32_t g) {
    const Group &reduction = l_.groups[r], &product = l_.groups[g];
    const int64_t m = product.space[0], k = rows_of(g).dim(-1);
    if (reduction.archetype != Archetype::reduce || !reduction.copies.empty() || readers_[r] != std::set<uint32_t>{g})
      return false;
    if (rows(r) != m || element_count(reduction.space) != m * k || k == 1) return false;
    for (const uint32_t n : reduction.members) {
      const Op op = node(n).op;
      if (kept_.count(n) != 0 || uses_.extra_stores[n] > 0) return false;
      if (family(n) == Family::reduce && op != Op::sum && op != Op::reduce_max) return false;
      if (family(n) != Family::reduce && family(n) != Family::elementwise) return false;
    }
    return is_read_by_rows_alone(r, g) && reads_own_rows(r, g) && loaded_work(r, g) <= kLoadedWork;
  }

  // Matrices and the epilogue read nothing of it.
  bool is_read_by_rows_alone(uint32_t r, uint32_t g) const {
    std::set<uint32_t> others;
    for (const uint32_t member : l_.groups[g].members) {
      if (family(member) != Family::matmul) {
        collect_expression(l_, member, others);
      } else {
        collect_value(l_, node(member).inputs[1].node, others);
      }
    }
    return std::none_of(others.begin(), others.end(), [&](uint32_t t) { return l_.home[t] == r; });
  }

  // Row i of the product's rows is made from row i of the reduction.
  bool reads_own_rows(uint32_t r, uint32_t g) const {
    IndexContext context;
    const Value& rows = rows_of(g);
    const int64_t k = rows.dim(-1);
    const Affine row = context.variable("row", rows.dim(-2)), column = context.variable("column", k);
    const Affine element = context.add(context.scale(row, k), column);
    bool good = true;
    walk_value(l_, context, rows.node, Index{row, column}, [&](uint32_t t, const Index& at) {
      if (l_.home[t] != r) return;
      const Affine place = context.linearize_contiguous(at, node(t).types[0].shape);
      good = good && place == (is_row(r, t) ? row : element);
    });
    return good;
  }

  // Of what is computed for each element of the rows once they are normalised where they are loaded.
  int loaded_work(uint32_t r, uint32_t g) const {
    std::set<uint32_t> seen;
    std::vector<uint32_t> left = {rows_of(g).node};
    int work = 0;
    while (!left.empty()) {
      const uint32_t n = left.back();
      left.pop_back();
      const bool unfolds = l_.home[n] == r && !is_row(r, n);
      if (!seen.insert(n).second || (is_terminal(l_, n) && !unfolds)) continue;
      work += family(n) == Family::elementwise ? definition(node(n).op).work : 0;
      for (const Value& input : node(n).inputs) left.push_back(input.node);
    }
    return work;
  }

  // Values of rows become members of the product's kernel, elements of rows part of the expression that it loads. The
  // reduction's kernel is left with nothing to do, and is not built.
  void join(uint32_t r, uint32_t g) {
    Group &reduction = l_.groups[r], &product = l_.groups[g];
    const std::vector<uint32_t> before = product.members, moved = reduction.members;
    std::vector<uint32_t> members;
    for (const uint32_t n : moved) {
      l_.home[n] = is_row(r, n) ? g : kNone;
      if (is_row(r, n)) members.push_back(n);
    }
    members.insert(members.end(), before.begin(), before.end());
    product.members = std::move(members);
    reduction.members.clear();
    if (bindings(g) <= l_.target.max_bindings()) {
      for (const uint32_t source : std::set<uint32_t>(reduction.sources)) add_source(l_, g, source);
      return;
    }
    product.members = before;
    reduction.members = moved;
    for (const uint32_t n : moved) l_.home[n] = r;
  }

  // At most: each member that is not a row's may be stored wherever it is wanted.
  size_t bindings(uint32_t g) const {
    size_t count = loads_of(l_, g).size();
    for (const uint32_t n : l_.groups[g].members)
      if (elements(n) == element_count(l_.groups[g].space)) count += size_t(std::max(1, uses_.extra_stores[n]));
    return count;
  }

  Lowering& l_;
  const Graph& graph_;
  const Uses uses_;
  std::vector<std::set<uint32_t>> readers_;  // group -> those that read its members
  std::set<uint32_t> kept_;                  // what the program leaves behind
};

}  // namespace

void join_statistics(Lowering& lowering) { Joiner(lowering).run(); }

}  // namespace surtsey::graph
