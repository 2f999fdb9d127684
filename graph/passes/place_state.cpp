// What a run finds and what it leaves behind: parameters, their narrow copies, outputs, and new values of state.
#include "graph/passes/placement.h"

namespace surtsey::graph {
namespace {

// Copies of values of at most so many elements share a kernel.
constexpr int64_t kTinyCopy = 256;

class StatePlacer {
 public:
  explicit StatePlacer(Lowering& lowering)
      : l_(lowering), graph_(*lowering.program.graph), stored_(stored_values(lowering)) {}

  void run() {
    place_parameters();
    place_weight_copies();
    place_outputs();
    place_assignments();
  }

 private:
  void place_parameters() {
    for (const auto& [name, value] : graph_.parameters()) {
      const uint32_t buffer = add_buffer(l_, BufferKind::state, name, value.type());
      state_[value.node] = buffer;
      l_.location[value.node] = whole(buffer, value.type());
    }
  }

  View state_of(const Assignment& assignment) const {
    return whole(state_.at(assignment.parameter.node), assignment.value.type());
  }

  void place_weight_copies() {
    for (auto& [parameter, copy] : l_.weight_copies) {
      const Type type{l_.storage, graph_.node(parameter).types[0].shape};
      const std::string& name = std::get<LeafAttr>(graph_.node(parameter).attr).name;
      copy.view = whole(add_buffer(l_, BufferKind::transient, name, type), type);
      l_.stores.push_back({value_of(l_, parameter), copy.group, copy.view});
    }
  }

  // The value behind reshapes and permutes: its kernel may store it as the chain's end is to lie.
  uint32_t relabelled(uint32_t n) const {
    while (graph_.node(n).op == Op::reshape || graph_.node(n).op == Op::permute) n = graph_.node(n).inputs[0].node;
    return n;
  }

  void place_outputs() {
    for (const auto& [name, value] : l_.program.outputs) {
      const View view = whole(add_buffer(l_, BufferKind::output, name, value.type()), value.type());
      const uint32_t base = relabelled(value.node);
      const uint32_t home = l_.home[base];
      const std::optional<View> in_place = view_behind(graph_, value.node, view);
      if (home != kNone && in_place && !l_.windows.count(base) && has_room(l_, stored_, home, base)) {
        add_store(l_, value_of(l_, base), home, *in_place);
      } else {
        l_.stores.push_back({value, add_copy_group(l_, value), view});
      }
    }
  }

  // ---- new values ----

  void place_assignments() {
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
  }

  // The kernel writes the window alone; whoever reads the new value reads the state, after it.
  void store_window(const Assignment& assignment) {
    const Node& update = graph_.node(assignment.value);
    const auto axis = size_t(std::get<AxisAttr>(update.attr).axis);
    const View all = state_of(assignment);
    View window = all;
    window.shape = update.inputs[1].shape();
    const Moved moved{update.inputs[2], all.shape[axis] - window.shape[axis], all.strides[axis]};
    l_.stores.push_back({update.inputs[1], l_.home[assignment.value.node], window, moved});
    l_.location.emplace(assignment.value.node, all);
  }

  // Writing in place is safe where the kernel reads the old value at no other element than the one it is about to
  // write, and every other reader can run before.
  bool assign_in_place(const Assignment& assignment) {
    const uint32_t g = l_.home[assignment.value.node];
    if (!has_room(l_, stored_, g, assignment.value.node)) return false;
    if (!reads_only_own_element(g, assignment.parameter.node, assignment.value)) return false;
    if (!run_after_readers(g, assignment.parameter.node)) return false;
    add_store(l_, assignment.value, g, state_of(assignment));
    return true;
  }

  // Group g copies the value over the old one.
  void overwrite(const Assignment& assignment, uint32_t g) {
    const View target = state_of(assignment);
    const uint32_t parameter = assignment.parameter.node;
    check(!terminals_read(l_, g).count(parameter) && run_after_readers(g, parameter),
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

  // The writing group runs after every other reader of the old value; false when one of them needs its result.
  bool run_after_readers(uint32_t writer, uint32_t parameter) {
    std::vector<uint32_t> readers;
    for (uint32_t g = 0; g < l_.groups.size(); ++g)
      if (g != writer && terminals_read(l_, g).count(parameter)) readers.push_back(g);
    for (const uint32_t reader : readers)
      if (l_.groups[reader].depends[writer]) return false;
    for (const uint32_t reader : readers) add_source(l_, writer, reader);
    return true;
  }

  bool reads_only_own_element(uint32_t g, uint32_t parameter, const Value& value) {
    const Group& group = l_.groups[g];
    if (!terminals_read(l_, g).count(parameter)) return true;
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
    for (const Value& copy : group.copies)
      walk_value(l_, context, copy.node, context.delinearize(loop.full, copy.shape()), visit);
    return own;
  }

  Lowering& l_;
  const Graph& graph_;
  const std::set<uint32_t> stored_;
  std::map<uint32_t, uint32_t> state_;                      // parameter node -> buffer
  std::map<int64_t, std::optional<uint32_t>> tiny_copies_;  // element count -> the group that copies such values
};

}  // namespace

void place_state(Lowering& lowering) { StatePlacer(lowering).run(); }

}  // namespace surtsey::graph
