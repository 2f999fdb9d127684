// Memory: arenas of blocks, and how the host reaches them.
//
// An arena is a list of blocks, each one VkBuffer with its own memory of at most
// Target::max_allocation bytes. A tensor lies in one block. Where the device's memory can be mapped
// at full speed (CPU and integrated devices) arenas are mapped and copies are memcpy; elsewhere
// they go through a staging buffer.
#pragma once

#include "engine/context.h"

#include <vector>

namespace surtsey::engine {

enum class Residence : uint8_t {
  device,   // fast for the device; mapped only where that costs nothing
  host,     // always mapped and coherent: what the host writes while the device runs
  staging,  // mapped, cached for reading
};

struct Block {
  vk::raii::DeviceMemory memory = nullptr;
  vk::raii::Buffer buffer = nullptr;
  uint64_t bytes = 0;
  uint64_t address = 0;         // device address, 0 without that feature
  std::byte* mapped = nullptr;  // or null
};

// DeviceError when the driver has no memory left, with the size that was asked for and `what` it
// was for.
Block allocate_block(Context& context, uint64_t bytes, Residence residence, const char* what);

// Where a buffer of a plan lies.
struct Place {
  const Block* block = nullptr;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// A bump allocator over blocks. Sizes first, memory later: the whole need is known, and can be
// refused, before the first allocation.
class Arena {
 public:
  Arena(std::string name, Residence residence, uint64_t alignment, uint64_t max_block);

  // Reserves room; returns the number of the reservation. UserError when `bytes` is more than one
  // block may have.
  size_t reserve(uint64_t bytes, const std::string& what);
  uint64_t bytes() const;  // of all blocks
  void allocate(Context& context);
  Place place(size_t reservation) const;
  std::span<const Block> blocks() const { return blocks_; }

 private:
  struct Reservation {
    size_t block = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  std::string name_;
  Residence residence_;
  uint64_t alignment_;
  uint64_t max_block_;
  std::vector<uint64_t> sizes_;
  std::vector<Reservation> reservations_;
  std::vector<Block> blocks_;
};

// Copies between host and blocks. Nothing may be in flight that touches the bytes; results are
// visible to later submissions.
class Transfer {
 public:
  explicit Transfer(Context& context) : context_(context) {}
  void upload(const Place& place, uint64_t offset, std::span<const std::byte> bytes);
  void download(const Place& place, uint64_t offset, std::span<std::byte> bytes);
  void fill(const Block& block, uint32_t pattern);

 private:
  const Block& staging();
  Context& context_;
  Block staging_;
};

// What the heap of the arenas has, and what other processes leave of it where the driver tells.
struct HeapSpace {
  uint64_t heap_bytes = 0;
  uint64_t available_bytes = 0;
};
HeapSpace heap_space(Context& context, Residence residence);

}  // namespace surtsey::engine
