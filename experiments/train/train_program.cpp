#include "experiments/train/train_program.h"

#include <algorithm>

#include "experiments/device_data/generated.h"
#include "experiments/models/label_loss.h"
#include "experiments/train/anchor.h"
#include "experiments/train/checkpoint.h"
#include "graph/functions.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Program;
using graph::State;
using graph::Value;

constexpr int64_t kRingBytes = 64 << 20;
constexpr int64_t kRingSlots = 64;

struct BatchValues {
  Value tokens, targets, weights, source, starts, distributions, kinds, lengths, labels, numbers;
};

BatchValues read_ring(graph::Graph& graph, Value counter, const TrainConfig& config, int64_t slots,
                      const ModelConfig& model) {
  graph::ScopeGuard scope(graph, "data");
  const auto groups = static_cast<int64_t>(distinct_seeds(config.members).size());
  const int64_t rows = config.batch_size;
  const auto whole = [&](int64_t value) { return graph::scalar(graph, static_cast<double>(value), DType::u32); };
  const Value group = graph.parameter("data.group", {DType::u32, {}});
  const Value place = graph::mod(counter, whole(slots)) * whole(groups) + group;
  const auto read = [&](const char* name, DType dtype, const graph::Shape& row) {
    graph::Shape all = {slots, groups, rows}, flat = {slots * groups, rows};
    all.insert(all.end(), row.begin(), row.end());
    flat.insert(flat.end(), row.begin(), row.end());
    return graph::gather(graph::reshape(graph.parameter(name, {dtype, all}), flat), place, 0);
  };
  const int64_t block = config.block(model);
  BatchValues batch;
  batch.tokens = read("data.tokens", DType::u32, {block});
  if (config.numbers > 0) batch.numbers = read("data.numbers", DType::f32, {config.numbers});
  if (config.labels) {
    if (model.n_types > 0) batch.kinds = read("data.kinds", DType::u32, {block});
    batch.lengths = read("data.lengths", DType::u32, {});
    batch.labels = read("data.labels", DType::f32, {model.n_labels});
    batch.weights = read("data.weights", DType::f32, {});
    return batch;
  }
  batch.targets = read("data.targets", DType::u32, {block});
  batch.weights = read("data.weights", DType::f32, {block});
  if (config.packed) batch.starts = read("data.starts", DType::u32, {block});
  if (config.soft) batch.distributions = read("data.distributions", DType::f32, {block, model.vocab_size});
  if (model.architecture == Architecture::encoder_decoder)
    batch.source = read("data.source", DType::u32, {model.source_length()});
  return batch;
}

graph::OptimizerConfig step_optimizer(const TrainConfig& config) {
  graph::OptimizerConfig optimizer = optimizer_for(config.optimizer, config.dtype);
  optimizer.split = bool(config.exchange);
  return optimizer;
}

struct BatchLoss {
  Value loss, accuracy;         // the latter may be empty
  std::vector<Value> measures;  // of an objective
};

// Sums of the measures over the batches since somebody took them.
void add_measures(graph::Graph& graph, const std::vector<Value>& measures) {
  if (measures.empty()) return;
  std::vector<Value> each;
  for (const Value one : measures) each.push_back(graph::reshape(one, {1}));
  const Value sums = graph.parameter(kMeasures, {DType::f32, {int64_t(measures.size())}});
  graph.assign(sums, sums + graph::concat(each, 0));
}

BatchLoss objective_loss(const TrainConfig& config, const Sequences& sequences) {
  Objective made = config.objective(sequences);
  ensure(made.measures.size() == config.measures.size(), "[train] {} measures for {} names", made.measures.size(),
         config.measures.size());
  return {made.loss, {}, std::move(made.measures)};
}

// From a head's scores [B, K] of each text.
BatchLoss labelled_loss(Value scores, const BatchValues& batch, const TrainConfig& config) {
  graph::ScopeGuard scope(*scores.graph, "loss");
  if (config.objective)
    return objective_loss(config, {.scores = scores, .labels = batch.labels, .numbers = batch.numbers});
  const Value weighted = label_loss(*config.labels, scores, batch.labels) * batch.weights;
  const Value all = sum(batch.weights, {0}, false);
  BatchLoss result{sum(weighted, {0}, false), {}, {}};
  if (!config.summed_loss) result.loss = result.loss / all;
  if (config.token_accuracy && *config.labels == tasks::ProblemType::single_label) {
    const Value hit = equal(argmax(scores, -1, false), argmax(batch.labels, -1, false));
    result.accuracy = sum(select(hit, batch.weights, constant_like(batch.weights, 0)), {0}, false) / all;
  }
  return result;
}

// Of one batch, in the graph of `parameters`.
BatchLoss batch_loss(const Model& model, graph::Parameters& parameters, const TrainConfig& config, int64_t slots) {
  graph::Graph& graph = parameters.graph();
  const char* counter_name = config.accumulates() ? "micro_step" : "step";
  const Value counter = graph.parameter(counter_name, {DType::u32, {}});
  if (config.generated != nullptr) {
    const Value seed = graph.parameter("seed", {DType::u32, {}});
    return {config.generated->training_loss(model, parameters, seed, counter, config.batch_size), {}, {}};
  }
  const BatchValues batch = read_ring(graph, counter, config, slots, model.config());
  ForwardOptions options;
  options.source = batch.source;
  options.starts = batch.starts;
  options.token_types = batch.kinds;
  options.lengths = batch.lengths;
  if (model.draws()) {
    options.seed = graph.parameter("seed", {DType::u32, {}});
    options.step = counter;
  }
  const Value logits = model.logits(parameters, batch.tokens, options);
  if (config.labels) return labelled_loss(logits, batch, config);
  graph::ScopeGuard scope(graph, "loss");
  if (config.objective) {
    const Value losses = graph::cross_entropy(logits, batch.targets, batch.weights).per_token;
    return objective_loss(config, {.log_probs = -graph::sum(losses * batch.weights, {1}, false),
                                   .learned = graph::sum(batch.weights, {1}, false),
                                   .numbers = batch.numbers});
  }
  const graph::CrossEntropy loss =
      config.soft ? graph::distillation(logits, batch.targets, batch.distributions, *config.soft, batch.weights)
                  : graph::cross_entropy(logits, batch.targets, batch.weights);
  BatchLoss result{config.summed_loss ? loss.mean * loss.weight_sum : loss.mean, {}, {}};
  if (config.token_accuracy) {
    const Value hit = graph::equal(graph::argmax(logits, -1, false), batch.targets);
    const Value right = graph::select(hit, batch.weights, graph::constant_like(batch.weights, 0));
    result.accuracy = graph::sum(right, {0, 1}, false) / loss.weight_sum;
  }
  return result;
}

}  // namespace

int32_t TrainConfig::block(const ModelConfig& model) const {
  return block_size > 0 ? block_size : static_cast<int32_t>(model.block_size);
}

int64_t TrainConfig::tokens_per_step(const ModelConfig& model) const {
  return int64_t{batch_size} * block(model) * accumulation();
}

graph::OptimizerConfig optimizer_for(graph::OptimizerConfig optimizer, DType dtype) {
  optimizer.loss_scaling.enabled = dtype == DType::f16;
  return optimizer;
}

graph::OptimizerConfig recipe_optimizer(int64_t steps, double weight_decay) {
  graph::OptimizerConfig optimizer;
  optimizer.beta1 = 0.9;
  optimizer.beta2 = 0.98;
  optimizer.weight_decay = weight_decay;
  optimizer.clip_norm = 1;
  optimizer.schedule = {graph::Decay::linear, std::max<int64_t>(1, steps / 20), steps, 0.05};
  return optimizer;
}

std::vector<uint32_t> distinct_seeds(const std::vector<Member>& members) {
  std::vector<uint32_t> seeds;
  for (const Member& member : members) {
    if (std::find(seeds.begin(), seeds.end(), member.seed) == seeds.end()) {
      seeds.push_back(member.seed);
    }
  }
  return seeds;
}

std::vector<uint32_t> member_groups(const std::vector<Member>& members) {
  const std::vector<uint32_t> seeds = distinct_seeds(members);
  std::vector<uint32_t> groups;
  for (const Member& member : members) {
    groups.push_back(static_cast<uint32_t>(std::find(seeds.begin(), seeds.end(), member.seed) - seeds.begin()));
  }
  return groups;
}

int64_t ring_slots(const ModelConfig& model, const TrainConfig& config) {
  // Itself, its target, its weight, where it begins, and a distribution.
  const int64_t token_bytes = 12 + (config.packed ? 4 : 0) + (config.soft ? 4 * model.vocab_size : 0);
  const auto groups = static_cast<int64_t>(distinct_seeds(config.members).size());
  const int64_t row_bytes =
      config.block(model) * token_bytes + (config.labels ? 4 * model.n_labels : 0) + 4 * config.numbers;
  const int64_t slot_bytes = groups * config.batch_size * row_bytes;
  return std::clamp<int64_t>(kRingBytes / std::max<int64_t>(slot_bytes, 1), 2, kRingSlots);
}

TrainPrograms train_programs(const Model& model, const TrainConfig& config, int64_t slots) {
  check(!config.members.empty(), "[train] there is no member to train");
  check(config.batch_size > 0, "[train] a batch of {} sequences", config.batch_size);
  check(slots >= 0, "[train] a data ring of {} slots", slots);
  if (slots == 0) slots = ring_slots(model.config(), config);
  check(!config.labels || model.config().head == HeadKind::classify,
        "[train] labels are learned by a head that classifies");
  ensure(!config.objective || (config.generated == nullptr && !config.soft && !config.packed),
         "[train] an objective is of whole sequences, a text each");
  check(config.generated != nullptr || model.config().input_size == 0,
        "[train] a model that reads vectors learns from generated data");
  TrainPrograms result;
  const graph::OptimizerConfig optimizer = step_optimizer(config);
  const auto changed = [&](const graph::Parameters& parameters, Value gradient) {
    return config.gradient ? config.gradient(parameters, gradient) : gradient;
  };
  const auto gradient = [&](graph::Parameters& parameters, Value loss) {
    return parameters.flat_gradient(loss, graph::gradient_coefficient(parameters.graph(), optimizer));
  };
  const auto add = [&](const char* name, auto&& build) {
    Program program{std::make_shared<graph::Graph>(), {}};
    graph::Parameters parameters(*program.graph, model.store());
    build(program, parameters);
    result.programs.emplace_back(name, for_members(program, config.members.size()));
  };
  if (!config.accumulates()) {
    add("train", [&](Program& program, graph::Parameters& parameters) {
      const auto [loss, accuracy, measures] = batch_loss(model, parameters, config, slots);
      add_measures(parameters.graph(), measures);
      graph::optimize(parameters, changed(parameters, gradient(parameters, loss)), loss, optimizer);
      program.outputs = {{"loss", loss}};
      if (accuracy) program.outputs.emplace_back("accuracy", accuracy);
    });
  } else {
    add("accumulate", [&](Program& program, graph::Parameters& parameters) {
      const auto [loss, accuracy, measures] = batch_loss(model, parameters, config, slots);
      add_measures(parameters.graph(), measures);
      graph::accumulate(parameters, gradient(parameters, loss), loss);
      if (accuracy) program.outputs = {{"accuracy", accuracy}};
    });
    add("apply", [&](Program&, graph::Parameters& parameters) {
      graph::optimize_accumulated(parameters, optimizer, [&](Value sum) { return changed(parameters, sum); });
    });
  }
  return result;
}

graph::CompileOptions compile_options(const TrainConfig& config, const std::string& program) {
  graph::CompileOptions options{.name = program, .storage = config.dtype};
  // What applies accumulated gradients has nothing to compute again.
  if (program != "apply") options.memory = config.memory;
  return options;
}

Program train_step(const Model& model, TrainConfig config, int64_t slots) {
  config.optimizer.accumulation_steps = 1;
  config.exchange = {};
  return std::move(train_programs(model, config, slots).programs.front().second);
}

State initial_train_state(const Model& model, const TrainConfig& config) {
  std::vector<State> members;
  const graph::OptimizerConfig optimizer = step_optimizer(config);
  const std::vector<uint32_t> groups = member_groups(config.members);
  for (size_t i = 0; i < config.members.size(); ++i) {
    const Member& member = config.members[i];
    State state = graph::initial_optimizer_state(model.store(), optimizer, member.learning_rate);
    state["learning_rate"].round_to_storage();
    state[graph::kParameters] = model.store().initialise(member.seed);
    // What is frozen is one copy for all members: by the first's seed, until something else is written to it.
    if (i == 0 && !config.base_elsewhere) state.merge(model.store().initialise_frozen(member.seed));
    state["data.group"] = HostTensor::scalar(DType::u32, groups[i]);
    if (model.draws() || config.generated != nullptr) state["seed"] = HostTensor::scalar(DType::u32, member.seed);
    if (!config.measures.empty()) state[kMeasures] = HostTensor::zeros({DType::f32, {int64_t(config.measures.size())}});
    for (auto& [name, tensor] : model.constants()) state[name] = tensor;
    members.push_back(std::move(state));
  }
  if (members.size() == 1) return members[0];
  return ensemble_state(members, member_state_names());
}

std::vector<std::string> saved_state(const Model& model, const TrainConfig& config) {
  std::vector<std::string> names = {graph::kParameters, "seed", kAnchorWeight, kAnchorCenter};
  for (const auto& [name, tensor] : graph::initial_optimizer_state(model.store(), step_optimizer(config), 0)) {
    names.push_back(name);
  }
  if (config.base_elsewhere) return names;
  for (const auto& [name, type] : model.store().frozen_state()) names.push_back(name);
  return names;
}

}  // namespace surtsey::experiments
