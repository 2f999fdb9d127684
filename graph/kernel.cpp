#include "graph/kernel.h"

#include <algorithm>
#include <set>

namespace surtsey::graph {

const char* name(Archetype archetype) {
  constexpr const char* kNames[] = {"pointwise", "reduce", "matmul", "attention"};
  return kNames[size_t(archetype)];
}

std::vector<uint32_t> origins(const Kernel& kernel) {
  std::set<uint32_t> nodes(kernel.members.begin(), kernel.members.end());
  nodes.insert(kernel.inlined.begin(), kernel.inlined.end());
  for (const KernelOperand& output : kernel.outputs) nodes.insert(output.value.node);
  return {nodes.begin(), nodes.end()};
}

LoopIndex loop_index(IndexContext& context, Archetype archetype, const Shape& space, const std::vector<int64_t>& reduced) {
  LoopIndex loop;
  loop.full_count = element_count(space);
  if (archetype == Archetype::pointwise || archetype == Archetype::attention) {
    loop.first = loop.full = context.variable("i", loop.full_count);
  } else if (archetype == Archetype::matmul) {
    const int64_t n = space.back(), m = space[space.size() - 2];
    loop.first = context.variable("z", loop.full_count / (m * n));
    loop.second = context.variable("m", m);
    loop.third = context.variable("n", n);
    loop.full = context.add(context.add(context.scale(loop.first, m * n), context.scale(loop.second, n)), loop.third);
  } else {
    Shape kept, inner;
    for (size_t d = 0; d < space.size(); ++d)
      (std::find(reduced.begin(), reduced.end(), int64_t(d)) == reduced.end() ? kept : inner).push_back(space[d]);
    loop.row_count = element_count(kept);
    loop.first = loop.row = context.variable("r", loop.row_count);
    loop.second = context.variable("k", element_count(inner));
    const Index rows = context.delinearize(loop.first, kept), columns = context.delinearize(loop.second, inner);
    Index index;
    for (size_t d = 0, row = 0, column = 0; d < space.size(); ++d)
      index.push_back(std::find(reduced.begin(), reduced.end(), int64_t(d)) == reduced.end() ? rows[row++] : columns[column++]);
    loop.full = context.linearize_contiguous(index, space);
  }
  return loop;
}

}  // namespace surtsey::graph
