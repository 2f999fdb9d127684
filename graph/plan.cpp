#include "graph/plan.h"

#include <algorithm>

namespace surtsey::graph {

std::vector<std::pair<int64_t, int64_t>> lifetimes(const Plan& plan) {
  std::vector<std::pair<int64_t, int64_t>> result(plan.buffers.size(), {-1, -1});
  for (size_t d = 0; d < plan.dispatches.size(); ++d) {
    for (const Access& access : plan.dispatches[d].accesses) {
      auto& [first, last] = result[access.buffer];
      if (first < 0) first = int64_t(d);
      last = int64_t(d);
    }
  }
  return result;
}

namespace {

void verify_accesses(const Plan& plan, const Dispatch& dispatch) {
  const Kernel& kernel = plan.kernels[dispatch.kernel];
  const size_t inputs = kernel.inputs.size();
  ensure(dispatch.accesses.size() == inputs + kernel.outputs.size(), "kernel {} has {} operands and {} accesses",
         kernel.name, inputs + kernel.outputs.size(), dispatch.accesses.size());
  for (size_t i = 0; i < dispatch.accesses.size(); ++i) {
    const Access& access = dispatch.accesses[i];
    const View& view = i < inputs ? kernel.inputs[i].view : kernel.outputs[i - inputs].view;
    ensure(access.buffer == view.buffer && access.read == (i < inputs) && access.write == (i >= inputs),
           "access {} of kernel {} is not that of its operand", i, kernel.name);
    int64_t last = view.offset;
    for (size_t d = 0; d < view.shape.size(); ++d) last += (view.shape[d] - 1) * view.strides[d];
    const auto end = uint64_t((last + 1) * storage_bytes(view.dtype));
    ensure(end <= access.offset + access.bytes && access.offset + access.bytes <= plan.buffers[access.buffer].bytes,
           "access {} of kernel {} leaves buffer {}", i, kernel.name, access.buffer);
  }
}

void verify_arena(const Plan& plan) {
  const std::vector<std::pair<int64_t, int64_t>> alive = lifetimes(plan);
  std::vector<size_t> order;
  for (size_t b = 0; b < plan.buffers.size(); ++b)
    if (plan.buffers[b].kind == BufferKind::transient && alive[b].first >= 0) order.push_back(b);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return plan.buffers[a].offset < plan.buffers[b].offset; });
  for (size_t i = 0; i < order.size(); ++i) {
    const Buffer& a = plan.buffers[order[i]];
    ensure(a.offset + a.bytes <= plan.transient_bytes, "buffer {} leaves the arena", order[i]);
    for (size_t j = i + 1; j < order.size() && plan.buffers[order[j]].offset < a.offset + a.bytes; ++j) {
      const auto [a_first, a_last] = alive[order[i]];
      const auto [b_first, b_last] = alive[order[j]];
      ensure(a_last < b_first || b_last < a_first, "buffers {} ({}) and {} ({}) share bytes", order[i], a.name,
             order[j], plan.buffers[order[j]].name);
    }
  }
}

}  // namespace

void verify(const Plan& plan) {
  for (const Dispatch& dispatch : plan.dispatches) {
    ensure(dispatch.kernel < plan.kernels.size(), "a dispatch of kernel {} of {}", dispatch.kernel,
           plan.kernels.size());
    verify_accesses(plan, dispatch);
  }
  if (plan.transient_bytes > 0) verify_arena(plan);
  for (size_t i = 0; i < plan.barriers.size(); ++i)
    ensure(plan.barriers[i] <= plan.dispatches.size() && (i == 0 || plan.barriers[i - 1] < plan.barriers[i]),
           "barrier {} is out of order", i);
}

std::string print(const Plan& plan) {
  std::string text =
      fmt::format("plan {}: {} dispatches, {} barriers, {:.3f} MFLOP, {:.3f} MB moved, {:.3f} MB transient\n",
                  plan.name, plan.dispatches.size(), plan.barriers.size(), double(plan.flops) / 1e6,
                  double(plan.bytes) / 1e6, double(plan.transient_bytes) / 1e6);
  constexpr const char* kKinds[] = {"state", "output", "transient"};
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    const Buffer& buffer = plan.buffers[b];
    text += fmt::format("buffer {} {} {} {}", b, kKinds[size_t(buffer.kind)], buffer.name.empty() ? "-" : buffer.name,
                        to_string(buffer.type));
    text += buffer.kind == BufferKind::transient ? fmt::format(" at {}\n", buffer.offset) : "\n";
  }
  size_t barrier = 0;
  for (uint32_t d = 0; d < plan.dispatches.size(); ++d) {
    if (barrier < plan.barriers.size() && plan.barriers[barrier] == d) text += fmt::format("  barrier\n"), ++barrier;
    const Dispatch& dispatch = plan.dispatches[d];
    const Kernel& kernel = plan.kernels[dispatch.kernel];
    text += fmt::format("{:4} {} @{}", d, kernel.name, dispatch.scope);
    for (const Access& access : dispatch.accesses)
      text += fmt::format(" {}{}[{}+{}]", access.write ? "->" : "", access.buffer, access.offset, access.bytes);
    text += "\n";
  }
  if (barrier < plan.barriers.size()) text += "  barrier\n";
  return text;
}

}  // namespace surtsey::graph
