#include "graph/passes/placement.h"

namespace surtsey::graph {
namespace {

// A kernel of its own writes the part; what reads the concat waits for it.
void copy_part(Lowering& lowering, uint32_t concat, const Value& part, const View& region) {
  const auto groups = uint32_t(lowering.groups.size());
  const uint32_t copy = add_copy_group(lowering, part);
  for (uint32_t reader = 0; reader < groups; ++reader)
    if (terminals_read(lowering, reader).count(concat)) add_source(lowering, reader, copy);
  lowering.stores.push_back({part, copy, region});
}

void place_part(Lowering& lowering, const std::set<uint32_t>& stored, uint32_t concat, size_t i, const View& all) {
  const Graph& graph = *lowering.program.graph;
  const Value& part = graph.node(concat).inputs[i];
  const View region = concat_region(graph, concat, i, all);
  const auto copy = lowering.part_copies.find({concat, i});
  if (copy != lowering.part_copies.end()) {
    lowering.stores.push_back({part, copy->second, region});
    return;
  }
  const uint32_t base = behind_views(graph, part.node);
  const uint32_t home = lowering.home[base];
  if (has_room(lowering, stored, home, base)) {
    add_store(lowering, value_of(lowering, base), home, *view_behind(graph, part.node, region));
  } else {
    copy_part(lowering, concat, part, region);
  }
}

}  // namespace

void place_concats(Lowering& lowering) {
  const Graph& graph = *lowering.program.graph;
  const std::set<uint32_t> stored = stored_values(lowering);
  for (const uint32_t n : terminals_read(lowering)) {
    if (graph.node(n).op != Op::concat || lowering.location.count(n)) continue;
    const View all = add_transient(lowering, n, stored_type(lowering, n));
    lowering.location[n] = all;
    for (size_t i = 0; i < graph.node(n).inputs.size(); ++i) place_part(lowering, stored, n, i, all);
  }
}

}  // namespace surtsey::graph
