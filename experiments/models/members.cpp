#include "experiments/models/members.h"

#include "graph/optimizer.h"
#include "graph/vectorize.h"

namespace surtsey::experiments {

std::set<std::string> member_state_names() {
  std::set<std::string> names = graph::per_member_state();
  names.insert("data.group");
  names.insert(kMeasures);
  names.insert("lora.scale");                        // of adapters whose ranks differ (adapt/adapter_graph.h)
  names.insert({"anchor.weight", "anchor.center"});  // of penalties on what moves (train/anchor.h)
  return names;
}

graph::Program for_members(const graph::Program& program, size_t members, std::set<std::string> own) {
  if (members == 1) return program;
  own.merge(member_state_names());
  return graph::vectorize(program, static_cast<int64_t>(members), own);
}

}  // namespace surtsey::experiments
