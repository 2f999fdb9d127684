#include "graph/passes/lowering.h"

#include <queue>

namespace surtsey::graph {

void order(Lowering& lowering) {
  const auto count = uint32_t(lowering.groups.size());
  std::vector<std::vector<uint32_t>> users(count);
  std::vector<size_t> waits(count);
  for (uint32_t g = 0; g < count; ++g) {
    waits[g] = lowering.groups[g].sources.size();
    for (const uint32_t source : lowering.groups[g].sources) users[source].push_back(g);
  }
  // Earliest node first; ties by group, so that the order is one.
  using Entry = std::pair<uint32_t, uint32_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> ready;
  for (uint32_t g = 0; g < count; ++g)
    if (waits[g] == 0) ready.emplace(lowering.groups[g].anchor, g);
  while (!ready.empty()) {
    const uint32_t g = ready.top().second;
    ready.pop();
    lowering.sequence.push_back(g);
    for (const uint32_t user : users[g])
      if (--waits[user] == 0) ready.emplace(lowering.groups[user].anchor, user);
  }
  ensure(lowering.sequence.size() == count, "{} of {} kernels wait for each other", count - lowering.sequence.size(),
         count);
}

}  // namespace surtsey::graph
