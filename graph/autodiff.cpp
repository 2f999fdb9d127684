#include "graph/autodiff.h"

#include "graph/rewrite.h"

#include <algorithm>
#include <map>

namespace surtsey::graph {

namespace {

using Key = std::pair<uint32_t, uint32_t>;  // node, output
Key key(const Value& value) { return {value.node, value.output}; }

struct Seed {
  Value value;
  Value gradient;
};

// Pulls gradients from `seeds` back to `wrt`; an empty Value where nothing arrives. With `stop`,
// gradients do not flow through a wrt value into its own operands.
class Backward {
 public:
  Backward(Graph& graph, std::span<const Value> wrt, bool stop) : graph_(graph), wrt_(wrt), stop_(stop) {}

  std::vector<Value> run(std::span<const Seed> seeds) {
    uint32_t last = 0;
    for (const Seed& seed : seeds) {
      accumulate(seed.value, seed.gradient);
      last = std::max(last, seed.value.node);
    }
    mark_needed(last);
    const Scope outer = graph_.current_scope();
    for (uint32_t node = last + 1; node-- > 0;) {
      if (needed_[node] && has_gradient(node) && !stops_at(node)) pull(node);
    }
    graph_.set_scope(outer);
    std::vector<Value> results;
    for (const Value& value : wrt_) {
      const auto found = gradients_.find(key(value));
      results.push_back(found == gradients_.end() ? Value{} : found->second);
    }
    return results;
  }

 private:
  void accumulate(const Value& value, const Value& gradient) {
    ensure(gradient.type() == value.type(), "the gradient of a {} is a {}", to_string(value.type()),
           to_string(gradient.type()));
    Value& sum = gradients_[key(value)];
    sum = sum ? add(sum, gradient) : gradient;
  }

  bool has_gradient(uint32_t node) const {
    const auto found = gradients_.lower_bound({node, 0});
    return found != gradients_.end() && found->first.first == node;
  }

  bool stops_at(uint32_t node) const {
    if (!stop_) return false;
    for (const Value& value : wrt_) {
      if (value.node == node) return true;
    }
    return false;
  }

  // needed: the node depends on a wrt value through floats.
  void mark_needed(uint32_t last) {
    needed_.assign(size_t{last} + 1, false);
    for (const Value& value : wrt_) {
      if (value.node <= last) needed_[value.node] = true;
    }
    for (uint32_t node = 0; node <= last; ++node) {
      for (const Value& input : graph_.node(node).inputs) {
        if (needed_[input.node] && is_float(input.dtype())) needed_[node] = true;
      }
    }
  }

  void pull(uint32_t index) {
    const Node node = graph_.node(index);  // a copy: building the gradient appends nodes
    if (node.inputs.empty()) return;
    const bool wanted = std::any_of(node.inputs.begin(), node.inputs.end(),
                                    [&](const Value& input) { return needed_[input.node] && is_float(input.dtype()); });
    if (!wanted) return;
    Scope scope = graph_.scope(index);
    scope.phase = Phase::backward;
    graph_.set_scope(scope);
    std::vector<Value> operand_gradients;
    if (const auto* attr = std::get_if<RegionAttr>(&node.attr)) {
      operand_gradients = pull_region(*attr->region, index, node);
    } else {
      const OpDef& row = definition(node.op);
      if (row.gradient == nullptr) return;
      const Value out{&graph_, index, 0};
      operand_gradients = row.gradient(node.inputs, node.attr, out, gradients_.at(key(out)));
      ensure(operand_gradients.size() == node.inputs.size(), "[{}] {} gradients for {} operands", row.name,
             operand_gradients.size(), node.inputs.size());
    }
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Value& input = node.inputs[i];
      if (operand_gradients[i] && needed_[input.node]) accumulate(input, operand_gradients[i]);
    }
  }

  std::vector<Value> pull_region(const Region& region, uint32_t index, const Node& node) {
    std::vector<Value> results;
    std::vector<Value> result_gradients;
    for (uint32_t output = 0; output < node.types.size(); ++output) {
      results.push_back(Value{&graph_, index, output});
      const auto found = gradients_.find(key(results.back()));
      result_gradients.push_back(found == gradients_.end() ? Value{} : found->second);
    }
    if (region.gradient) {
      std::vector<Value> gradients = region.gradient(node.inputs, results, result_gradients);
      ensure(gradients.size() == node.inputs.size(), "region {}: {} gradients for {} operands", region.name,
             gradients.size(), node.inputs.size());
      return gradients;
    }
    const std::vector<Value> inlined = inline_region(graph_, region, node.inputs);
    std::vector<Seed> seeds;
    for (size_t i = 0; i < inlined.size(); ++i) {
      if (result_gradients[i]) seeds.push_back({inlined[i], result_gradients[i]});
    }
    // An operand given twice must be counted once.
    std::vector<Value> unique;
    for (const Value& input : node.inputs) {
      if (std::find(unique.begin(), unique.end(), input) == unique.end()) unique.push_back(input);
    }
    const std::vector<Value> found = Backward(graph_, unique, true).run(seeds);
    std::vector<Value> gradients(node.inputs.size());
    for (size_t i = 0; i < unique.size(); ++i) {
      const auto first = std::find(node.inputs.begin(), node.inputs.end(), unique[i]);
      gradients[static_cast<size_t>(first - node.inputs.begin())] = found[i];
    }
    return gradients;
  }

  Graph& graph_;
  std::span<const Value> wrt_;
  bool stop_;
  std::map<Key, Value> gradients_;
  std::vector<bool> needed_;
};

}  // namespace

std::vector<Value> differentiate(Value loss, std::span<const Value> wrt, Value coefficient) {
  check(static_cast<bool>(loss), "[differentiate] the loss is an empty value");
  check(is_float(loss.dtype()), "[differentiate] the loss is {}, not a float", to_string(loss.type()));
  Graph& graph = *loss.graph;
  for (const Value& value : wrt) {
    check(value.graph == &graph, "[differentiate] a value of another graph");
    check(is_float(value.dtype()), "[differentiate] no gradient with respect to {}", to_string(value.type()));
  }
  if (!coefficient) coefficient = constant_like(loss, 1);
  check(coefficient.type() == loss.type(), "[differentiate] the loss is {}, its coefficient {}", to_string(loss.type()),
        to_string(coefficient.type()));
  const Seed seed{loss, coefficient};
  std::vector<Value> gradients = Backward(graph, wrt, false).run({&seed, 1});
  for (size_t i = 0; i < wrt.size(); ++i) {
    if (!gradients[i]) gradients[i] = constant_like(wrt[i], 0);
  }
  return gradients;
}

}  // namespace surtsey::graph
