#include "experiments/train/anchor.h"

#include "graph/error.h"

namespace surtsey::experiments {

using graph::HostTensor;

graph::Value anchored_gradient(const graph::Parameters& parameters, graph::Value gradient) {
  graph::Graph& graph = parameters.graph();
  graph::ScopeGuard scope(graph, "anchor");
  const graph::Type flat = parameters.store().flat_type();
  const graph::Value weight = graph.parameter(kAnchorWeight, flat), center = graph.parameter(kAnchorCenter, flat);
  return gradient + weight * (parameters.flat() - center);
}

Anchor no_anchor(const graph::ParameterStore& store) {
  return {HostTensor::zeros(store.flat_type()), HostTensor::zeros(store.flat_type())};
}

void add_penalty(Anchor& anchor, const HostTensor& weight, const HostTensor& center) {
  ensure(weight.type == anchor.weight.type && center.type == anchor.weight.type,
         "[anchor] weights {} and a center {} for parameters {}", to_string(weight.type), to_string(center.type),
         to_string(anchor.weight.type));
  for (size_t i = 0; i < weight.values.size(); ++i) {
    double& w = anchor.weight.values[i];
    double& c = anchor.center.values[i];
    ensure(weight.values[i] >= 0, "[anchor] a weight of {}", weight.values[i]);
    const double sum = w + weight.values[i];
    if (sum > 0) c = (w * c + weight.values[i] * center.values[i]) / sum;
    w = sum;
  }
  anchor.weight.round_to_storage();
  anchor.center.round_to_storage();
}

void write_anchors(engine::Session& session, std::span<const Anchor> anchors) {
  const auto write = [&](const char* name, HostTensor Anchor::* part) {
    const graph::Type type = session.state_type(name);
    std::vector<float> values;
    for (const Anchor& one : anchors) values.insert(values.end(), (one.*part).values.begin(), (one.*part).values.end());
    check(int64_t(values.size()) == graph::element_count(type.shape), "[anchor] {} anchors hold {} numbers, {} has {}",
          anchors.size(), values.size(), name, graph::element_count(type.shape));
    session.write(name, values);
  };
  write(kAnchorWeight, &Anchor::weight);
  write(kAnchorCenter, &Anchor::center);
}

}  // namespace surtsey::experiments
