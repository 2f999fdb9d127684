#include "engine/buffer.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace surtsey::engine {
namespace {

constexpr uint64_t kStagingBytes = 16u << 20;
using Flag = vk::MemoryPropertyFlagBits;

// What is wanted of the memory, best first.
std::vector<vk::MemoryPropertyFlags> wishes(const Context& context, Residence residence) {
  vk::MemoryPropertyFlags mapped = Flag::eHostVisible | Flag::eHostCoherent;
  switch (residence) {
    case Residence::device:
      if (context.unified)
        return {mapped | Flag::eDeviceLocal | Flag::eHostCached, mapped | Flag::eDeviceLocal, Flag::eDeviceLocal, {}};
      return {Flag::eDeviceLocal, {}};
    case Residence::host:
      if (context.unified)
        return {mapped | Flag::eDeviceLocal | Flag::eHostCached, mapped | Flag::eDeviceLocal, mapped};
      return {mapped | Flag::eHostCached, mapped};
    case Residence::staging:
      return {mapped | Flag::eHostCached, mapped};
  }
  return {};
}

uint32_t memory_type(const Context& context, Residence residence, uint32_t allowed) {
  const vk::PhysicalDeviceMemoryProperties& memory = context.capabilities.memory;
  for (vk::MemoryPropertyFlags wish : wishes(context, residence)) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
      if (!(allowed >> i & 1) || (memory.memoryTypes[i].propertyFlags & wish) != wish) continue;
      auto heap = [&](uint32_t type) { return memory.memoryHeaps[memory.memoryTypes[type].heapIndex].size; };
      if (best == UINT32_MAX || heap(i) > heap(best)) best = i;
    }
    if (best != UINT32_MAX) return best;
  }
  throw DeviceError("choosing a memory type", "none fits", context.who.device, context.who.driver);
}

vk::raii::Buffer create_buffer(Context& context, uint64_t bytes) {
  vk::BufferCreateInfo info{.size = bytes,
                            .usage = vk::BufferUsageFlagBits::eStorageBuffer | vk::BufferUsageFlagBits::eTransferSrc |
                                     vk::BufferUsageFlagBits::eTransferDst};
  if (context.buffer_address) info.usage |= vk::BufferUsageFlagBits::eShaderDeviceAddress;
  return vk_check("vkCreateBuffer", context.who, [&] { return vk::raii::Buffer(context.device, info); });
}

}  // namespace

Block allocate_block(Context& context, uint64_t bytes, Residence residence, const char* what) {
  Block block;
  block.bytes = bytes;
  block.buffer = create_buffer(context, bytes);
  vk::MemoryRequirements needs = block.buffer.getMemoryRequirements();
  uint32_t type = memory_type(context, residence, needs.memoryTypeBits);
  vk::MemoryAllocateFlagsInfo flags{.flags = vk::MemoryAllocateFlagBits::eDeviceAddress};
  vk::MemoryAllocateInfo info{
      .pNext = context.buffer_address ? &flags : nullptr, .allocationSize = needs.size, .memoryTypeIndex = type};
  block.memory = vk_check(
      "vkAllocateMemory", context.who, [&] { return vk::raii::DeviceMemory(context.device, info); },
      fmt::format("{:.1f} MiB for {}. Other processes may hold the memory; a smaller batch or a "
                  "shorter context needs less",
                  double(needs.size) / (1 << 20), what));
  vk_check("vkBindBufferMemory", context.who, [&] { block.buffer.bindMemory(*block.memory, 0); });
  context.name(block.buffer, [&] { return std::string(what); });
  context.name(block.memory, [&] { return std::string(what); });
  if (context.buffer_address) block.address = context.device.getBufferAddress({.buffer = *block.buffer});
  bool wanted = residence != Residence::device || context.unified;
  if (wanted && (context.capabilities.memory.memoryTypes[type].propertyFlags & Flag::eHostVisible))
    block.mapped = static_cast<std::byte*>(vk_check(
        "vkMapMemory", context.who, [&] { return block.memory.mapMemory(0, VK_WHOLE_SIZE); },
        fmt::format("{:.1f} MiB for {}", double(needs.size) / (1 << 20), what)));
  return block;
}

HeapSpace heap_space(Context& context, Residence residence) {
  vk::raii::Buffer probe = create_buffer(context, 4096);
  uint32_t type = memory_type(context, residence, probe.getMemoryRequirements().memoryTypeBits);
  uint32_t heap = context.capabilities.memory.memoryTypes[type].heapIndex;
  HeapSpace result{.heap_bytes = context.capabilities.memory.memoryHeaps[heap].size};
  result.available_bytes = result.heap_bytes;
  if (context.memory_budget) {
    auto chain =
        context.physical
            .getMemoryProperties2<vk::PhysicalDeviceMemoryProperties2, vk::PhysicalDeviceMemoryBudgetPropertiesEXT>();
    const auto& budget = chain.get<vk::PhysicalDeviceMemoryBudgetPropertiesEXT>();
    uint64_t total = budget.heapBudget[heap], used = budget.heapUsage[heap];
    if (total != 0) result.available_bytes = std::min(result.heap_bytes, total > used ? total - used : 0);
  }
  return result;
}

Arena::Arena(std::string name, Residence residence, uint64_t alignment, uint64_t max_block)
    : name_(std::move(name)), residence_(residence), alignment_(alignment), max_block_(max_block) {}

size_t Arena::reserve(uint64_t bytes, const std::string& what) {
  ensure(blocks_.empty(), "arena {}: reserving after allocation", name_);
  uint64_t size = std::max<uint64_t>(alignment_, (bytes + alignment_ - 1) / alignment_ * alignment_);
  check(size <= max_block_, "{} needs {:.1f} MiB in one piece; this device allocates at most {:.1f} MiB at a time",
        what, double(bytes) / (1 << 20), double(max_block_) / (1 << 20));
  if (sizes_.empty() || sizes_.back() + size > max_block_) sizes_.push_back(0);
  reservations_.push_back({sizes_.size() - 1, sizes_.back(), bytes});
  sizes_.back() += size;
  return reservations_.size() - 1;
}

uint64_t Arena::bytes() const {
  uint64_t total = 0;
  for (uint64_t size : sizes_) total += size;
  return total;
}

void Arena::allocate(Context& context) {
  for (uint64_t size : sizes_) blocks_.push_back(allocate_block(context, size, residence_, name_.c_str()));
}

Place Arena::place(size_t reservation) const {
  const Reservation& r = reservations_.at(reservation);
  return {&blocks_.at(r.block), r.offset, r.bytes};
}

const Block& Transfer::staging() {
  if (staging_.bytes == 0) staging_ = allocate_block(context_, kStagingBytes, Residence::staging, "staging");
  return staging_;
}

void Transfer::upload(const Place& place, uint64_t offset, std::span<const std::byte> bytes) {
  if (place.block->mapped) {
    std::memcpy(place.block->mapped + place.offset + offset, bytes.data(), bytes.size());
    return;
  }
  for (uint64_t done = 0; done < bytes.size(); done += kStagingBytes) {
    uint64_t count = std::min<uint64_t>(kStagingBytes, bytes.size() - done);
    std::memcpy(staging().mapped, bytes.data() + done, count);
    vk::BufferCopy region{.srcOffset = 0, .dstOffset = place.offset + offset + done, .size = count};
    context_.run_once([&](const vk::raii::CommandBuffer& commands) {
      full_barrier(commands);
      commands.copyBuffer(*staging().buffer, *place.block->buffer, region);
      full_barrier(commands);
    });
  }
}

void Transfer::download(const Place& place, uint64_t offset, std::span<std::byte> bytes) {
  if (place.block->mapped) {
    std::memcpy(bytes.data(), place.block->mapped + place.offset + offset, bytes.size());
    return;
  }
  for (uint64_t done = 0; done < bytes.size(); done += kStagingBytes) {
    uint64_t count = std::min<uint64_t>(kStagingBytes, bytes.size() - done);
    vk::BufferCopy region{.srcOffset = place.offset + offset + done, .dstOffset = 0, .size = count};
    context_.run_once([&](const vk::raii::CommandBuffer& commands) {
      full_barrier(commands);
      commands.copyBuffer(*place.block->buffer, *staging().buffer, region);
      full_barrier(commands);
    });
    std::memcpy(bytes.data() + done, staging().mapped, count);
  }
}

void Transfer::fill(const Block& block, uint32_t pattern) {
  if (block.mapped) {
    auto* words = reinterpret_cast<uint32_t*>(block.mapped);
    std::fill(words, words + block.bytes / 4, pattern);
    return;
  }
  context_.run_once([&](const vk::raii::CommandBuffer& commands) {
    full_barrier(commands);
    commands.fillBuffer(*block.buffer, 0, VK_WHOLE_SIZE, pattern);
    full_barrier(commands);
  });
}

}  // namespace surtsey::engine
