// A plan as command buffers that are recorded once and replayed.
#pragma once

#include "engine/buffer.h"
#include "engine/pipeline.h"
#include "engine/timed_recording.h"
#include "graph/plan.h"

#include <functional>
#include <map>
#include <memory>

namespace surtsey::engine {

// Watchdogs kill at about 2 s; 150 ms leaves room for a clock that drops and for other programs.
constexpr uint64_t kSubmissionBudgetNs = 150'000'000;
constexpr uint32_t kMaxStepsPerSubmission = 16;

struct ExecutableOptions {
  uint32_t segment_dispatches = 0;           // cuts the recording every so many dispatches, each its own
                                             // submission (for tests); 0: by time
  uint64_t budget_ns = kSubmissionBudgetNs;  // of a submission on a GPU
};

// How a recording goes out so that no submission runs longer than the budget, given what each
// dispatch took. A dispatch that alone takes longer is a submission of its own.
struct Cutting {
  std::vector<uint32_t> cuts;  // a segment begins at each of these dispatches, and at 0
  uint32_t steps_per_submission = 1;
};
Cutting cut_by_time(std::span<const uint64_t> ns, uint64_t budget_ns);

// The recording is a list of segments. CPU devices have one; on a GPU the first step is timed
// dispatch by dispatch, and segments are cut so that no submission runs longer than the budget.
// Where one segment is enough, several steps go out in a submission. Every
// submission ends with a barrier against everything, the host included: programs need none between
// each other.
class Executable {
 public:
  // `place` says where a buffer of the plan lies. The plan and the blocks must outlive the
  // executable.
  Executable(Context& context, const graph::Target& target, const graph::Plan& plan,
             std::span<const shaders::Shader> shaders, std::vector<std::shared_ptr<const Pipeline>> pipelines,
             const std::function<Place(uint32_t)>& place, const ExecutableOptions& options);

  // Submits `steps` replays and returns the ticket of the last. Throws only DeviceError.
  uint64_t submit(uint32_t steps);

  // Runs one step with timestamps, and waits. In the segments of the recording: on a GPU the first
  // call may run another step before, which finds them.
  TimedReplay run_timed(TimingMode mode);
  // What a timestamp adds to an interval between two of them, device time: nothing runs in between.
  uint64_t timestamp_ns();

  uint64_t submissions() const { return submissions_; }
  uint64_t host_ns() const { return host_ns_; }  // CPU time of the submitting thread, all submissions
  uint32_t segments() const { return uint32_t(segments_.size()); }

 private:
  struct Bound {
    const Pipeline* pipeline = nullptr;
    vk::raii::DescriptorSet descriptors = nullptr;
    std::array<std::byte, shaders::kAddressArgumentBytes> arguments{};
    uint32_t argument_bytes = 0;
    uint32_t workgroups = 0;
  };
  struct Segment {
    uint32_t first = 0, last = 0;
    double flops = 0;
    vk::raii::CommandBuffer commands = nullptr;
  };

  void bind(const std::function<Place(uint32_t)>& place, std::span<const shaders::Shader> shaders);
  void write_descriptors(Bound& bound, std::span<const vk::DescriptorBufferInfo> buffers);
  void record_dispatch(const vk::raii::CommandBuffer& commands, uint32_t index) const;
  void record_segments(const std::vector<uint32_t>& cuts);
  TimedRanges timed_ranges(uint32_t dispatches) const;  // in a range; 0: the segments
  Work timed_work() const;
  TimedReplay run_timed();                            // one step dispatch by dispatch, in short submissions
  double flops(uint32_t first, uint32_t last) const;  // of the dispatches [first, last)
  bool barrier_before(uint32_t index) const { return barrier_[index] != 0; }

  Context& context_;
  const graph::Target target_;
  const graph::Plan& plan_;
  std::shared_ptr<const std::string> name_;
  std::vector<std::shared_ptr<const Pipeline>> pipelines_;
  std::vector<uint8_t> barrier_;  // one per dispatch, and one for the end
  vk::raii::DescriptorPool pool_ = nullptr;
  std::vector<Bound> bound_;
  std::vector<Segment> segments_;
  std::map<TimingMode, std::unique_ptr<TimedRecording>> timed_;
  vk::raii::CommandBuffer tail_ = nullptr;  // the barrier that ends a submission
  std::vector<vk::CommandBufferSubmitInfo> batch_;
  uint64_t budget_ns_ = kSubmissionBudgetNs;
  uint32_t steps_per_submission_ = 1;
  uint64_t submissions_ = 0;
  uint64_t host_ns_ = 0;
};

}  // namespace surtsey::engine
