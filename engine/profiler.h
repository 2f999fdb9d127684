// Where the time of a step goes.
#pragma once

#include "graph/plan.h"

#include <cstdint>
#include <string>
#include <vector>

namespace surtsey::engine {

// How a replay is timed.
//   whole     the recording as it is, a timestamp at its start and one at its end
//   grouped   the recording as it is, a timestamp after every dispatch: dispatches between two
//             barriers overlap, and the time of one is what it adds until it is complete
//   isolated  a barrier around every dispatch: its own time, and nothing overlaps
enum class TimingMode : uint8_t { whole, grouped, isolated };
const char* name(TimingMode mode);

struct Interval {
  uint64_t begin_ns = 0, end_ns = 0;  // since the first timed replay of this program and mode
  uint64_t ns() const { return end_ns - begin_ns; }
};

// One replay. Intervals follow each other without a gap inside a submission and never overlap.
struct TimedReplay {
  std::vector<Interval> dispatches;  // in the order of the plan; none when timed as a whole
  uint64_t busy_ns = 0;              // from the first to the last timestamp of each submission
  uint64_t host_ns = 0;              // until the host knew that it was done, submission included
};

// How the kernel of a plan was made.
struct KernelBuild {
  uint64_t spirv_bytes = 0;
  uint32_t shared_bytes = 0;     // shared memory of a workgroup
  bool spirv_cached = false;     // from the cache on disk
  double pipeline_ms = 0;        // in the driver; 0 when an earlier kernel has the same text
  bool pipeline_cached = false;  // the driver says that it came from a cache of pipelines
  bool shared = false;           // an earlier kernel of the session has the same text
};

struct KernelTime {
  std::string kernel;  // matmul_nt_64x32x512_gelu
  uint32_t calls = 0;
  uint64_t ns = 0;
  uint64_t flops = 0;
  uint64_t bytes = 0;
};

// A replay of this plan that was timed dispatch by dispatch, summed by kernel; the one that takes longest first.
std::vector<KernelTime> by_kernel(const graph::Plan& plan, const TimedReplay& replay);

// A table: calls, ms, share, GFLOP/s, GB/s.
std::string print(const std::vector<KernelTime>& kernels);

}  // namespace surtsey::engine
