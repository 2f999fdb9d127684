#include "graph/target.h"

#include "graph/error.h"

#include <algorithm>

namespace surtsey::graph {

namespace {

// Push constants of 128 bytes hold 14 addresses and two 32-bit words.
constexpr uint32_t kMaxBindings = 14;
constexpr uint64_t kMiB = 1u << 20;

constexpr const char* kPresets[] = {"minimal", "lavapipe", "swiftshader", "intel", "amd", "nvidia", "mobile"};

// What Vulkan promises of any device, and nothing else.
Target minimal() {
  Target target;
  target.max_storage_buffers = 4;
  target.addressing = Addressing::descriptor;
  return target;
}

Target lavapipe() {
  Target target;
  target.cpu = true;
  target.threads = 2;
  target.subgroup_size = 8;
  target.max_workgroup_invocations = 1024;
  target.shared_memory_bytes = 32768;
  target.max_storage_buffers = 32;
  target.storage_offset_alignment = 16;
  target.max_storage_range = 128 * kMiB;
  target.max_allocation = 2048 * kMiB;
  target.buffer_address = true;
  target.subgroup_ballot = true;
  target.f16_storage = true;
  target.int64_words = true;
  return target;
}

Target swiftshader() {
  Target target;
  target.cpu = true;
  target.threads = 2;
  target.subgroup_size = 4;
  target.max_workgroup_invocations = 256;
  target.shared_memory_bytes = 32768;
  target.max_storage_buffers = 30;
  target.max_storage_range = 1024 * kMiB;
  target.buffer_address = true;
  target.subgroup_ballot = true;
  return target;
}

Target gpu(uint32_t threads, uint32_t subgroup_size, uint32_t shared_kib, uint64_t range_mib) {
  Target target;
  target.threads = threads;
  target.subgroup_size = subgroup_size;
  target.max_workgroup_invocations = 1024;
  target.shared_memory_bytes = shared_kib * 1024;
  target.max_storage_buffers = 64;
  target.storage_offset_alignment = 64;
  target.max_storage_range = range_mib * kMiB;
  target.max_allocation = 4095 * kMiB;
  target.buffer_address = true;
  target.subgroup_ballot = true;
  target.f16_storage = true;
  return target;
}

// The width varies from 8 to 32 within one shader.
Target intel() { return gpu(96, 0, 64, 4095); }
Target amd() { return gpu(36, 64, 64, 4095); }

// Turing and later.
Target nvidia() {
  Target target = gpu(46, 32, 48, 4095);
  target.cooperative = {.m = 16, .n = 16, .k = 16};
  return target;
}

Target mobile() {
  Target target = gpu(4, 0, 32, 128);
  target.max_workgroup_invocations = 512;
  target.max_storage_buffers = 24;
  target.max_allocation = 1024 * kMiB;
  return target;
}

}  // namespace

uint32_t Target::max_bindings() const {
  return addressing == Addressing::address ? kMaxBindings : std::min(max_storage_buffers, kMaxBindings);
}

bool Target::stores_pairs() const { return cpu && int64_words && addressing == Addressing::address; }

bool Target::can_broadcast() const { return subgroup_ballot && subgroup_size >= 4; }

bool Target::cooperates() const { return cooperative.m != 0 && subgroup_size >= 4 && f16_storage; }

MatmulVariant Target::matmul_variant() const {
  if (matmul == MatmulVariant::automatic) {
    if (cpu && can_broadcast()) return MatmulVariant::lane_broadcast;
    return cooperates() && cooperative_off.empty() ? MatmulVariant::cooperative : MatmulVariant::shared_tile;
  }
  check(matmul != MatmulVariant::cooperative || cooperates(),
        "the cooperative matmul needs cooperative matrices of f16 operands and f32 sums, 16-bit storage and a known "
        "subgroup "
        "size; {} has {}matrices, {}storage and size {}{}",
        name.empty() ? "the device" : name, cooperative.m != 0 ? "" : "no ", f16_storage ? "" : "no ", subgroup_size,
        cooperative_off.empty() ? "" : fmt::format(" (it has some that are not used: {})", cooperative_off));
  check(matmul != MatmulVariant::lane_broadcast || can_broadcast(),
        "the lane_broadcast matmul needs a known subgroup size of 4 or more and subgroup ballot; "
        "{} has size {} and {}ballot",
        name.empty() ? "the device" : name, subgroup_size, subgroup_ballot ? "" : "no ");
  return matmul;
}

ReduceVariant Target::reduce_variant() const {
  if (reduce != ReduceVariant::automatic) return reduce;
  return cpu ? ReduceVariant::lane_per_row : ReduceVariant::workgroup_per_row;
}

bool Target::scatters(int64_t rows) const {
  // The product's work grows with the rows, the kernel's hardly does, but each of its workgroups
  // looks at every index. On lavapipe 4096 updates of 256 columns take 3 ms as a product into 64 rows
  // and 2 to 4 ms in the kernel, into 256 rows as into 4096.
  constexpr int64_t kManyRows = 128;
  return scatter == ScatterVariant::automatic ? rows >= kManyRows : scatter == ScatterVariant::rows;
}

AttentionVariant Target::attention_variant() const {
  if (!fusion) return AttentionVariant::expanded;
  // shared_tile has yet to pass its tests on a GPU, and on CPUs barriers are dear: both have the primitives unless
  // asked.
  if (attention == AttentionVariant::automatic)
    return cpu && can_broadcast() ? AttentionVariant::lane_broadcast : AttentionVariant::expanded;
  if (attention == AttentionVariant::one_query)
    return cpu && can_broadcast() ? AttentionVariant::one_query : AttentionVariant::expanded;
  check(attention != AttentionVariant::lane_broadcast || can_broadcast(),
        "the lane_broadcast attention needs a known subgroup size of 4 or more and subgroup "
        "ballot; {} has size {} and {}ballot",
        name.empty() ? "the device" : name, subgroup_size, subgroup_ballot ? "" : "no ");
  return attention;
}

Target target_preset(std::string_view name) {
  constexpr Target (*kMakers[])() = {minimal, lavapipe, swiftshader, intel, amd, nvidia, mobile};
  static_assert(std::size(kMakers) == std::size(kPresets));
  std::string known;
  for (size_t i = 0; i < std::size(kPresets); ++i) {
    if (name == kPresets[i]) {
      Target target = kMakers[i]();
      target.name = kPresets[i];
      return target;
    }
    known += (i ? ", " : "") + std::string(kPresets[i]);
  }
  throw UserError(fmt::format("'{}' is no target; there are {}", name, known));
}

std::span<const char* const> target_preset_names() { return kPresets; }

}  // namespace surtsey::graph
