#include "engine/profiler.h"

#include "graph/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace surtsey::engine {

const char* name(TimingMode mode) {
  constexpr const char* kNames[] = {"whole", "grouped", "isolated"};
  return kNames[size_t(mode)];
}

std::vector<KernelTime> by_kernel(const graph::Plan& plan, const TimedReplay& replay) {
  ensure(replay.dispatches.size() == plan.dispatches.size(), "{} intervals of {} dispatches", replay.dispatches.size(),
         plan.dispatches.size());
  std::map<std::string, KernelTime> sums;
  for (size_t d = 0; d < plan.dispatches.size(); ++d) {
    const graph::Kernel& kernel = plan.kernels[plan.dispatches[d].kernel];
    KernelTime& sum = sums[kernel.name];
    sum.kernel = kernel.name;
    ++sum.calls;
    sum.ns += replay.dispatches[d].ns();
    sum.flops += kernel.flops;
    sum.bytes += kernel.bytes;
  }
  std::vector<KernelTime> result;
  for (auto& [name, sum] : sums) result.push_back(std::move(sum));
  std::stable_sort(result.begin(), result.end(), [](const KernelTime& a, const KernelTime& b) { return a.ns > b.ns; });
  return result;
}

std::string print(const std::vector<KernelTime>& kernels) {
  uint64_t total = 0;
  for (const KernelTime& kernel : kernels) total += kernel.ns;
  std::string text =
      fmt::format("{:<56} {:>5} {:>9} {:>6} {:>9} {:>8}\n", "kernel", "calls", "ms", "%", "GFLOP/s", "GB/s");
  for (const KernelTime& kernel : kernels) {
    double ns = double(std::max<uint64_t>(kernel.ns, 1));
    text += fmt::format("{:<56} {:>5} {:>9.3f} {:>6.1f} {:>9.2f} {:>8.2f}\n", kernel.kernel, kernel.calls, ns / 1e6,
                        100 * ns / double(std::max<uint64_t>(total, 1)), double(kernel.flops) / ns,
                        double(kernel.bytes) / ns);
  }
  return text + fmt::format("{:<56} {:>5} {:>9.3f}\n", "all", "", double(total) / 1e6);
}

}  // namespace surtsey::engine
