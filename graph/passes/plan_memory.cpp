#include "graph/passes/lowering.h"

#include <algorithm>

namespace surtsey::graph {

namespace {
// Large enough for every device's storage buffer offset, and for a cache line.
constexpr uint64_t kAlignment = 256;
}  // namespace

void plan_memory(Plan& plan, uint64_t block) {
  struct Life {
    uint32_t buffer;
    uint32_t first, last;  // dispatches, inclusive
  };
  std::vector<Life> lives;
  std::vector<uint32_t> index(plan.buffers.size(), kNone);
  for (uint32_t d = 0; d < plan.dispatches.size(); ++d) {
    for (const Access& access : plan.dispatches[d].accesses) {
      if (plan.buffers[access.buffer].kind != BufferKind::transient) continue;
      uint32_t& life = index[access.buffer];
      if (life == kNone) {
        life = uint32_t(lives.size());
        lives.push_back({access.buffer, d, d});
      }
      lives[life].last = d;
    }
  }
  // Largest first, each at the lowest offset that no buffer alive at the same time covers.
  std::vector<Life> sorted = lives;
  std::stable_sort(sorted.begin(), sorted.end(), [&](const Life& a, const Life& b) {
    return plan.buffers[a.buffer].bytes > plan.buffers[b.buffer].bytes;
  });
  std::vector<Life> placed;
  for (const Life& life : sorted) {
    std::vector<std::pair<uint64_t, uint64_t>> taken;
    for (const Life& other : placed)
      if (other.first <= life.last && life.first <= other.last) {
        const Buffer& buffer = plan.buffers[other.buffer];
        taken.emplace_back(buffer.offset, buffer.offset + buffer.bytes);
      }
    std::sort(taken.begin(), taken.end());
    const uint64_t bytes = plan.buffers[life.buffer].bytes;
    check(bytes <= block, "a tensor of {} needs {} bytes, the device allocates at most {} in one piece",
          to_string(plan.buffers[life.buffer].type), bytes, block);
    // An arena larger than one allocation is several: no buffer lies across two.
    const auto inside = [&](uint64_t at) {
      at = (at + kAlignment - 1) / kAlignment * kAlignment;
      return at / block == (at + bytes - 1) / block ? at : (at / block + 1) * block;
    };
    uint64_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + bytes <= begin) break;
      offset = std::max(offset, inside(end));
    }
    plan.buffers[life.buffer].offset = offset;
    plan.transient_bytes = std::max(plan.transient_bytes, offset + bytes);
    placed.push_back(life);
  }
}

}  // namespace surtsey::graph
