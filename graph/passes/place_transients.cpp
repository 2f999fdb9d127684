#include "graph/passes/placement.h"
#include "graph/rewrite.h"

#include <algorithm>

namespace surtsey::graph {
namespace {

// Stands among readers for whoever reads outputs and new values of state.
constexpr uint32_t kOutside = kNone;

class TransientPlacer {
 public:
  explicit TransientPlacer(Lowering& lowering) : l_(lowering), graph_(*lowering.program.graph) {
    const std::vector<Value> wanted = roots(l_.program);
    for (const uint32_t n : reachable(graph_, wanted))
      for (const Value& input : graph_.node(n).inputs) {
        users_[input.node].insert(n);
        if (l_.home[input.node] != kNone && l_.home[n] != l_.home[input.node]) outside_users_[input.node].insert(n);
      }
    for (const Value& root : wanted) {
      users_[root.node].insert(kOutside);
      outside_users_[root.node].insert(kOutside);
    }
  }

  void run() {
    for (const uint32_t n : terminals_read(l_)) {
      if (l_.location.count(n)) continue;
      ensure(l_.home[n] != kNone, "node {} is read but nothing computes it", n);
      if (!store_permuted(n)) add_store(l_, value_of(l_, n), l_.home[n], layout(n));
    }
  }

 private:
  bool is(uint32_t user, Op op) const { return user != kOutside && graph_.node(user).op == op; }

  // A buffer for node n. Read only through one permute, it is laid out so that its reader finds it contiguous; claimed
  // attention does not count, as it reads any layout.
  View layout(uint32_t n) {
    const Type type = stored_type(l_, n);
    const View plain = add_transient(l_, n, type);
    const auto found = outside_users_.find(n);
    if (found == outside_users_.end()) return plain;
    std::set<uint32_t> users = found->second;
    std::erase_if(users, [&](uint32_t user) { return is(user, Op::region); });
    if (users.size() != 1 || !is(*users.begin(), Op::permute)) return plain;
    const uint32_t permute = *users.begin();
    return *view_behind(graph_, permute, whole(plain.buffer, {type.dtype, graph_.node(permute).types[0].shape}));
  }

  // Heads of queries, keys and values: a projection [B, T, 3 C] is read as a reshape [B, T, 3, H, D] of which every
  // reader permutes the axes in the same way, so that a head's rows of D follow each other. Where all outside readers
  // of node n are of this kind, it is the reshape that is stored, in that order of its axes, and each reader finds its
  // rows side by side; as computed, one row in 3 H would be its own. False where readers are of another kind.
  bool store_permuted(uint32_t n) {
    const auto outside = outside_users_.find(n);
    if (outside == outside_users_.end() || outside->second.size() != 1) return false;
    const uint32_t reshape = *outside->second.begin();
    if (!is(reshape, Op::reshape) || l_.location.count(reshape)) return false;
    const std::optional<std::vector<int64_t>> axes = common_permutation(reshape);
    if (!axes) return false;
    const Type type{stored_type(l_, n).dtype, graph_.node(reshape).types[0].shape};
    Shape permuted;
    for (const int64_t axis : *axes) permuted.push_back(type.shape[size_t(axis)]);
    const Strides order = contiguous_strides(permuted);
    View view = add_transient(l_, n, type);
    for (size_t d = 0; d < axes->size(); ++d) view.strides[size_t((*axes)[d])] = order[d];
    add_store(l_, value_of(l_, reshape), l_.home[n], view);
    return true;
  }

  // The permutation that all readers of node n make of it or of slices of it; none where one makes another, or none.
  std::optional<std::vector<int64_t>> common_permutation(uint32_t n) {
    std::optional<std::vector<int64_t>> common;
    const auto agrees = [&](uint32_t reader) {
      const std::optional<std::vector<int64_t>> axes = permutation(reader);
      if (!axes || (common && *common != *axes)) return false;
      common = axes;
      return true;
    };
    for (const uint32_t reader : users_[n]) {
      const std::set<uint32_t> permutes = is(reader, Op::slice) ? users_[reader] : std::set<uint32_t>{reader};
      if (!std::all_of(permutes.begin(), permutes.end(), agrees)) return std::nullopt;
    }
    return common;
  }

  // The axes of a permute, the last two in ascending order: an operand of a product and its transpose count as the
  // same, since a product reads either as well.
  std::optional<std::vector<int64_t>> permutation(uint32_t reader) const {
    if (!is(reader, Op::permute)) return std::nullopt;
    std::vector<int64_t> axes = std::get<AxesAttr>(graph_.node(reader).attr).axes;
    if (axes.size() < 2) return std::nullopt;
    std::sort(axes.end() - 2, axes.end());
    return axes;
  }

  Lowering& l_;
  const Graph& graph_;
  std::map<uint32_t, std::set<uint32_t>> users_, outside_users_;  // all of a node's, and those in other kernels
};

}  // namespace

void place_transients(Lowering& lowering) { TransientPlacer(lowering).run(); }

}  // namespace surtsey::graph
