// The opened device as the rest of this folder sees it: handles, limits, the queue and its
// timeline.
#pragma once

#include "engine/device.h"
#include "engine/features.h"
#include "engine/instance.h"

#include <atomic>
#include <deque>
#include <mutex>

namespace surtsey::engine {

// What a submission runs, for the message of a device that is lost.
struct Work {
  std::shared_ptr<const std::string> program;
  uint32_t first = 0, last = 0;  // dispatches [first, last) of `total`
  uint32_t total = 0;
  uint32_t steps = 0;
  double flops = 0;  // of all of it
};

struct Context {
  explicit Context(Instance opened) : instance(std::move(opened)) {}
  Instance instance;
  vk::raii::PhysicalDevice physical = nullptr;
  vk::raii::Device device = nullptr;
  Capabilities capabilities;
  DriverName who;
  bool memory_budget = false;
  bool subgroup_size_control = false;
  bool buffer_address = false;
  bool executable_properties = false;
  bool pipeline_cache = false;
  bool debug_labels = false;  // objects and dispatches carry names
  bool creation_feedback = false;
  bool tuning = false;   // measured tiles are read from the cache on disk
  bool unified = false;  // the host reaches the device's memory at full speed
  vk::raii::Queue queue = nullptr;
  vk::raii::CommandPool pool = nullptr;  // of the thread that submits
  vk::raii::Semaphore timeline = nullptr;

  ~Context();

  // Hands the buffers to the queue, in order, and returns the ticket that completes after them.
  // Only one thread submits.
  uint64_t submit(std::span<const vk::CommandBufferSubmitInfo> buffers, const Work& work = {});
  // Waits in slices, so that a hang is told from a long run: DeviceError when nothing completes in
  // kHangSlices of them. A CPU device is slow and not hung: it is waited for. Any thread may wait.
  // After that error nothing of the device is destroyed any more, by whatever destructor: the work
  // that is in flight uses it. Waiting for that work again fails at once.
  void wait(uint64_t ticket);
  uint64_t completed();
  uint64_t submitted() const { return submitted_; }
  uint64_t submit_ns() const {
    return submit_ns_;
  }  // CPU time of the submitting thread in vkQueueSubmit2, all submissions
  uint64_t submissions() const { return submissions_; }

  vk::raii::CommandBuffer allocate_commands();
  // Gives an object the name that graphics debuggers and vendors' profilers show: text().
  template <typename Handle, typename Text>
  void name(const Handle& handle, Text&& text) const {
    if (!debug_labels) return;
    using Plain = std::decay_t<decltype(*handle)>;
    const std::string shown = text();
    device.setDebugUtilsObjectNameEXT({.objectType = Plain::objectType,
                                       .objectHandle = uint64_t(static_cast<typename Plain::CType>(*handle)),
                                       .pObjectName = shown.c_str()});
  }
  // Records with `record`, submits and waits.
  template <typename F>
  void run_once(F&& record) {
    vk::raii::CommandBuffer commands = allocate_commands();
    vk_check("recording", who, [&] {
      commands.begin({.flags = vk::CommandBufferUsageFlagBits::eOneTimeSubmit});
      record(commands);
      commands.end();
    });
    vk::CommandBufferSubmitInfo info{.commandBuffer = *commands};
    wait(submit({&info, 1}));
  }

 private:
  uint64_t note_completed(uint64_t ticket);  // never back; returns the newest that is known
  void keep_objects();                       // from here on nothing is destroyed
  DeviceError lost(const char* call, const vk::SystemError& error);
  std::string pending(uint64_t completed);  // the oldest work that has not completed, in words
  std::atomic<uint64_t> submitted_ = 0;
  std::atomic<uint64_t> last_completed_ = 0;
  std::atomic<uint64_t> submit_ns_ = 0;
  std::atomic<uint64_t> submissions_ = 0;
  std::atomic<bool> hung_ = false;
  std::mutex mutex_;
  std::deque<std::pair<uint64_t, Work>> in_flight_;
};

// The slices are counted, not the clock: a process that was stopped meanwhile has waited for
// nothing.
constexpr uint64_t kSliceNs = 1'000'000'000;
constexpr uint32_t kHangSlices = 600;

// Commands recorded while it lives stand under a label that such tools show: text().
class LabelGuard {
 public:
  template <typename Text>
  LabelGuard(const Context& context, const vk::raii::CommandBuffer& commands, Text&& text)
      : commands_(context.debug_labels ? &commands : nullptr) {
    if (!commands_) return;
    const std::string shown = text();
    commands_->beginDebugUtilsLabelEXT({.pLabelName = shown.c_str()});
  }
  ~LabelGuard() {
    if (commands_) commands_->endDebugUtilsLabelEXT();
  }
  LabelGuard(const LabelGuard&) = delete;
  LabelGuard& operator=(const LabelGuard&) = delete;

 private:
  const vk::raii::CommandBuffer* commands_;
};

// What other folders see of a device.
std::string device_details(const Capabilities& capabilities);  // DeviceInfo::details
DeviceInfo describe(uint32_t index, const Capabilities& capabilities, const FeatureSet& chosen);
// The device itself and what is known of it; queue, pool and timeline are left empty.
void create_device(Context& context, vk::raii::PhysicalDevice physical, const Capabilities& capabilities,
                   const FeatureSet& chosen, const DeviceInfo& info);

// Orders everything before against everything after, host accesses included.
void full_barrier(const vk::raii::CommandBuffer& commands);
// Between dispatches.
void compute_barrier(const vk::raii::CommandBuffer& commands);

}  // namespace surtsey::engine
