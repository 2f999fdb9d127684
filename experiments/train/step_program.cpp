#include "experiments/train/step_program.h"

#include "experiments/train/train_program.h"
#include "graph/functions.h"
#include "graph/random.h"
#include "graph/vectorize.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Graph;
using graph::Value;

Value batch(Graph& graph, const char* name, const StepConfig& config, int64_t length, DType dtype = DType::u32) {
  return graph.parameter(name, {dtype, {config.batch_size, length}});
}

ForwardOptions forward_options(Graph& graph, const Model& model, const StepConfig& config) {
  ForwardOptions options;
  const ModelConfig& c = model.config();
  if (c.architecture == Architecture::encoder_decoder) {
    options.source = batch(graph, "source", config, c.source_length());
  }
  return options;
}

Value batch_loss(Value logits, Value targets, Value weights) {
  graph::ScopeGuard scope(*logits.graph, "loss");
  return graph::cross_entropy(logits, targets, weights).mean;
}

graph::Program finish(std::shared_ptr<Graph> graph, const char* output, Value value, const StepConfig& config) {
  graph::Program program{std::move(graph), {{output, value}}};
  if (config.members == 1) return program;
  std::set<std::string> own = graph::per_member_state();
  own.insert({"tokens", "targets", "weights", "source"});
  return graph::vectorize(program, config.members, own);
}

}  // namespace

graph::OptimizerConfig step_optimizer(const TrainingOptions& options) {
  graph::OptimizerConfig config;
  config.beta1 = options.beta1;
  config.beta2 = options.beta2;
  config.weight_decay = options.weight_decay;
  config.clip_norm = options.grad_clip;
  if (!options.decay_lr) return config;
  const double ratio = options.learning_rate > 0 ? options.min_lr / options.learning_rate : 0;
  config.schedule = {graph::Decay::cosine, options.warmup_iters, options.lr_decay_iters, ratio};
  return config;
}

graph::Program training_step(const Model& model, const StepConfig& config) {
  auto graph = std::make_shared<Graph>();
  graph::Parameters parameters(*graph, model.store());
  const ModelConfig& c = model.config();
  ForwardOptions options = forward_options(*graph, model, config);
  if (c.dropout > 0) {
    options.seed = graph->parameter("seed", {DType::u32, {}});
    options.step = graph->parameter("step", {DType::u32, {}});
  }
  const Value tokens = batch(*graph, "tokens", config, c.block_size);
  const Value targets = batch(*graph, "targets", config, c.block_size);
  const Value weights =
      c.architecture == Architecture::encoder ? batch(*graph, "weights", config, c.block_size, DType::f32) : Value{};
  const Value logits = model.logits(parameters, tokens, options);
  const Value loss = batch_loss(logits, targets, weights);
  const Value coefficient = graph::gradient_coefficient(*graph, config.optimizer);
  graph::optimize(parameters, parameters.flat_gradient(loss, coefficient), loss, config.optimizer);
  return finish(std::move(graph), "loss", loss, config);
}

graph::Program forward_pass(const Model& model, const StepConfig& config) {
  auto graph = std::make_shared<Graph>();
  graph::Parameters parameters(*graph, model.store());
  const Value tokens = batch(*graph, "tokens", config, model.config().block_size);
  const Value logits = model.logits(parameters, tokens, forward_options(*graph, model, config));
  return finish(std::move(graph), "logits", logits, config);
}

void write_initial_state(engine::Session& session, const Model& model, const StepConfig& config, double learning_rate,
                         uint32_t seed) {
  std::vector<float> parameters;
  std::vector<uint32_t> seeds;
  for (int64_t e = 0; e < config.members; ++e) {
    seeds.push_back(seed + uint32_t(e));
    const graph::HostTensor start = model.store().initialise(seeds.back());
    parameters.insert(parameters.end(), start.values.begin(), start.values.end());
  }
  session.write(graph::kParameters, parameters);
  for (const auto& [name, value] : model.constants()) {
    if (session.has_state(name)) session.write(name, value);
  }
  if (session.has_state("seed")) session.write("seed", seeds);
  if (session.has_state("learning_rate")) {
    session.write("learning_rate", std::vector<float>(seeds.size(), float(learning_rate)));
  }
  if (session.has_state("loss_scale")) {
    const auto scale = float(config.optimizer.loss_scaling.initial);
    session.write("loss_scale", std::vector<float>(seeds.size(), scale));
  }
  for (const char* name : {"tokens", "targets", "source"}) {
    if (!session.has_state(name)) continue;
    const int64_t count = graph::element_count(session.state_type(name).shape);
    std::vector<uint32_t> words;
    for (int64_t i = 0; i < count; ++i) {
      words.push_back(
          graph::random_range(graph::stream_seed(seed, name), 0, uint32_t(i), uint32_t(model.config().vocab_size)));
    }
    session.write(name, words);
  }
  if (session.has_state("weights")) {
    const int64_t count = graph::element_count(session.state_type("weights").shape);
    session.write("weights", std::vector<float>(size_t(count), 1.0f));
  }
}

}  // namespace surtsey::experiments
