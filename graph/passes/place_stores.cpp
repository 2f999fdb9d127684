#include "graph/passes/lowering.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <optional>

namespace surtsey::graph {

std::optional<View> view_behind(const Graph& graph, uint32_t n, View view) {
  while (graph.node(n).op == Op::reshape || graph.node(n).op == Op::permute) {
    const Node& node = graph.node(n);
    const Shape& from = node.inputs[0].shape();
    Strides strides(from.size());
    if (node.op == Op::permute) {
      const auto& axes = std::get<AxesAttr>(node.attr).axes;
      for (size_t d = 0; d < axes.size(); ++d) strides[size_t(axes[d])] = view.strides[d];
    } else if (!reshape_strides(view.shape, view.strides, from, strides)) {
      return std::nullopt;
    }
    view.shape = from;
    view.strides = strides;
    n = node.inputs[0].node;
  }
  return view;
}

View concat_region(const Graph& graph, uint32_t concat, size_t part, const View& all) {
  const Node& node = graph.node(concat);
  const auto axis = size_t(std::get<AxisAttr>(node.attr).axis);
  View region = all;
  region.shape = node.inputs[part].shape();
  for (size_t i = 0; i < part; ++i) region.offset += node.inputs[i].shape()[axis] * all.strides[axis];
  return region;
}

namespace {

class Placer {
public:
  explicit Placer(Lowering& lowering) : l_(lowering), graph_(*lowering.program.graph) {}

  void run() {
    place_state();
    place_outputs();
    std::vector<Assignment> later;
    for (const Assignment& assignment : graph_.assignments()) {
      // A value without a kernel is copied; that copy is a reader of state like any other, so these come first.
      if (l_.home[assignment.value.node] == kNone) {
        assign_by_copy(assignment);
      } else {
        later.push_back(assignment);
      }
    }
    for (const Assignment& assignment : later)
      if (!assign_in_place(assignment)) assign_by_copy(assignment);
    place_concats();
    place_transients();
  }

private:
  uint32_t add_buffer(BufferKind kind, std::string name, const Type& type) {
    Buffer buffer;
    buffer.kind = kind;
    buffer.name = std::move(name);
    buffer.type = type;
    buffer.bytes = uint64_t(std::max<int64_t>(1, element_count(type.shape)) * storage_bytes(type.dtype));
    l_.buffers.push_back(std::move(buffer));
    return uint32_t(l_.buffers.size() - 1);
  }

  static View whole(uint32_t buffer, const Type& type) {
    return {buffer, type.dtype, type.shape, contiguous_strides(type.shape), 0};
  }

  void store(const Value& value, uint32_t group, const View& view) {
    l_.stores.push_back({value, group, view});
    l_.location.emplace(value.node, view);
  }

  void place_state() {
    for (const auto& [name, value] : graph_.parameters()) {
      const uint32_t buffer = add_buffer(BufferKind::state, name, value.type());
      state_[value.node] = buffer;
      l_.location[value.node] = whole(buffer, value.type());
    }
  }

  void place_outputs() {
    for (const auto& [name, value] : l_.program.outputs) {
      const View view = whole(add_buffer(BufferKind::output, name, value.type()), value.type());
      const uint32_t home = l_.home[value.node];
      const uint32_t group = home != kNone ? home : add_copy_group(l_, value);
      if (home != kNone) {
        store(value, group, view);
      } else {
        l_.stores.push_back({value, group, view});
      }
    }
  }

  // ---- state ----

  // What the kernel of group g reads, by terminal.
  std::set<uint32_t> reads(uint32_t g) const {
    std::set<uint32_t> found;
    for (const uint32_t m : l_.groups[g].members) collect_terminals(l_, m, found);
    for (const Value& copy : l_.groups[g].copies) {
      if (is_terminal(l_, copy.node)) {
        found.insert(copy.node);
      } else {
        collect_terminals(l_, copy.node, found);
      }
    }
    for (auto it = found.begin(); it != found.end();) it = l_.home[*it] == g ? found.erase(it) : std::next(it);
    return found;
  }

  // The overwriting group runs after every other reader of the old value; false when one of them needs its result.
  bool run_after_readers(uint32_t writer, uint32_t parameter) {
    std::vector<uint32_t> readers;
    for (uint32_t g = 0; g < l_.groups.size(); ++g)
      if (g != writer && reads(g).count(parameter)) readers.push_back(g);
    for (const uint32_t reader : readers)
      if (l_.groups[reader].depends[writer]) return false;
    for (const uint32_t reader : readers) add_source(l_, writer, reader);
    return true;
  }

  bool assign_in_place(const Assignment& assignment) {
    const uint32_t g = l_.home[assignment.value.node];
    if (!touches_only_own_element(g, assignment.parameter.node, assignment.value)) return false;
    if (!run_after_readers(g, assignment.parameter.node)) return false;
    store(assignment.value, g, whole(state_.at(assignment.parameter.node), assignment.parameter.type()));
    return true;
  }

  void assign_by_copy(const Assignment& assignment) {
    const View target = whole(state_.at(assignment.parameter.node), assignment.parameter.type());
    const uint32_t g = tiny_copies(assignment.value);
    check(reads(g).count(assignment.parameter.node) == 0 && run_after_readers(g, assignment.parameter.node),
          "[assign] the value of {} is a view of state that the same program overwrites; compute it into a value of its own first",
          l_.buffers[target.buffer].name);
    l_.stores.push_back({assignment.value, g, target});
  }

  // Scalars that are copied share one kernel: it runs last, so nothing waits for it. A copy that reads state has one of its own.
  uint32_t tiny_copies(const Value& value) {
    const int64_t count = element_count(value.shape());
    if (l_.home[value.node] == kNone || count > kTinyCopy) return add_copy_group(l_, value);
    auto& shared = tiny_copies_[count];
    if (!shared || 2 * (l_.groups[*shared].copies.size() + 1) > l_.target.max_bindings()) {
      shared = add_copy_group(l_, value);
    } else {
      l_.groups[*shared].copies.push_back(value);
      add_source(l_, *shared, l_.home[value.node]);
    }
    return *shared;
  }

  // Does the kernel read the parameter only at the element it is about to write? Then writing in place is safe.
  bool touches_only_own_element(uint32_t g, uint32_t parameter, const Value& value) {
    const Group& group = l_.groups[g];
    if (!reads(g).count(parameter)) return true;
    if (group.archetype == Archetype::reduce || element_count(value.shape()) != element_count(group.space)) return false;
    IndexContext context;
    const LoopIndex loop = loop_index(context, group.archetype, group.space, group.reduced);
    bool own = true;
    const auto visit = [&](uint32_t t, const Index& at) {
      if (t == parameter && !(context.linearize_contiguous(at, graph_.node(t).types[0].shape) == loop.full)) own = false;
    };
    for (const uint32_t m : group.members) {
      if (definition(graph_.node(m).op).family == Family::matmul) {
        std::set<uint32_t> operands;
        collect_terminals(l_, m, operands);
        if (operands.count(parameter)) return false;
      } else {
        walk_terminals(l_, context, m, context.delinearize(loop.full, graph_.node(m).types[0].shape), visit);
      }
    }
    for (const Value& copy : group.copies) {
      const Index at = context.delinearize(loop.full, copy.shape());
      if (is_terminal(l_, copy.node)) {
        visit(copy.node, at);
      } else {
        walk_terminals(l_, context, copy.node, at, visit);
      }
    }
    return own;
  }

  // ---- transients ----

  std::set<uint32_t> needed() const {
    std::set<uint32_t> result;
    for (uint32_t g = 0; g < l_.groups.size(); ++g) result.merge(reads(g));
    return result;
  }

  void place_concats() {
    const std::set<uint32_t> wanted = needed();
    for (const uint32_t n : wanted) {
      const Node& node = graph_.node(n);
      if (node.op != Op::concat || l_.location.count(n)) continue;
      const View all = whole(add_buffer(BufferKind::transient, graph_.scope(n).path, node.types[0]), node.types[0]);
      l_.location[n] = all;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const Value& part = node.inputs[i];
        const View region = concat_region(graph_, n, i, all);
        const auto copy = l_.part_copies.find({n, i});
        if (copy != l_.part_copies.end()) {
          l_.stores.push_back({part, copy->second, region});
        } else {
          const uint32_t base = behind_views(graph_, part.node);
          store({l_.program.graph.get(), base, 0}, l_.home[base], *view_behind(graph_, part.node, region));
        }
      }
    }
  }

  // Read only through one permute: laid out so that its reader finds it contiguous.
  View layout(uint32_t n, uint32_t buffer) const {
    const Type& type = graph_.node(n).types[0];
    const View plain = whole(buffer, type);
    const auto users = outside_users_.find(n);
    if (users == outside_users_.end() || users->second.size() != 1) return plain;
    const uint32_t user = *users->second.begin();
    if (graph_.node(user).op != Op::permute) return plain;
    return *view_behind(graph_, user, whole(buffer, graph_.node(user).types[0]));
  }

  void place_transients() {
    for (const uint32_t n : reachable(graph_, roots(l_.program)))
      for (const Value& input : graph_.node(n).inputs)
        if (l_.home[input.node] != kNone && l_.home[n] != l_.home[input.node]) outside_users_[input.node].insert(n);
    for (const uint32_t n : needed()) {
      if (l_.location.count(n)) continue;
      ensure(l_.home[n] != kNone, "node {} is read but nothing computes it", n);
      const uint32_t buffer = add_buffer(BufferKind::transient, graph_.scope(n).path, graph_.node(n).types[0]);
      store({l_.program.graph.get(), n, 0}, l_.home[n], layout(n, buffer));
    }
  }

  Lowering& l_;
  const Graph& graph_;
  static constexpr int64_t kTinyCopy = 256;

  std::map<uint32_t, uint32_t> state_;  // parameter node -> buffer
  std::map<int64_t, std::optional<uint32_t>> tiny_copies_;  // element count -> the group that copies values of that many elements
  std::map<uint32_t, std::set<uint32_t>> outside_users_;
};

}  // namespace

void place_stores(Lowering& lowering) { Placer(lowering).run(); }

}  // namespace surtsey::graph
