#include "graph/passes/lowering.h"
#include "graph/rewrite.h"

#include <cmath>
#include <unordered_map>

namespace surtsey::graph {
namespace {

constexpr double kLargestF16 = 65504;

class Narrower {
 public:
  explicit Narrower(Lowering& lowering) : l_(lowering), graph_(*lowering.program.graph) {}

  void run() {
    l_.narrow.assign(graph_.size(), false);
    find_what_feeds_matmuls();
    keep_wide();
    for (uint32_t n = 0; n < graph_.size(); ++n) {
      const Node& node = graph_.node(n);
      const bool stored = l_.home[n] != kNone || (node.op == Op::concat && is_terminal(l_, n));
      if (!stored || !feeds_[n] || wide_[n] || node.types[0].dtype != DType::f32) continue;
      const Family family = definition(node.op).family;
      // A scatter adds up in memory.
      if (family == Family::reduce || node.op == Op::scatter_add ||
          (family == Family::region && node.types[0].shape.back() == 1))
        continue;
      if (l_.storage == DType::f16 && leaves_f16(n)) continue;
      l_.narrow[n] = true;
    }
    copy_weights();
  }

 private:
  void find_what_feeds_matmuls() {
    feeds_.assign(graph_.size(), false);
    for (uint32_t n = graph_.size(); n-- > 0;) {
      const Family family = definition(graph_.node(n).op).family;
      if (family != Family::matmul && family != Family::region && !feeds_[n]) continue;
      for (const Value& input : graph_.node(n).inputs) feeds_[input.node] = true;
    }
  }

  // What is handed out or assigned, and what whole rows share: statistics of a row (a mean, a log-sum-exp) cost few
  // bytes and would carry their error into every element.
  void keep_wide() {
    wide_.assign(graph_.size(), false);
    for (const Value& root : roots(l_.program)) wide_[behind_views(graph_, root.node)] = wide_[root.node] = true;
    for (const uint32_t n : reachable(graph_, roots(l_.program))) {
      const Node& node = graph_.node(n);
      if (node.op != Op::broadcast) continue;
      const Shape& from = node.inputs[0].shape();
      if (from.empty() || (from.back() == 1 && node.types[0].shape.back() != 1)) keep_wide(node.inputs[0].node);
    }
  }

  void keep_wide(uint32_t n) {
    std::set<uint32_t> terminals;
    collect_value(l_, n, terminals);
    for (const uint32_t t : terminals) wide_[t] = true;
  }

  // Does the expression of n put a constant in place of some elements that f16 turns into an infinity? A mask of the
  // index alone (causal attention) may: it leaves something of every row, and the exponential of minus infinity is 0.
  // One that is read from memory may mask a whole row, which then must not become infinity minus infinity.
  bool leaves_f16(uint32_t n) {
    // Known of each node once; a shared part of an expression is on many paths.
    if (const auto known = leaves_f16_.find(n); known != leaves_f16_.end()) return known->second;
    return leaves_f16_[n] = may_leave_f16(n);
  }

  bool may_leave_f16(uint32_t n) {
    const Node& node = graph_.node(n);
    if (node.op == Op::select) {
      const uint32_t condition = node.inputs[0].node;
      std::set<uint32_t> read;
      collect_value(l_, condition, read);
      const bool from_memory = !read.empty();
      for (const size_t branch : {1, 2}) {
        const Node& value = graph_.node(behind_views(graph_, node.inputs[branch].node));
        if (from_memory && value.op == Op::constant && std::abs(std::get<LeafAttr>(value.attr).value) > kLargestF16)
          return true;
      }
    }
    for (const Value& input : node.inputs)
      if (!is_terminal(l_, input.node) && leaves_f16(input.node)) return true;
    return false;
  }

  // State that the operands of several matmuls are views of, which is weights: their kernels read a copy.
  void copy_weights() {
    std::map<uint32_t, std::vector<uint32_t>> readers;
    for (uint32_t g = 0; g < l_.groups.size(); ++g) {
      if (l_.groups[g].archetype != Archetype::matmul) continue;
      for (const uint32_t m : l_.groups[g].members) {
        if (graph_.node(m).op != Op::matmul) continue;
        for (const Value& operand : graph_.node(m).inputs) {
          const uint32_t base = behind_views(graph_, operand.node);
          if (graph_.node(base).op == Op::parameter) readers[base].push_back(g);
        }
      }
    }
    for (const auto& [parameter, groups] : readers) {
      if (groups.size() < 2) continue;
      const uint32_t copy = add_copy_group(l_, {l_.program.graph.get(), parameter, 0});
      l_.weight_copies[parameter].group = copy;
      for (const uint32_t g : groups) add_source(l_, g, copy);
    }
  }

  Lowering& l_;
  const Graph& graph_;
  std::vector<bool> feeds_, wide_;
  std::unordered_map<uint32_t, bool> leaves_f16_;
};

}  // namespace

void lower_precision(Lowering& lowering, DType storage) {
  check(storage == DType::f32 || storage == DType::f16 || storage == DType::bf16,
        "[lower_precision] {} stores no activations: f32, f16 and bf16 do", name(storage));
  lowering.storage = storage;
  if (storage == DType::f32) return;
  check(lowering.target.f16_storage,
        "device {} has no 16-bit storage (storageBuffer16BitAccess): {} needs it, use dtype f32", lowering.target.name,
        name(storage));
  Narrower(lowering).run();
}

}  // namespace surtsey::graph
