#include "graph/passes/placement.h"

#include "graph/rewrite.h"

#include <algorithm>

namespace surtsey::graph {

Value value_of(const Lowering& lowering, uint32_t n) { return {lowering.program.graph.get(), n, 0}; }

Type stored_type(const Lowering& lowering, uint32_t n) {
  Type type = lowering.program.graph->node(n).types[0];
  if (!lowering.narrow.empty() && lowering.narrow[n]) type.dtype = lowering.storage;
  return type;
}

uint32_t add_buffer(Lowering& lowering, BufferKind kind, std::string name, const Type& type) {
  Buffer buffer;
  buffer.kind = kind;
  buffer.name = std::move(name);
  buffer.type = type;
  buffer.bytes = uint64_t(std::max<int64_t>(1, element_count(type.shape)) * storage_bytes(type.dtype));
  lowering.buffers.push_back(std::move(buffer));
  return uint32_t(lowering.buffers.size() - 1);
}

View whole(uint32_t buffer, const Type& type) {
  return {buffer, type.dtype, type.shape, contiguous_strides(type.shape), 0};
}

View add_transient(Lowering& lowering, uint32_t n, const Type& type) {
  return whole(add_buffer(lowering, BufferKind::transient, lowering.program.graph->scope(n).path, type), type);
}

void add_store(Lowering& lowering, const Value& value, uint32_t group, const View& view) {
  lowering.stores.push_back({value, group, view});
  lowering.location.emplace(value.node, view);
}

std::set<uint32_t> terminals_read(const Lowering& lowering, uint32_t g) {
  std::set<uint32_t> found;
  for (const uint32_t m : lowering.groups[g].members) collect_expression(lowering, m, found);
  for (const Value& copy : lowering.groups[g].copies) collect_value(lowering, copy.node, found);
  std::erase_if(found, [&](uint32_t n) { return lowering.home[n] == g; });
  return found;
}

std::set<uint32_t> terminals_read(const Lowering& lowering) {
  std::set<uint32_t> found;
  for (uint32_t g = 0; g < lowering.groups.size(); ++g) found.merge(terminals_read(lowering, g));
  return found;
}

std::set<uint32_t> stored_values(const Lowering& lowering) {
  const Graph& graph = *lowering.program.graph;
  std::set<uint32_t> stored = terminals_read(lowering);
  for (const Value& root : roots(lowering.program)) collect_value(lowering, root.node, stored);
  for (const uint32_t n : reachable(graph, roots(lowering.program))) {
    if (graph.node(n).op != Op::concat || lowering.inlined_concats.contains(n)) continue;
    for (const Value& part : graph.node(n).inputs) stored.insert(behind_views(graph, part.node));
  }
  return stored;
}

bool has_room(const Lowering& lowering, const std::set<uint32_t>& stored, uint32_t g, uint32_t n) {
  size_t bindings = loads_of(lowering, g).size();
  for (const uint32_t m : lowering.groups[g].members) {
    size_t places = m == n;
    for (const Store& store : lowering.stores) places += store.group == g && store.value.node == m;
    bindings += std::max<size_t>(places, stored.count(m));
  }
  return bindings <= lowering.target.max_bindings();
}

}  // namespace surtsey::graph
