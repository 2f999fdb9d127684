#include "graph/plan.h"

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
