#include "experiments/models/residual.h"

#include "experiments/models/stack.h"

namespace surtsey::experiments {

using graph::DType;
using graph::Value;

Residuals::Residuals(const Model& model) : model_(model) {}

void Residuals::read(int64_t depth, Value position) {
  check(depth >= 0 && depth <= model_.config().n_layer,
        "[residual] there is no depth {}, a stack of {} blocks has 0 to {}", depth, model_.config().n_layer,
        model_.config().n_layer);
  check(reads_.emplace(depth, position).second, "[residual] depth {} is read twice", depth);
}

std::function<Value(const std::string&, Value)> Residuals::hook() {
  return [this](const std::string& point, Value x) { return visit(point, x); };
}

Value Residuals::visit(const std::string& point, Value x) {
  const std::string prefix = main_stack(model_.config()).prefix;
  int64_t depth = 0;
  while (depth <= model_.config().n_layer &&
         point != prefix + (depth == 0 ? std::string("embed") : fmt::format("blocks.{}.residual", depth - 1))) {
    ++depth;
  }
  if (depth > model_.config().n_layer) return x;  // of the other stack
  graph::Graph& graph = *x.graph;
  graph::ScopeGuard scope(graph, "residual");
  const int64_t B = x.dim(0), T = x.dim(1), C = x.dim(2);
  if (patched_) {
    const Value wanted = graph.parameter("patch.depth", {DType::u32, {}});
    const Value position = graph.parameter("patch.position", {DType::u32, {}});
    const Value value = graph.parameter("patch.value", {DType::f32, {B, C}});
    const Value column = graph::iota(graph, {DType::u32, {1, T, 1}}, 1);
    const Value here = graph::logical_and(graph::equal(column, position),
                                          graph::equal(wanted, graph::scalar(graph, double(depth), DType::u32)));
    x = graph::select(here, graph::reshape(value, {B, 1, C}), x);
  }
  const auto read = reads_.find(depth);
  if (read != reads_.end()) {
    found_[depth] = read->second ? graph::gather(x, read->second, 1) : x;
  }
  return x;
}

std::vector<std::pair<std::string, Value>> Residuals::outputs() const {
  std::vector<std::pair<std::string, Value>> list;
  for (const auto& [depth, value] : found_) {
    list.emplace_back(fmt::format("residual.{}", depth), value);
  }
  return list;
}

std::set<std::string> residual_member_state() { return {"patch.value"}; }

}  // namespace surtsey::experiments
