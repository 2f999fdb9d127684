#include "graph/passes/lowering.h"
#include "graph/passes/placement.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace surtsey::graph {
namespace {

void verify_members(const Lowering& lowering) {
  const Graph& graph = *lowering.program.graph;
  ensure(lowering.home.size() == graph.size(), "{} homes for {} nodes", lowering.home.size(), graph.size());
  std::vector<uint32_t> group_of(graph.size(), kNone);
  for (uint32_t g = 0; g < lowering.groups.size(); ++g)
    for (const uint32_t m : lowering.groups[g].members) {
      ensure(m < graph.size() && lowering.home[m] == g, "kernel {} computes node {}, whose home it is not", g, m);
      ensure(group_of[m] == kNone, "kernels {} and {} both compute node {}", group_of[m], g, m);
      group_of[m] = g;
    }
  for (uint32_t n = 0; n < graph.size(); ++n) {
    const uint32_t g = lowering.home[n];
    ensure(g == kNone || g < lowering.groups.size(), "the home of node {} is kernel {}, which there is not", n, g);
    ensure(group_of[n] == g || lowering.windows.count(n), "kernel {} is the home of node {} and does not compute it", g,
           n);
  }
}

// `depends` is the closure of `sources`, nothing waits for itself, and a kernel waits for who writes what it reads.
void verify_waits(const Lowering& lowering) {
  const auto count = uint32_t(lowering.groups.size());
  for (uint32_t g = 0; g < count; ++g) {
    const Group& group = lowering.groups[g];
    ensure(group.depends.size() == count, "kernel {} knows of {} kernels, there are {}", g, group.depends.size(),
           count);
    ensure(!group.depends[g], "kernel {} waits for itself", g);
    for (const uint32_t source : group.sources) {
      const auto& theirs = lowering.groups[source].depends;
      ensure(group.depends[source], "kernel {} does not wait for its source {}", g, source);
      for (uint32_t x = 0; x < count; ++x)
        ensure(!theirs[x] || group.depends[x], "kernel {} waits for {}, but not for {}, which that waits for", g,
               source, x);
    }
    for (const uint32_t t : terminals_read(lowering, g))
      for (const uint32_t writer : writers(lowering, t))
        ensure(writer == g || group.depends[writer],
               "kernel {} reads node {} and does not wait for kernel {}, its writer", g, t, writer);
  }
}

void verify_view(const Lowering& lowering, const View& view, const Moved& moved, uint32_t n) {
  ensure(view.buffer < lowering.buffers.size(), "node {} lies in buffer {}, which there is not", n, view.buffer);
  const Buffer& buffer = lowering.buffers[view.buffer];
  ensure(view.dtype == buffer.type.dtype && view.strides.size() == view.shape.size(),
         "node {} lies as {} in buffer '{}' of {}", n, to_string(Type{view.dtype, view.shape}), buffer.name,
         to_string(buffer.type));
  int64_t last = view.offset + moved.last * moved.stride;
  for (size_t d = 0; d < view.shape.size(); ++d) last += std::max<int64_t>(0, view.shape[d] - 1) * view.strides[d];
  ensure(view.offset >= 0 && uint64_t((last + 1) * storage_bytes(view.dtype)) <= buffer.bytes,
         "node {} leaves buffer '{}' of {}", n, buffer.name, to_string(buffer.type));
}

void verify_places(const Lowering& lowering) {
  for (const Store& store : lowering.stores) {
    ensure(store.group < lowering.groups.size(), "node {} is stored by kernel {}, which there is not", store.value.node,
           store.group);
    verify_view(lowering, store.view, store.moved, store.value.node);
  }
  for (const auto& [n, view] : lowering.location) verify_view(lowering, view, {}, n);
}

void verify_sequence(const Lowering& lowering) {
  std::vector<bool> ran(lowering.groups.size(), false);
  for (const uint32_t g : lowering.sequence) {
    ensure(g < ran.size() && !ran[g], "kernel {} is not there, or runs twice", g);
    for (const uint32_t source : lowering.groups[g].sources)
      ensure(ran[source], "kernel {} runs before its source {}", g, source);
    ran[g] = true;
  }
  // A value may lie in memory as a reshape of it (place_transients), which is how its readers then read it.
  const Graph& graph = *lowering.program.graph;
  std::set<uint32_t> placed;
  for (const auto& [n, view] : lowering.location) {
    placed.insert(n);
    if (graph.node(n).op == Op::reshape) placed.insert(graph.node(n).inputs[0].node);
  }
  for (const uint32_t n : terminals_read(lowering)) ensure(placed.count(n), "node {} is read and has no place", n);
}

}  // namespace

void verify(const Lowering& lowering) {
  verify_members(lowering);
  verify_waits(lowering);
  verify_places(lowering);
  if (!lowering.sequence.empty()) verify_sequence(lowering);
}

std::string print(const Lowering& lowering) {
  const auto place = [&](const View& view) {
    return fmt::format("{}[{}+{} {} strides {}]", view.buffer, view.offset, name(view.dtype), to_string(view.shape),
                       to_string(view.strides));
  };
  std::string text;
  for (uint32_t g = 0; g < lowering.groups.size(); ++g) {
    const Group& group = lowering.groups[g];
    text += fmt::format("kernel {} {} {}", g, name(group.archetype), to_string(group.space));
    if (!group.reduced.empty()) text += " over " + to_string(group.reduced);
    for (const uint32_t m : group.members)
      text += fmt::format(
          " %{} {}{}", m, definition(lowering.program.graph->node(m).op).name,
          !lowering.narrow.empty() && lowering.narrow[m] ? fmt::format(" as {}", name(lowering.storage)) : "");
    for (const Value& copy : group.copies) text += fmt::format(" copy %{}", copy.node);
    if (!group.sources.empty()) text += fmt::format(" after {}", fmt::join(group.sources, " "));
    text += "\n";
  }
  for (size_t b = 0; b < lowering.buffers.size(); ++b)
    text += fmt::format("buffer {} {} {}\n", b, lowering.buffers[b].name.empty() ? "-" : lowering.buffers[b].name,
                        to_string(lowering.buffers[b].type));
  for (const Store& store : lowering.stores)
    text += fmt::format("kernel {} stores %{} -> {}\n", store.group, store.value.node, place(store.view));
  for (const auto& [n, view] : lowering.location) text += fmt::format("%{} is read at {}\n", n, place(view));
  if (!lowering.sequence.empty()) text += fmt::format("order {}\n", fmt::join(lowering.sequence, " "));
  return text;
}

}  // namespace surtsey::graph
