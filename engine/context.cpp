#include "engine/context.h"

#include "graph/platform.h"

namespace surtsey::engine {
namespace {

constexpr const char* kLostAdvice =
    "the driver gave the device up: a kernel ran too long (watchdogs kill at about 2 s), or it "
    "failed. A smaller batch makes shorter kernels, SURTSEY_VALIDATION=1 looks for defects";

std::string describe(const Work& work) {
  if (!work.program) return "under way was a copy; ";
  return fmt::format(
      "under way was program '{}', dispatches {} to {} of {}, {} step{} in the submission, {:.3g} "
      "GFLOP; ",
      *work.program, work.first, work.last == 0 ? 0 : work.last - 1, work.total, work.steps, work.steps == 1 ? "" : "s",
      work.flops / 1e9);
}

constexpr double kHangSeconds = double(kHangSlices) * double(kSliceNs) / 1e9;

// Puts nothing in the place of a function that destroys or frees.
template <typename Result, typename... Arguments>
void disarm(Result(VKAPI_PTR*& function)(Arguments...)) {
  function = [](Arguments...) { return Result(); };
}

}  // namespace

void full_barrier(const vk::raii::CommandBuffer& commands) {
  vk::MemoryBarrier2 barrier{
      .srcStageMask = vk::PipelineStageFlagBits2::eAllCommands,
      .srcAccessMask = vk::AccessFlagBits2::eMemoryRead | vk::AccessFlagBits2::eMemoryWrite,
      .dstStageMask = vk::PipelineStageFlagBits2::eAllCommands | vk::PipelineStageFlagBits2::eHost,
      .dstAccessMask =
          vk::AccessFlagBits2::eMemoryRead | vk::AccessFlagBits2::eMemoryWrite | vk::AccessFlagBits2::eHostRead};
  commands.pipelineBarrier2({.memoryBarrierCount = 1, .pMemoryBarriers = &barrier});
}

void compute_barrier(const vk::raii::CommandBuffer& commands) {
  vk::AccessFlags2 access = vk::AccessFlagBits2::eShaderRead | vk::AccessFlagBits2::eShaderWrite;
  vk::MemoryBarrier2 barrier{.srcStageMask = vk::PipelineStageFlagBits2::eComputeShader,
                             .srcAccessMask = access,
                             .dstStageMask = vk::PipelineStageFlagBits2::eComputeShader,
                             .dstAccessMask = access};
  commands.pipelineBarrier2({.memoryBarrierCount = 1, .pMemoryBarriers = &barrier});
}

Context::~Context() {
  if (hung_) {
    // The driver's threads may still run: device, instance and loader stay as long as the process,
    // and can be reached, so that checkers of leaks see them kept.
    static auto* const kept = new std::deque<std::pair<Instance, vk::raii::Device>>;
    static std::mutex one_at_a_time;
    std::scoped_lock lock(one_at_a_time);
    kept->emplace_back(std::move(instance), std::move(device));
    return;
  }
  try {
    if (*device) device.waitIdle();
  } catch (const vk::SystemError&) {
    // A lost device has nothing to wait for.
  }
}

vk::raii::CommandBuffer Context::allocate_commands() {
  return vk_check("vkAllocateCommandBuffers", who, [&] {
    vk::CommandBufferAllocateInfo info{
        .commandPool = *pool, .level = vk::CommandBufferLevel::ePrimary, .commandBufferCount = 1};
    return std::move(device.allocateCommandBuffers(info).front());
  });
}

uint64_t Context::submit(std::span<const vk::CommandBufferSubmitInfo> buffers, const Work& work) {
  uint64_t start = platform::thread_cpu_ns();
  uint64_t ticket = submitted_ + 1;
  vk::SemaphoreSubmitInfo signal{
      .semaphore = *timeline, .value = ticket, .stageMask = vk::PipelineStageFlagBits2::eAllCommands};
  vk::SubmitInfo2 info{.commandBufferInfoCount = uint32_t(buffers.size()),
                       .pCommandBufferInfos = buffers.data(),
                       .signalSemaphoreInfoCount = 1,
                       .pSignalSemaphoreInfos = &signal};
  {
    // Before it is handed over: a driver may find out in this very call.
    std::scoped_lock lock(mutex_);
    const uint64_t done = last_completed_;
    while (!in_flight_.empty() && in_flight_.front().first <= done) in_flight_.pop_front();
    in_flight_.emplace_back(ticket, work);
  }
  try {
    queue.submit2(info);
  } catch (const vk::SystemError& error) {
    throw lost("vkQueueSubmit2", error);
  }
  submitted_ = ticket;
  submit_ns_ += platform::thread_cpu_ns() - start;
  ++submissions_;
  return ticket;
}

uint64_t Context::completed() {
  uint64_t value = 0;
  try {
    value = timeline.getCounterValue();
  } catch (const vk::SystemError& error) {
    throw lost("vkGetSemaphoreCounterValue", error);
  }
  // A lost device may report any value; tickets that were never handed out have not completed.
  return note_completed(std::min<uint64_t>(value, submitted_));
}

uint64_t Context::note_completed(uint64_t ticket) {
  uint64_t known = last_completed_;
  while (known < ticket && !last_completed_.compare_exchange_weak(known, ticket)) {
  }
  return last_completed_;
}

void Context::wait(uint64_t ticket) {
  ensure(ticket <= submitted_, "waiting for ticket {} of {}", ticket, submitted_.load());
  uint64_t progress = last_completed_;
  uint32_t idle = 0;  // slices in a row in which nothing completed
  while (last_completed_ < ticket) {
    vk::SemaphoreWaitInfo info{.semaphoreCount = 1, .pSemaphores = &*timeline, .pValues = &ticket};
    vk::Result result = vk::Result::eTimeout;
    try {
      result = device.waitSemaphores(info, hung_ ? 0 : kSliceNs);
    } catch (const vk::SystemError& error) {
      throw lost("vkWaitSemaphores", error);
    }
    uint64_t done = completed();  // asked in any case: a lost device may be found out only here
    // A wait that succeeds is believed: a counter that stays behind would be asked for ever.
    if (result == vk::Result::eSuccess) done = note_completed(ticket);
    idle = done == progress ? idle + 1 : 0;
    progress = done;
    if (done >= ticket || (!hung_ && idle < kHangSlices)) continue;
    if (capabilities.cpu()) {
      fmt::print(stderr, "{}: nothing completed for {:.0f} s; it is waited for\n", who.device, kHangSeconds);
      idle = 0;
      continue;
    }
    keep_objects();
    throw DeviceError("waiting", vk::to_string(vk::Result::eErrorDeviceLost), who.device, who.driver,
                      fmt::format("{}nothing completed for {:.0f} s, it is given up", pending(done), kHangSeconds));
  }
}

void Context::keep_objects() {
  if (hung_.exchange(true)) return;
  // Every handle calls through this table. The object is not const, the accessor's view of it is.
  auto& table = const_cast<std::remove_const_t<std::remove_reference_t<decltype(*device.getDispatcher())>>&>(
      *device.getDispatcher());
  disarm(table.vkDestroyBuffer);
  disarm(table.vkDestroyCommandPool);
  disarm(table.vkDestroyDescriptorPool);
  disarm(table.vkDestroyDescriptorSetLayout);
  disarm(table.vkDestroyPipeline);
  disarm(table.vkDestroyPipelineCache);
  disarm(table.vkDestroyPipelineLayout);
  disarm(table.vkDestroyQueryPool);
  disarm(table.vkDestroySemaphore);
  disarm(table.vkDestroyShaderModule);
  disarm(table.vkFreeCommandBuffers);
  disarm(table.vkFreeDescriptorSets);
  disarm(table.vkFreeMemory);
}

DeviceError Context::lost(const char* call, const vk::SystemError& error) {
  const auto result = static_cast<vk::Result>(error.code().value());
  const char* advice = result == vk::Result::eErrorDeviceLost ? kLostAdvice : "";
  return DeviceError(call, vk::to_string(result), who.device, who.driver, pending(last_completed_) + advice);
}

std::string Context::pending(uint64_t completed) {
  std::scoped_lock lock(mutex_);
  for (const auto& [ticket, work] : in_flight_)
    if (ticket > completed) return describe(work);
  return {};
}

}  // namespace surtsey::engine
