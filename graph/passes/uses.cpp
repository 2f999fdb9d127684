#include "graph/passes/uses.h"

#include "graph/kernel.h"
#include "graph/rewrite.h"

namespace surtsey::graph {

Uses count_uses(const Program& program) {
  const Graph& graph = *program.graph;
  const std::vector<Value> wanted = roots(program);
  Uses uses;
  uses.order = reachable(graph, wanted);
  uses.users.resize(graph.size());
  uses.computations.resize(graph.size());
  uses.leaves_program.resize(graph.size());
  uses.extra_stores.resize(graph.size());
  uses.feeds_matmul.resize(graph.size());

  for (const Value& root : wanted) {
    ++uses.computations[root.node];
    ++uses.extra_stores[root.node];
    uses.leaves_program[root.node] = true;
  }
  for (const uint32_t n : uses.order) {
    uses.trains |= graph.scope(n).phase != Phase::forward;
    if (graph.node(n).op != Op::concat) continue;
    for (const Value& part : graph.node(n).inputs) ++uses.extra_stores[behind_views(graph, part.node)];
  }
  // Users before operands: what is counted for a view is complete when its operand is met.
  for (auto it = uses.order.rbegin(); it != uses.order.rend(); ++it) {
    const Node& user = graph.node(*it);
    const Family family = definition(user.op).family;
    const bool view = is_view(user.op);
    for (const Value& input : user.inputs) {
      uses.users[input.node].push_back(*it);
      uses.computations[input.node] += view ? uses.computations[*it] : 1;
      if (family == Family::matmul || family == Family::region || (view && uses.feeds_matmul[*it]))
        uses.feeds_matmul[input.node] = true;
      if (family == Family::matmul) uses.products[behind_views(graph, input.node)].insert(*it);
    }
  }
  return uses;
}

}  // namespace surtsey::graph
