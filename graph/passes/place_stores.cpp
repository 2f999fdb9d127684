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
    find_stored();
    place_state();
    place_weight_copies();
    place_outputs();
    std::vector<Assignment> computed;
    std::vector<std::pair<Assignment, uint32_t>> copied;
    for (Assignment assignment : graph_.assignments()) {
      if (l_.windows.count(assignment.value.node)) {
        store_window(assignment);
        continue;
      }
      while (graph_.node(assignment.value).op == Op::reshape)
        assignment.value = graph_.node(assignment.value).inputs[0];
      if (l_.home[assignment.value.node] == kNone) {
        copied.emplace_back(assignment, add_copy_group(l_, assignment.value));
      } else {
        computed.push_back(assignment);
      }
    }
    // A copy is a reader of state like any other, so all of them are known before the first overwrites anything.
    for (const auto& [assignment, g] : copied) overwrite(assignment, g);
    for (const Assignment& assignment : computed)
      if (!assign_in_place(assignment)) overwrite(assignment, tiny_copies(assignment.value));
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

  View transient(uint32_t n, const Type& type) {
    return whole(add_buffer(BufferKind::transient, graph_.scope(n).path, type), type);
  }

  // The type that node n has in memory.
  Type stored_type(uint32_t n) const {
    Type type = graph_.node(n).types[0];
    if (!l_.narrow.empty() && l_.narrow[n]) type.dtype = l_.storage;
    return type;
  }

  void store(const Value& value, uint32_t group, const View& view) {
    l_.stores.push_back({value, group, view});
    l_.location.emplace(value.node, view);
  }

  // Values that some place must hold: what kernels read, what the program leaves behind, parts of concats.
  void find_stored() {
    stored_ = needed();
    for (const Value& root : roots(l_.program)) {
      if (is_terminal(l_, root.node)) {
        stored_.insert(root.node);
      } else {
        collect_expression(l_, root.node, stored_);
      }
    }
    for (const uint32_t n : reachable(graph_, roots(l_.program)))
      if (graph_.node(n).op == Op::concat)
        for (const Value& part : graph_.node(n).inputs) stored_.insert(behind_views(graph_, part.node));
  }

  // May group g store its member n at one more place? Every tensor is a binding: what it loads, and per member the
  // places it is stored to, at least one where somebody reads it.
  bool has_room(uint32_t g, uint32_t n) const {
    size_t count = loads_of(l_, g).size();
    for (const uint32_t m : l_.groups[g].members) {
      size_t places = m == n;
      for (const Store& store : l_.stores) places += store.group == g && store.value.node == m;
      count += std::max<size_t>(places, stored_.count(m));
    }
    return count <= l_.target.max_bindings();
  }

  // The value behind reshapes and permutes: its kernel may store it as the chain's end is to lie.
  uint32_t relabelled(uint32_t n) const {
    while (graph_.node(n).op == Op::reshape || graph_.node(n).op == Op::permute) n = graph_.node(n).inputs[0].node;
    return n;
  }

  void place_state() {
    for (const auto& [name, value] : graph_.parameters()) {
      const uint32_t buffer = add_buffer(BufferKind::state, name, value.type());
      state_[value.node] = buffer;
      l_.location[value.node] = whole(buffer, value.type());
    }
  }

  void place_weight_copies() {
    for (auto& [parameter, copy] : l_.weight_copies) {
      const Type type{l_.storage, graph_.node(parameter).types[0].shape};
      copy.view =
          whole(add_buffer(BufferKind::transient, std::get<LeafAttr>(graph_.node(parameter).attr).name, type), type);
      l_.stores.push_back({{l_.program.graph.get(), parameter, 0}, copy.group, copy.view});
    }
  }

  void place_outputs() {
    for (const auto& [name, value] : l_.program.outputs) {
      const View view = whole(add_buffer(BufferKind::output, name, value.type()), value.type());
      const uint32_t base = relabelled(value.node);
      const uint32_t home = l_.home[base];
      const std::optional<View> in_place = view_behind(graph_, value.node, view);
      if (home != kNone && in_place && !l_.windows.count(base) && has_room(home, base)) {
        store({l_.program.graph.get(), base, 0}, home, *in_place);
      } else {
        l_.stores.push_back({value, add_copy_group(l_, value), view});
      }
    }
  }

  // ---- state ----

  // The kernel writes the window alone; whoever reads the new value reads the state, after it.
  void store_window(const Assignment& assignment) {
    const Node& update = graph_.node(assignment.value);
    const auto axis = size_t(std::get<AxisAttr>(update.attr).axis);
    const View all = whole(state_.at(assignment.parameter.node), assignment.value.type());
    View window = all;
    window.shape = update.inputs[1].shape();
    const Moved moved{update.inputs[2], all.shape[axis] - window.shape[axis], all.strides[axis]};
    l_.stores.push_back({update.inputs[1], l_.home[assignment.value.node], window, moved});
    l_.location.emplace(assignment.value.node, all);
  }

  // What the kernel of group g reads, by terminal.
  std::set<uint32_t> reads(uint32_t g) const {
    std::set<uint32_t> found;
    for (const uint32_t m : l_.groups[g].members) collect_expression(l_, m, found);
    for (const Value& copy : l_.groups[g].copies) {
      if (is_terminal(l_, copy.node)) {
        found.insert(copy.node);
      } else {
        collect_expression(l_, copy.node, found);
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
    if (!has_room(g, assignment.value.node)) return false;
    if (!touches_only_own_element(g, assignment.parameter.node, assignment.value)) return false;
    if (!run_after_readers(g, assignment.parameter.node)) return false;
    store(assignment.value, g, whole(state_.at(assignment.parameter.node), assignment.value.type()));
    return true;
  }

  // Group g copies the value over the old one.
  void overwrite(const Assignment& assignment, uint32_t g) {
    const View target = whole(state_.at(assignment.parameter.node), assignment.value.type());
    check(reads(g).count(assignment.parameter.node) == 0 && run_after_readers(g, assignment.parameter.node),
          "[assign] the value of {} is a view of state that the same program overwrites; compute it into a value of "
          "its own first",
          l_.buffers[target.buffer].name);
    l_.stores.push_back({assignment.value, g, target});
  }

  // Scalars that are copied share one kernel: it runs last, so nothing waits for it.
  uint32_t tiny_copies(const Value& value) {
    const int64_t count = element_count(value.shape());
    if (count > kTinyCopy) return add_copy_group(l_, value);
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
    if (group.archetype == Archetype::reduce || is_closed(group.archetype) ||
        element_count(value.shape()) != element_count(group.space))
      return false;
    IndexContext context;
    const LoopIndex loop = loop_index(context, group.archetype, group.space, group.reduced);
    bool own = true;
    const auto visit = [&](uint32_t t, const Index& at) {
      if (t == parameter && !(context.linearize_contiguous(at, graph_.node(t).types[0].shape) == loop.full))
        own = false;
    };
    for (const uint32_t m : group.members) {
      const Family family = definition(graph_.node(m).op).family;
      if (family == Family::matmul || family == Family::reduce) {
        std::set<uint32_t> operands;
        collect_expression(l_, m, operands);
        if (operands.count(parameter)) return false;
      } else {
        walk_expression(l_, context, m, context.delinearize(loop.full, graph_.node(m).types[0].shape), visit);
      }
    }
    for (const Value& copy : group.copies) {
      const Index at = context.delinearize(loop.full, copy.shape());
      if (is_terminal(l_, copy.node)) {
        visit(copy.node, at);
      } else {
        walk_expression(l_, context, copy.node, at, visit);
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
      const View all = transient(n, stored_type(n));
      l_.location[n] = all;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const Value& part = node.inputs[i];
        const View region = concat_region(graph_, n, i, all);
        const auto copy = l_.part_copies.find({n, i});
        if (copy != l_.part_copies.end()) {
          l_.stores.push_back({part, copy->second, region});
          continue;
        }
        const uint32_t base = behind_views(graph_, part.node);
        const uint32_t home = l_.home[base];
        if (has_room(home, base)) {
          store({l_.program.graph.get(), base, 0}, home, *view_behind(graph_, part.node, region));
        } else {
          const auto groups = uint32_t(l_.groups.size());
          const uint32_t g = add_copy_group(l_, part);
          for (uint32_t reader = 0; reader < groups; ++reader)
            if (reads(reader).count(n)) add_source(l_, reader, g);
          l_.stores.push_back({part, g, region});
        }
      }
    }
  }

  // Read only through one permute: laid out so that its reader finds it contiguous. Attention reads any layout as well.
  View layout(uint32_t n, uint32_t buffer) const {
    const Type type = stored_type(n);
    const View plain = whole(buffer, type);
    const auto found = outside_users_.find(n);
    if (found == outside_users_.end()) return plain;
    std::set<uint32_t> users = found->second;
    std::erase_if(users, [&](uint32_t u) { return u != kNone && graph_.node(u).op == Op::region; });
    if (users.size() != 1) return plain;
    const uint32_t user = *users.begin();
    if (user == kNone || graph_.node(user).op != Op::permute) return plain;
    return *view_behind(graph_, user, whole(buffer, {type.dtype, graph_.node(user).types[0].shape}));
  }

  // Read only as a reshape whose every reader goes through the same permute (but for a final transpose), be it of the
  // whole or of slices (the heads of queries, keys and values): the reshape is what is stored, in the permuted order,
  // so that each reader finds its rows side by side. A row of keys would otherwise be one cache line in every six.
  std::optional<Store> permuted_store(uint32_t n) {
    const auto outside = outside_users_.find(n);
    if (outside == outside_users_.end() || outside->second.size() != 1) return std::nullopt;
    const uint32_t user = *outside->second.begin();
    if (user == kNone || graph_.node(user).op != Op::reshape || l_.location.count(user)) return std::nullopt;
    // Readers may differ in which of the last two axes comes first: a matmul operand and its transpose.
    std::vector<int64_t> axes;
    const auto agrees = [&](uint32_t reader) {
      if (reader == kNone || graph_.node(reader).op != Op::permute) return false;
      std::vector<int64_t> mine = std::get<AxesAttr>(graph_.node(reader).attr).axes;
      if (mine.size() < 2) return false;
      if (mine[mine.size() - 2] > mine.back()) std::swap(mine[mine.size() - 2], mine.back());
      if (!axes.empty() && axes != mine) return false;
      axes = mine;
      return true;
    };
    for (const uint32_t reader : users_[user]) {
      const bool slice = reader != kNone && graph_.node(reader).op == Op::slice;
      const auto& behind = users_[reader];
      if (slice ? !std::all_of(behind.begin(), behind.end(), agrees) : !agrees(reader)) return std::nullopt;
    }
    if (axes.empty()) return std::nullopt;
    const Type type{stored_type(n).dtype, graph_.node(user).types[0].shape};
    Shape permuted;
    for (const int64_t axis : axes) permuted.push_back(type.shape[size_t(axis)]);
    const Strides order = contiguous_strides(permuted);
    View view = transient(n, type);
    for (size_t d = 0; d < axes.size(); ++d) view.strides[size_t(axes[d])] = order[d];
    return Store{{l_.program.graph.get(), user, 0}, l_.home[n], view};
  }

  void place_transients() {
    const std::vector<Value> wanted = roots(l_.program);
    for (const uint32_t n : reachable(graph_, wanted))
      for (const Value& input : graph_.node(n).inputs) {
        users_[input.node].insert(n);
        if (l_.home[input.node] != kNone && l_.home[n] != l_.home[input.node]) outside_users_[input.node].insert(n);
      }
    for (const Value& root : wanted) users_[root.node].insert(kNone), outside_users_[root.node].insert(kNone);
    for (const uint32_t n : needed()) {
      if (l_.location.count(n)) continue;
      ensure(l_.home[n] != kNone, "node {} is read but nothing computes it", n);
      if (const std::optional<Store> permuted = permuted_store(n)) {
        store(permuted->value, permuted->group, permuted->view);
        continue;
      }
      const uint32_t buffer = add_buffer(BufferKind::transient, graph_.scope(n).path, stored_type(n));
      store({l_.program.graph.get(), n, 0}, l_.home[n], layout(n, buffer));
    }
  }

  Lowering& l_;
  const Graph& graph_;
  static constexpr int64_t kTinyCopy = 256;

  std::set<uint32_t> stored_;
  std::map<uint32_t, uint32_t> state_;  // parameter node -> buffer
  std::map<int64_t, std::optional<uint32_t>>
      tiny_copies_;  // element count -> the group that copies values of that many elements
  std::map<uint32_t, std::set<uint32_t>> users_, outside_users_;  // kNone: it is an output or assigned
};

}  // namespace

void place_stores(Lowering& lowering) { Placer(lowering).run(); }

}  // namespace surtsey::graph
