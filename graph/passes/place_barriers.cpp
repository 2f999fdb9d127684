#include "graph/plan.h"

namespace surtsey::graph {
namespace {

// A byte range of device memory: transients share one arena, every other buffer is its own.
struct Range {
  uint32_t space;
  uint64_t begin, end;
  bool write;
};

constexpr uint32_t kArena = ~0u;

std::vector<std::vector<Range>> ranges(const Plan& plan) {
  std::vector<std::vector<Range>> result;
  for (const Dispatch& dispatch : plan.dispatches) {
    auto& list = result.emplace_back();
    for (const Access& access : dispatch.accesses) {
      const Buffer& buffer = plan.buffers[access.buffer];
      const bool transient = buffer.kind == BufferKind::transient;
      const uint64_t begin = access.offset + (transient ? buffer.offset : 0);
      list.push_back({transient ? kArena : access.buffer, begin - begin % plan.bound_alignment, begin + access.bytes,
                      access.write});
    }
  }
  return result;
}

const char* conflict(const std::vector<Range>& before, const std::vector<Range>& after) {
  for (const Range& a : before)
    for (const Range& b : after)
      if (a.space == b.space && a.begin < b.end && b.begin < a.end && (a.write || b.write))
        return a.write ? (b.write ? "write after write" : "read after write") : "write after read";
  return nullptr;
}

}  // namespace

void place_barriers(Plan& plan) {
  const auto all = ranges(plan);
  const auto count = uint32_t(all.size());
  plan.barriers.clear();
  uint32_t open = 0;  // first dispatch since the last barrier
  for (uint32_t d = 0; d < count; ++d) {
    for (uint32_t earlier = open; earlier < d; ++earlier) {
      if (!conflict(all[earlier], all[d])) continue;
      plan.barriers.push_back(d);
      open = d;
      break;
    }
  }
  // The next replay follows without a pause: its dispatches up to its first barrier meet those after this one's last.
  const uint32_t first_barrier = plan.barriers.empty() ? count : plan.barriers.front();
  for (uint32_t earlier = open; earlier < count; ++earlier)
    for (uint32_t d = 0; d < first_barrier; ++d)
      if (conflict(all[earlier], all[d])) {
        plan.barriers.push_back(count);
        return;
      }
}

std::vector<std::string> uncovered_hazards(const Plan& plan) {
  const auto all = ranges(plan);
  const auto count = uint32_t(all.size());
  std::vector<bool> barrier(count + 1, false);
  for (const uint32_t b : plan.barriers) barrier[b] = true;
  // Epochs of two replays in a row; a barrier at `count` stands between them.
  std::vector<uint32_t> epoch(2 * count);
  uint32_t now = 0;
  for (uint32_t i = 0; i < 2 * count; ++i) {
    if (barrier[i % count] && (i % count != 0 || i != 0)) ++now;
    if (i == count && barrier[count]) ++now;
    epoch[i] = now;
  }
  std::vector<std::string> found;
  for (uint32_t i = 0; i < 2 * count; ++i)
    for (uint32_t j = i + 1; j < 2 * count && epoch[j] == epoch[i]; ++j)
      if (const char* what = conflict(all[i % count], all[j % count]))
        found.push_back(fmt::format("{}: dispatch {} ({}) and {}dispatch {} ({})", what, i % count,
                                    plan.kernels[plan.dispatches[i % count].kernel].name,
                                    j >= count ? "the next replay's " : "", j % count,
                                    plan.kernels[plan.dispatches[j % count].kernel].name));
  return found;
}

}  // namespace surtsey::graph
