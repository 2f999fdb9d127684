// Groups become kernels with operands, dispatches with byte ranges.
#include "graph/attention.h"
#include "graph/passes/lowering.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <optional>

namespace surtsey::graph {
namespace {

class PlanBuilder {
 public:
  explicit PlanBuilder(const Lowering& lowering) : l_(lowering), graph_(*lowering.program.graph) {}

  Plan run() {
    plan_.program = l_.program;
    plan_.buffers = l_.buffers;
    std::map<uint32_t, std::vector<const Store*>> stores;
    for (const Store& store : l_.stores) stores[store.group].push_back(&store);
    for (const uint32_t g : l_.sequence) {
      const auto found = stores.find(g);
      if (found != stores.end()) add(g, found->second);  // else nobody reads it
    }
    return std::move(plan_);
  }

 private:
  const Node& node(uint32_t n) const { return graph_.node(n); }

  // The strided region that shows node n, a stored value or a chain of views of one.
  std::optional<View> stored_view(uint32_t n) const {
    const auto copy = l_.weight_copies.find(n);
    if (in_operands_ && copy != l_.weight_copies.end()) return copy->second.view;
    const auto found = l_.location.find(n);
    if (found != l_.location.end()) return found->second;
    if (!is_view(node(n).op) || node(n).op == Op::pad) return std::nullopt;
    std::optional<View> view = stored_view(node(n).inputs[0].node);
    if (!view) return std::nullopt;
    const Shape& shape = node(n).types[0].shape;
    View result = *view;
    result.shape = shape;
    if (node(n).op == Op::reshape) {
      result.strides.assign(shape.size(), 0);
      if (!reshape_strides(view->shape, view->strides, shape, result.strides)) return std::nullopt;
    } else if (node(n).op == Op::permute) {
      const auto& axes = std::get<AxesAttr>(node(n).attr).axes;
      for (size_t d = 0; d < axes.size(); ++d) result.strides[d] = view->strides[size_t(axes[d])];
    } else if (node(n).op == Op::broadcast) {
      for (size_t d = 0; d < shape.size(); ++d)
        if (view->shape[d] == 1 && shape[d] != 1) result.strides[d] = 0;
    } else {
      const auto& start = std::get<SliceAttr>(node(n).attr).start;
      for (size_t d = 0; d < shape.size(); ++d) result.offset += start[d] * view->strides[d];
    }
    return result;
  }

  bool takes_copies(const Kernel& kernel) const {
    return kernel.archetype == Archetype::matmul && !l_.weight_copies.empty();
  }

  bool is_product(uint32_t n, uint32_t g) const { return node(n).op == Op::matmul && l_.home[n] == g; }

  // What the kernel loads: stored values of elsewhere under the outermost view that strides can express.
  void collect(uint32_t n, uint32_t g, Kernel& kernel, std::set<uint32_t>& seen) {
    if (!seen.insert(n).second || (takes_copies(kernel) && is_product(n, g))) return;
    const bool view = is_view(node(n).op);
    if (l_.home[n] == g && !kernel_copies_.count(n)) {
      for (const Value& input : node(n).inputs) collect(input.node, g, kernel, seen);
      return;
    }
    if (l_.home[behind_views(graph_, n)] != g || !view) {
      if (const std::optional<View> stored = stored_view(n)) {
        kernel.inputs.push_back({{l_.program.graph.get(), n, 0}, *stored});
        return;
      }
    }
    if (view || l_.home[n] == kNone) {
      count_work(n, kernel);
      kernel.inlined.push_back(n);
      for (const Value& input : node(n).inputs) collect(input.node, g, kernel, seen);
    }
  }

  void count_work(uint32_t n, Kernel& kernel) const {
    const Node& current = node(n);
    const Family family = definition(current.op).family;
    const auto count = uint64_t(element_count(current.types[0].shape));
    if (family == Family::elementwise) kernel.flops += count;
    if (family == Family::reduce) kernel.flops += uint64_t(element_count(current.inputs[0].shape()));
    if (current.op == Op::scatter_add) kernel.flops += uint64_t(element_count(current.inputs[1].shape()));
    if (family == Family::matmul) {
      const uint64_t flops = 2 * count * uint64_t(current.inputs[0].shape().back());
      kernel.matmul_flops += flops;
      kernel.flops += flops;
    }
    if (family == Family::region) {
      kernel.matmul_flops += attention_flops(current);
      kernel.flops += attention_flops(current);
    }
  }

  // The products of the formula, each once: two forward, four backward, two of them for the gradient of the queries
  // (dp, dq) and two for that of the keys (dk, dv). Scores that backward kernels compute again do not count; keys that
  // a mask hides count, as they do where the products are kernels of their own.
  static uint64_t attention_flops(const Node& node) {
    const AttentionForm& form = *std::get<RegionAttr>(node.attr).region->attention;
    const AttentionOperands in = attention_operands(form, node.inputs);
    if (form.result == 1 && form.part != AttentionPart::key_gradient)
      return 0;  // lse, delta: part of the other result's work
    const Shape& result = node.types[0].shape;
    const auto rows = uint64_t(element_count(result) / result.back());
    const bool by_key = form.part == AttentionPart::key_gradient;
    const auto scores = rows * uint64_t(by_key ? in.q.dim(-3) / in.k.dim(-3) * in.q.dim(-2) : in.k.dim(-2));
    return 2 * scores * uint64_t(by_key ? result.back() : in.q.dim(-1) + in.v.dim(-1));
  }

  // A view that moves may be anywhere in its range.
  static Access access(const View& view, bool write, const Moved& moved = {}) {
    const auto bytes = uint64_t(storage_bytes(view.dtype));
    int64_t last = moved.last * moved.stride;
    for (size_t d = 0; d < view.shape.size(); ++d) last += (view.shape[d] - 1) * view.strides[d];
    return {view.buffer, uint64_t(view.offset) * bytes, uint64_t(last + 1) * bytes, !write, write};
  }

  // Elements that a view really touches: repeated ones count once.
  static uint64_t touched_bytes(const View& view) {
    uint64_t count = 1;
    for (size_t d = 0; d < view.shape.size(); ++d)
      if (view.strides[d] != 0) count *= uint64_t(view.shape[d]);
    return count * uint64_t(storage_bytes(view.dtype));
  }

  void check_range(const Kernel& kernel, const Access& bound) const {
    const Buffer& buffer = plan_.buffers[bound.buffer];
    check(bound.bytes <= l_.target.max_storage_range,
          "kernel {} reaches {:.1f} MiB of '{}' {} at once; in descriptor mode {} binds at most {:.1f} MiB. Address "
          "mode, where a device has buffer "
          "addresses, has no such limit; else the model has to be smaller",
          kernel.name, double(bound.bytes) / (1 << 20), buffer.name, to_string(buffer.type), l_.target.name,
          double(l_.target.max_storage_range) / (1 << 20));
  }

  void add(uint32_t g, const std::vector<const Store*>& stores) {
    const Group& group = l_.groups[g];
    Kernel kernel;
    kernel.archetype = group.archetype;
    kernel.space = group.space;
    kernel.reduced = group.reduced;
    kernel.members = group.members;
    if (group.archetype == Archetype::matmul || is_closed(group.archetype))
      kernel.anchor = {l_.program.graph.get(), group.anchor, 0};
    std::set<uint32_t> seen;
    kernel_copies_.clear();
    for (const Value& copy : group.copies) kernel_copies_.insert(copy.node);
    // Only what a store needs is computed: a member that nobody reads any more is left out.
    for (const Store* store : stores) {
      kernel.outputs.push_back({store->value, store->view, store->moved});
      collect(store->value.node, g, kernel, seen);
      if (store->moved.start) collect(store->moved.start.node, g, kernel, seen);
    }
    // After the epilogue, so that what that reads as well keeps its precision.
    for (const uint32_t m : group.members) {
      if (!takes_copies(kernel) || !is_product(m, g) || seen.count(m) == 0) continue;
      in_operands_ = true;
      for (const Value& operand : node(m).inputs)
        if (node(behind_views(graph_, operand.node)).op == Op::parameter) collect(operand.node, g, kernel, seen);
      in_operands_ = false;
      for (const Value& operand : node(m).inputs) collect(operand.node, g, kernel, seen);
    }
    std::erase_if(kernel.members, [&](uint32_t m) { return !seen.count(m); });
    for (const uint32_t m : kernel.members) count_work(m, kernel);
    std::sort(kernel.inlined.begin(), kernel.inlined.end());
    for (const auto& input : kernel.inputs) kernel.bytes += touched_bytes(input.view);
    for (const auto& output : kernel.outputs) kernel.bytes += touched_bytes(output.view);
    kernel.name = readable_name(kernel);

    const size_t bindings = kernel.inputs.size() + kernel.outputs.size();
    check(bindings <= l_.target.max_bindings(),
          "kernel {} touches {} tensors, device {} allows {} in {} mode: turn fusion off or use the other addressing "
          "mode",
          kernel.name, bindings, l_.target.name, l_.target.max_bindings(),
          l_.target.addressing == Addressing::address ? "address" : "descriptor");
    Dispatch dispatch;
    dispatch.kernel = uint32_t(plan_.kernels.size());
    const Scope& scope = graph_.scope(group.anchor);
    dispatch.scope = scope.path;
    dispatch.phase = scope.phase;
    for (const auto& input : kernel.inputs) dispatch.accesses.push_back(access(input.view, false));
    for (const auto& output : kernel.outputs) dispatch.accesses.push_back(access(output.view, true, output.moved));
    if (l_.target.addressing == Addressing::descriptor)
      for (const Access& bound : dispatch.accesses) check_range(kernel, bound);
    plan_.flops += kernel.flops;
    plan_.matmul_flops += kernel.matmul_flops;
    plan_.bytes += kernel.bytes;
    plan_.kernels.push_back(std::move(kernel));
    plan_.dispatches.push_back(std::move(dispatch));
  }

  // n: the inner extent of the operand is contiguous along the loop's inner axis, t: along the other.
  static char layout(const Kernel& kernel, const Node& matmul, size_t operand) {
    for (const auto& input : kernel.inputs)
      if (input.value == matmul.inputs[operand]) {
        const auto& strides = input.view.strides;
        const size_t rank = strides.size();
        return strides[rank - 1] == 1 || input.view.shape[rank - 1] == 1 ? 'n' : strides[rank - 2] == 1 ? 't' : 's';
      }
    return 'x';  // computed on load
  }

  std::string readable_name(const Kernel& kernel) const {
    if (kernel.archetype == Archetype::attention) return attention_name(graph_.node(kernel.anchor));
    std::string name = surtsey::graph::name(kernel.archetype);
    std::string ops;
    int listed = 0;
    for (const uint32_t m : kernel.members) {
      const std::string op = definition(node(m).op).name;
      if (m == kernel.anchor.node || listed == 4 || ops.ends_with("_" + op)) continue;
      ops += "_" + op;
      ++listed;
    }
    if (kernel.archetype == Archetype::matmul) {
      const Node& matmul = graph_.node(kernel.anchor);
      const Shape& a = matmul.inputs[0].shape();
      const int64_t m = a[a.size() - 2], k = a.back(), n = kernel.space.back();
      const int64_t batch = element_count(kernel.space) / (m * n);
      name += fmt::format("_{}{}_{}{}x{}x{}", layout(kernel, matmul, 0), layout(kernel, matmul, 1),
                          batch > 1 ? fmt::format("{}x", batch) : "", m, n, k);
    } else {
      for (size_t d = 0; d < kernel.space.size(); ++d) name += fmt::format("{}{}", d == 0 ? "_" : "x", kernel.space[d]);
    }
    if (ops.empty() && kernel.archetype == Archetype::pointwise)
      ops = kernel.outputs[0].moved.start ? "_slice_update" : "_copy";
    return name + ops;
  }

  // attention_causal_128x32x32x16: batch and heads, queries, keys, head width.
  static std::string attention_name(const Node& node) {
    const Region& region = *std::get<RegionAttr>(node.attr).region;
    const AttentionForm& form = *region.attention;
    const AttentionOperands in = attention_operands(form, node.inputs);
    const Shape& result = node.types[0].shape;
    const int64_t heads =
        element_count(result) / (result.back() * result[result.size() - 2] * result[result.size() - 3]) * in.q.dim(-3);
    return fmt::format("{}{}{}{}{}{}_{}x{}x{}x{}", region.name, form.causal ? "_causal" : "",
                       form.window > 0 ? "_window" : "", form.has_key_mask ? "_masked" : "",
                       form.has_first_key ? "_packed" : "", form.dropout > 0 ? "_dropout" : "", heads, in.q.dim(-2),
                       in.k.dim(-2), in.q.dim(-1));
  }

  const Lowering& l_;
  const Graph& graph_;
  Plan plan_;
  std::set<uint32_t> kernel_copies_;
  bool in_operands_ = false;  // of a matmul, which are weights: read from their copies
};

}  // namespace

Plan build_plan(const Lowering& lowering) { return PlanBuilder(lowering).run(); }

}  // namespace surtsey::graph
