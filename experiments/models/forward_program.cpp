#include "experiments/models/forward_program.h"

#include "experiments/models/members.h"

namespace surtsey::experiments {

graph::Program forward_program(const Model& model, int64_t batch_size, size_t members) {
  check(batch_size > 0, "[forward] a batch of {} sequences", batch_size);
  const ModelConfig& config = model.config();
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const graph::Value tokens = graph.parameter("tokens", {graph::DType::u32, {batch_size, config.block_size}});
  ForwardOptions options;
  if (config.architecture == Architecture::encoder_decoder) {
    options.source = graph.parameter("source", {graph::DType::u32, {batch_size, config.source_length()}});
  }
  program.outputs = {{"logits", model.logits(parameters, tokens, options)}};
  return for_members(program, members, {"tokens", "source"});
}

}  // namespace surtsey::experiments
