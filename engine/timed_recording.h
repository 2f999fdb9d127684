// A plan as command buffers with timestamps, recorded once and replayed: when each dispatch ran on
// the device.
#pragma once

#include "engine/context.h"
#include "engine/profiler.h"

#include <functional>

namespace surtsey::engine {

// What a timed recording is made of. Dispatches [first, last) of a range go out in one submission,
// ranges follow each other.
struct TimedRanges {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  std::function<void(const vk::raii::CommandBuffer&, uint32_t)> dispatch;  // records one
  std::function<double(uint32_t, uint32_t)> flops;                         // of dispatches [first, last); may be empty
  std::function<bool(uint32_t)> barrier_before;  // of the plan; last == count: the barrier at the end
};

class TimedRecording {
 public:
  // UserError when the queue has no timestamps and the mode needs more than the host's clock: then
  // only ranges of one dispatch can be timed apart.
  TimedRecording(Context& context, const TimedRanges& plan, TimingMode mode);

  // Submits every range, waits, and reads the stamps. `work` gives the program for the message of a
  // device that is lost.
  TimedReplay run(Work work);

 private:
  struct Range {
    uint32_t first = 0, last = 0;
    uint32_t query = 0;  // the first one
    double flops = 0;
    vk::raii::CommandBuffer commands = nullptr;
  };
  void record(Range& range, const TimedRanges& plan);
  uint32_t stamps(const Range& range) const;  // that it writes
  void read(const Range& range, TimedReplay& replay);
  uint64_t since_origin(uint64_t ticks) const;

  Context& context_;
  const TimingMode mode_;
  const bool device_clock_;
  std::vector<Range> ranges_;
  vk::raii::QueryPool queries_ = nullptr;
  bool started_ = false;
  uint64_t origin_ = 0;  // ticks of the first stamp
};

}  // namespace surtsey::engine
