#include "engine/timed_recording.h"

#include <chrono>

namespace surtsey::engine {
namespace {

uint64_t host_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace

TimedRecording::TimedRecording(Context& context, const TimedRanges& plan, TimingMode mode)
    : context_(context), mode_(mode), device_clock_(context.capabilities.timestamp_bits != 0) {
  uint32_t queries = 0;
  for (const auto& [first, last] : plan.ranges) {
    check(device_clock_ || mode == TimingMode::whole || last - first <= 1,
          "the queue of {} has no timestamps: dispatches can only be timed alone, by the host's "
          "clock",
          context.who.device);
    Range& range = ranges_.emplace_back();
    range.first = first;
    range.last = last;
    range.query = queries;
    if (plan.flops) range.flops = plan.flops(first, last);
    queries += stamps(range);
  }
  if (device_clock_ && queries > 0) {
    queries_ = vk_check("vkCreateQueryPool", context_.who, [&] {
      return vk::raii::QueryPool(
          context_.device, vk::QueryPoolCreateInfo{.queryType = vk::QueryType::eTimestamp, .queryCount = queries});
    });
  }
  for (Range& range : ranges_) record(range, plan);
}

uint32_t TimedRecording::stamps(const Range& range) const {
  return mode_ == TimingMode::whole ? 2 : range.last - range.first + 1;
}

void TimedRecording::record(Range& range, const TimedRanges& plan) {
  range.commands = context_.allocate_commands();
  uint32_t next = range.query;
  const auto stamp = [&] {
    if (!device_clock_) return;
    range.commands.writeTimestamp2(vk::PipelineStageFlagBits2::eAllCommands, *queries_, next++);
  };
  vk_check("vkBeginCommandBuffer", context_.who, [&] { range.commands.begin({}); });
  if (device_clock_) range.commands.resetQueryPool(*queries_, range.query, stamps(range));
  // What other submissions left is over before the clock starts.
  full_barrier(range.commands);
  stamp();
  for (uint32_t d = range.first; d < range.last; ++d) {
    if (mode_ != TimingMode::isolated && plan.barrier_before(d)) compute_barrier(range.commands);
    plan.dispatch(range.commands, d);
    if (mode_ == TimingMode::isolated) full_barrier(range.commands);
    if (mode_ != TimingMode::whole) stamp();
  }
  if (mode_ == TimingMode::whole) stamp();
  full_barrier(range.commands);
  vk_check("vkEndCommandBuffer", context_.who, [&] { range.commands.end(); });
}

TimedReplay TimedRecording::run(Work work) {
  TimedReplay replay;
  for (const Range& range : ranges_) {
    vk::CommandBufferSubmitInfo info{.commandBuffer = *range.commands};
    work.first = range.first;
    work.last = range.last;
    work.flops = range.flops;
    const uint64_t start = host_ns();
    context_.wait(context_.submit({&info, 1}, work));
    const uint64_t end = host_ns();
    replay.host_ns += end - start;
    if (device_clock_) {
      read(range, replay);
      continue;
    }
    if (!started_) origin_ = start;
    started_ = true;
    replay.busy_ns += end - start;
    if (mode_ != TimingMode::whole && range.last > range.first)
      replay.dispatches.push_back({start - origin_, end - origin_});
  }
  return replay;
}

void TimedRecording::read(const Range& range, TimedReplay& replay) {
  const uint32_t count = stamps(range);
  const auto [result, ticks] = vk_check("vkGetQueryPoolResults", context_.who, [&] {
    return queries_.getResults<uint64_t>(range.query, count, count * sizeof(uint64_t), sizeof(uint64_t),
                                         vk::QueryResultFlagBits::e64 | vk::QueryResultFlagBits::eWait);
  });
  ensure(result == vk::Result::eSuccess, "timestamps are not there although the work is done");
  if (!started_) origin_ = ticks.front();
  started_ = true;
  replay.busy_ns += since_origin(ticks.back()) - since_origin(ticks.front());
  if (mode_ == TimingMode::whole) return;
  for (uint32_t i = 0; i + 1 < count; ++i)
    replay.dispatches.push_back({since_origin(ticks[i]), since_origin(ticks[i + 1])});
}

// The counter wraps at the width that the queue family gives it.
uint64_t TimedRecording::since_origin(uint64_t ticks) const {
  const uint32_t bits = context_.capabilities.timestamp_bits;
  const uint64_t mask = bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1;
  const double period = context_.capabilities.properties.limits.timestampPeriod;
  return uint64_t(double((ticks - origin_) & mask) * period);
}

}  // namespace surtsey::engine
