#include "engine/executable.h"

#include "graph/platform.h"

#include <algorithm>
#include <cstring>

namespace surtsey::engine {
namespace {

struct AddressArguments {
  uint64_t address[shaders::kMaxBindings];
  uint32_t base;
  uint32_t reserved;
};
static_assert(sizeof(AddressArguments) == shaders::kAddressArgumentBytes);

struct DescriptorArguments {
  uint32_t first[shaders::kMaxBindings];
  uint32_t base;
  uint32_t reserved;
};
static_assert(sizeof(DescriptorArguments) == shaders::kDescriptorArgumentBytes);

}  // namespace

Cutting cut_by_time(std::span<const uint64_t> ns, uint64_t budget_ns) {
  Cutting cutting;
  uint64_t since_cut = 0, total = 0;
  for (uint32_t i = 0; i < ns.size(); ++i) {
    if (i != 0 && since_cut + ns[i] > budget_ns) {
      cutting.cuts.push_back(i);
      since_cut = 0;
    }
    since_cut += ns[i];
    total += ns[i];
  }
  cutting.steps_per_submission =
      uint32_t(std::clamp<uint64_t>(budget_ns / std::max<uint64_t>(total, 1), 1, kMaxStepsPerSubmission));
  return cutting;
}

Executable::Executable(Context& context, const graph::Target& target, const graph::Plan& plan,
                       std::span<const shaders::Shader> shaders, std::vector<std::shared_ptr<const Pipeline>> pipelines,
                       const std::function<Place(uint32_t)>& place, const ExecutableOptions& options)
    : context_(context),
      target_(target),
      plan_(plan),
      name_(std::make_shared<std::string>(plan.name)),
      pipelines_(std::move(pipelines)),
      barrier_(plan.dispatches.size() + 1, 0),
      budget_ns_(options.budget_ns) {
  ensure(pipelines_.size() == plan.kernels.size() && shaders.size() == plan.kernels.size(),
         "{} kernels, {} shaders, {} pipelines", plan.kernels.size(), shaders.size(), pipelines_.size());
  for (uint32_t index : plan.barriers) barrier_.at(index) = 1;
  bind(place, shaders);
  tail_ = context_.allocate_commands();
  vk_check("recording", context_.who, [&] {
    tail_.begin({.flags = vk::CommandBufferUsageFlagBits::eSimultaneousUse});
    full_barrier(tail_);
    tail_.end();
  });

  uint32_t count = uint32_t(plan.dispatches.size());
  if (options.segment_dispatches != 0) {
    std::vector<uint32_t> cuts;
    for (uint32_t i = options.segment_dispatches; i < count; i += options.segment_dispatches) cuts.push_back(i);
    record_segments(cuts);
  } else if (target_.cpu) {
    record_segments({});
    steps_per_submission_ = kMaxStepsPerSubmission;
  }
}

void Executable::bind(const std::function<Place(uint32_t)>& place, std::span<const shaders::Shader> shaders) {
  bool address_mode = target_.addressing == graph::Addressing::address;
  uint32_t bindings = 0;
  for (const graph::Dispatch& dispatch : plan_.dispatches) bindings += uint32_t(dispatch.accesses.size());
  if (!address_mode && bindings > 0) {
    vk::DescriptorPoolSize size{.type = vk::DescriptorType::eStorageBuffer, .descriptorCount = bindings};
    vk::DescriptorPoolCreateInfo info{.flags = vk::DescriptorPoolCreateFlagBits::eFreeDescriptorSet,
                                      .maxSets = uint32_t(plan_.dispatches.size()),
                                      .poolSizeCount = 1,
                                      .pPoolSizes = &size};
    pool_ = vk_check("vkCreateDescriptorPool", context_.who,
                     [&] { return vk::raii::DescriptorPool(context_.device, info); });
  }
  for (const graph::Dispatch& dispatch : plan_.dispatches) {
    const shaders::Shader& shader = shaders[dispatch.kernel];
    ensure(dispatch.accesses.size() == shader.bindings, "kernel {}: {} accesses, {} bindings", shader.name,
           dispatch.accesses.size(), shader.bindings);
    AddressArguments addresses{};
    DescriptorArguments descriptors{};
    std::vector<vk::DescriptorBufferInfo> infos;
    for (size_t i = 0; i < dispatch.accesses.size(); ++i) {
      const graph::Access& access = dispatch.accesses[i];
      Place at = place(access.buffer);
      ensure(access.bytes > 0 && access.offset + access.bytes <= at.bytes,
             "kernel {}: binding {} is [{}, +{}) of a buffer of {}", shader.name, i, access.offset, access.bytes,
             at.bytes);
      uint64_t offset = at.offset + access.offset;
      addresses.address[i] = at.block->address + offset;
      uint64_t slack = offset % target_.storage_offset_alignment;
      uint64_t element = uint64_t(graph::storage_bytes(plan_.buffers[access.buffer].type.dtype));
      descriptors.first[i] = uint32_t(slack / element);
      infos.push_back({.buffer = *at.block->buffer, .offset = offset - slack, .range = access.bytes + slack});
      check(address_mode || infos.back().range <= target_.max_storage_range,
            "kernel {} binds {:.1f} MiB at once; in descriptor mode this device takes at most "
            "{:.1f} MiB",
            shader.name, double(access.bytes) / (1 << 20), double(target_.max_storage_range) / (1 << 20));
    }
    Bound& bound = bound_.emplace_back();
    bound.pipeline = pipelines_[dispatch.kernel].get();
    bound.workgroups = shader.workgroups;
    bound.argument_bytes = address_mode ? sizeof addresses : sizeof descriptors;
    std::memcpy(bound.arguments.data(), address_mode ? static_cast<void*>(&addresses) : &descriptors,
                bound.argument_bytes);
    if (!address_mode && !infos.empty()) write_descriptors(bound, infos);
  }
}

void Executable::write_descriptors(Bound& bound, std::span<const vk::DescriptorBufferInfo> buffers) {
  vk::DescriptorSetAllocateInfo info{
      .descriptorPool = *pool_, .descriptorSetCount = 1, .pSetLayouts = &*bound.pipeline->descriptors};
  bound.descriptors = vk_check("vkAllocateDescriptorSets", context_.who,
                               [&] { return std::move(context_.device.allocateDescriptorSets(info).front()); });
  vk::WriteDescriptorSet write{.dstSet = *bound.descriptors,
                               .dstBinding = 0,
                               .descriptorCount = uint32_t(buffers.size()),
                               .descriptorType = vk::DescriptorType::eStorageBuffer,
                               .pBufferInfo = buffers.data()};
  context_.device.updateDescriptorSets(write, nullptr);
}

void Executable::record_dispatch(const vk::raii::CommandBuffer& commands, uint32_t index) const {
  const Bound& bound = bound_[index];
  const graph::Dispatch& dispatch = plan_.dispatches[index];
  LabelGuard label(context_, commands,
                   [&] { return fmt::format("{} @{}", plan_.kernels[dispatch.kernel].name, dispatch.scope); });
  commands.bindPipeline(vk::PipelineBindPoint::eCompute, *bound.pipeline->handle);
  if (*bound.descriptors)
    commands.bindDescriptorSets(vk::PipelineBindPoint::eCompute, *bound.pipeline->layout, 0, *bound.descriptors,
                                nullptr);
  auto arguments = bound.arguments;
  for (uint32_t base = 0; base < bound.workgroups;) {
    std::memcpy(arguments.data() + bound.argument_bytes - 8, &base, sizeof base);
    commands.pushConstants<std::byte>(*bound.pipeline->layout, vk::ShaderStageFlagBits::eCompute, 0,
                                      vk::ArrayProxy<const std::byte>(bound.argument_bytes, arguments.data()));
    uint32_t count = std::min(target_.max_workgroups, bound.workgroups - base);
    commands.dispatch(count, 1, 1);
    base += count;
  }
}

void Executable::record_segments(const std::vector<uint32_t>& cuts) {
  segments_.clear();
  uint32_t count = uint32_t(plan_.dispatches.size());
  for (size_t i = 0; i <= cuts.size(); ++i) {
    Segment& segment = segments_.emplace_back();
    segment.first = i == 0 ? 0 : cuts[i - 1];
    segment.last = i == cuts.size() ? count : cuts[i];
    segment.flops = flops(segment.first, segment.last);
    segment.commands = context_.allocate_commands();
    context_.name(segment.commands, [&] { return fmt::format("{} [{}, {})", *name_, segment.first, segment.last); });
    vk_check("vkBeginCommandBuffer", context_.who,
             [&] { segment.commands.begin({.flags = vk::CommandBufferUsageFlagBits::eSimultaneousUse}); });
    for (uint32_t d = segment.first; d < segment.last; ++d) {
      if (barrier_before(d)) compute_barrier(segment.commands);
      record_dispatch(segment.commands, d);
    }
    if (segment.last == count && barrier_before(count)) compute_barrier(segment.commands);
    vk_check("vkEndCommandBuffer", context_.who, [&] { segment.commands.end(); });
  }
}

double Executable::flops(uint32_t first, uint32_t last) const {
  double sum = 0;
  for (uint32_t d = first; d < last; ++d) sum += double(plan_.kernels[plan_.dispatches[d].kernel].flops);
  return sum;
}

uint64_t Executable::submit(uint32_t steps) {
  uint64_t ticket = context_.submitted();
  if (steps > 0 && segments_.empty()) {
    std::vector<uint64_t> ns;
    for (const Interval& dispatch : run_timed().dispatches) ns.push_back(dispatch.ns());
    const Cutting cutting = cut_by_time(ns, budget_ns_);
    record_segments(cutting.cuts);
    steps_per_submission_ = cutting.steps_per_submission;
    ticket = context_.submitted();
    --steps;
  }
  uint64_t start = platform::thread_cpu_ns();
  uint32_t total = uint32_t(plan_.dispatches.size());
  auto send = [&](const Segment& segment, uint32_t count) {
    batch_.assign(count, vk::CommandBufferSubmitInfo{.commandBuffer = *segment.commands});
    batch_.push_back({.commandBuffer = *tail_});
    ticket = context_.submit(batch_, {name_, segment.first, segment.last, total, count, segment.flops * count});
    ++submissions_;
  };
  while (steps > 0) {
    uint32_t count = segments_.size() == 1 ? std::min(steps, steps_per_submission_) : 1;
    for (const Segment& segment : segments_) send(segment, count);
    steps -= count;
  }
  host_ns_ += platform::thread_cpu_ns() - start;
  return ticket;
}

TimedRanges Executable::timed_ranges(uint32_t dispatches) const {
  TimedRanges result;
  uint32_t count = uint32_t(plan_.dispatches.size());
  if (dispatches == 0) {
    for (const Segment& segment : segments_) result.ranges.emplace_back(segment.first, segment.last);
  } else {
    for (uint32_t first = 0; first < count; first += dispatches)
      result.ranges.emplace_back(first, std::min(count, first + dispatches));
  }
  result.dispatch = [this](const vk::raii::CommandBuffer& commands, uint32_t index) {
    record_dispatch(commands, index);
  };
  result.barrier_before = [this](uint32_t index) { return barrier_before(index); };
  result.flops = [this](uint32_t first, uint32_t last) { return flops(first, last); };
  return result;
}

Work Executable::timed_work() const {
  return {.program = name_, .total = uint32_t(plan_.dispatches.size()), .steps = 1};
}

TimedReplay Executable::run_timed() {
  // Before it is known how long dispatches take, a submission on a GPU holds few of them.
  uint32_t few = context_.capabilities.timestamp_bits == 0 ? 1 : target_.cpu ? 256 : 4;
  return TimedRecording(context_, timed_ranges(few), TimingMode::isolated).run(timed_work());
}

TimedReplay Executable::run_timed(TimingMode mode) {
  if (segments_.empty()) submit(1);
  std::unique_ptr<TimedRecording>& recording = timed_[mode];
  if (!recording) {
    bool alone = context_.capabilities.timestamp_bits == 0 && mode == TimingMode::isolated;
    recording = std::make_unique<TimedRecording>(context_, timed_ranges(alone ? 1 : 0), mode);
  }
  return recording->run(timed_work());
}

uint64_t Executable::timestamp_ns() {
  constexpr uint32_t kStamps = 64;
  if (context_.capabilities.timestamp_bits == 0) return 0;
  const TimedRanges nothing{.ranges = {{0, kStamps}},
                            .dispatch = [](const vk::raii::CommandBuffer&, uint32_t) {},
                            .barrier_before = [](uint32_t) { return false; }};
  TimedRecording recording(context_, nothing, TimingMode::isolated);
  std::vector<uint64_t> ns;
  for (int repetition = 0; repetition < 4; ++repetition)
    for (const Interval& interval : recording.run({.program = name_}).dispatches) ns.push_back(interval.ns());
  std::nth_element(ns.begin(), ns.begin() + std::ptrdiff_t(ns.size() / 2), ns.end());
  return ns[ns.size() / 2];
}

}  // namespace surtsey::engine
