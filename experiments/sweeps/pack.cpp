#include "experiments/sweeps/pack.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "graph/compile.h"

namespace surtsey::experiments {
namespace {

constexpr double kCpuWorkingSet = 24e6;  // bytes that the last cache of most machines holds

// How many models to train at once. The bytes of a model's step are an estimate, good to 20% for
// the recipe: about 25 floats a token, width and layer, and as many again for a width of 1.
size_t ensemble_size(const engine::DeviceInfo& device, const SweepOptions& options, const Experiment& experiment,
                     size_t members) {
  if (options.ensemble_size > 0) return static_cast<size_t>(options.ensemble_size);
  const double tokens = double(experiment.batch_size) * static_cast<double>(model_config(experiment).block_size);
  const double bytes = 100 * tokens * experiment.n_layer * (experiment.width + 1);
  const double room = device.target.cpu ? kCpuWorkingSet : kMemoryShare * static_cast<double>(device.memory_bytes);
  const auto fits = static_cast<size_t>(std::max(room / bytes, device.target.cpu ? 2.0 : 1.0));
  if (fits >= members) return members;
  // Ensembles of equal size, rather than a small one at the end.
  const size_t count = (members + fits - 1) / fits;
  return (members + count - 1) / count;
}

TrainConfig train_config(const Experiment& experiment, const std::vector<Member>& members) {
  TrainConfig config;
  config.optimizer = experiment.optimizer.value_or(recipe_optimizer(experiment.steps));
  config.generated = experiment.generated.get();
  config.members = members;
  config.batch_size = experiment.batch_size;
  config.steps = experiment.steps;
  config.dtype = experiment.dtype;
  if (experiment.data != nullptr) config.soft = experiment.data->soft_targets();
  return config;
}

PackCost cost_of(const Model& model, const TrainConfig& config, const std::vector<const graph::Plan*>& plans) {
  PackCost cost;
  cost.parameters = model.parameter_count();
  std::map<std::string, uint64_t> state;  // programs share it
  uint64_t transient = 0;
  for (const graph::Plan* plan : plans) {
    // What accumulates runs for every micro-batch.
    const int64_t runs = plan->name == "accumulate" ? config.accumulation() : 1;
    cost.flops += static_cast<double>(plan->flops) * static_cast<double>(runs * config.steps);
    transient = std::max(transient, plan->transient_bytes);
    for (const graph::Buffer& buffer : plan->buffers) {
      if (buffer.kind != graph::BufferKind::transient) state[buffer.name] = buffer.bytes;
    }
  }
  cost.bytes = transient;
  for (const auto& [name, bytes] : state) cost.bytes += bytes;
  return cost;
}

}  // namespace

const Cell& TrainedModels::of_seed(uint32_t seed) const {
  const auto found = std::find_if(cells.begin(), cells.end(), [&](const Cell& one) { return one.seed == seed; });
  ensure(found != cells.end(), "[pack] no trained model of seed {}", seed);
  return *found;
}

ModelConfig model_config(const Experiment& experiment) {
  ensure((experiment.data == nullptr) != (experiment.generated == nullptr),
         "[pack] an experiment learns from a task or from generated data");
  if (experiment.model) return *experiment.model;
  ensure(experiment.data != nullptr, "[pack] generated data wants a model");
  return recipe_config(experiment.n_layer, experiment.width, experiment.data->vocab_size(),
                       experiment.data->block_size());
}

int32_t whole_steps(double steps, const std::string& key) {
  check(steps <= kMostSteps, "{}: {:g} steps come of it, at most {:g} are trained", key, steps, kMostSteps);
  return static_cast<int32_t>(std::lround(steps));
}

void add_sweep_fields(ConfigTable& table, SweepOptions& options, bool selection) {
  table.add("widths", &options.widths, "n_embd of each size").at_least(2).at_most(kMostWidth);
  table.add("n_layer", &options.n_layer, "blocks").at_least(1).at_most(kMostLayers);
  table.add("learning_rates", &options.learning_rates, "peak learning rates, times 1 / n_embd")
      .at_least(kLeastRate)
      .at_most(kMostRate);
  table.add("steps", &options.steps, "optimizer steps").at_least(1).at_most(kMostSteps);
  table.add("batch_size", &options.batch_size, "sequences a step").at_least(1).at_most(kMostBatch);
  add_run_fields(table, options, selection);
}

void add_run_fields(ConfigTable& table, SweepOptions& options, bool selection) {
  table.add("seeds", &options.seeds, "one model each: initialisation and data").at_least(0).at_most(kMostSeed);
  table
      .add("selection_seed", &options.selection_seed,
           "seed of the held-out sequences, and of the models that choose a learning rate")
      .at_least(0)
      .at_most(kMostSeed);
  if (selection) {
    table
        .add("selection_steps", &options.selection_steps,
             "optimizer steps of the models that choose a learning rate; 0: as many as the others")
        .at_least(0)
        .at_most(kMostSteps);
  }
  table.add("test_items", &options.test_items, "questions of each arm and cell").at_least(1).at_most(kMostItems);
  table.add("test_seed", &options.test_seed, "seed of the questions").at_least(0).at_most(kMostSeed);
  table.add("validation_items", &options.validation_items, "sequences of the held-out loss")
      .at_least(1)
      .at_most(kMostItems);
  table.add("evaluation_rows", &options.evaluation_rows, "rows that are decoded at once")
      .at_least(1)
      .at_most(kMostRows);
  table.add("log_interval", &options.log_interval, "steps between lines of metrics.jsonl")
      .at_least(1)
      .at_most(kMostSteps);
  table.add("checkpoint_interval", &options.checkpoint_interval, "steps between checkpoints; 0: only when interrupted")
      .at_least(0)
      .at_most(kMostSteps);
  table.add("ensemble_size", &options.ensemble_size, "most models trained at once; 0: as many as are fast")
      .at_least(0)
      .at_most(kMostMembers);
  table.add("save_models", &options.save_models, "keep the weights of every model, under models/ of the run");
  add_dtype_field(table, options.dtype);
}

void check_sweep_options(const SweepOptions& options) {
  check(!options.widths.empty(), "widths is empty: there is nothing to train");
  check(!options.seeds.empty(), "seeds is empty: there is nothing to train");
  check(!options.learning_rates.empty(), "learning_rates is empty: there is nothing to train");
  const auto once = [](const auto& list, const char* name) {
    for (size_t i = 0; i < list.size(); ++i) {
      for (size_t j = 0; j < i; ++j) check(list[i] != list[j], "{}: {} is there twice", name, list[i]);
    }
  };
  once(options.widths, "widths");
  once(options.seeds, "seeds");
  once(options.learning_rates, "learning_rates");
  for (const int32_t seed : options.seeds) {
    check(seed != options.selection_seed,
          "seed {} is also selection_seed: a model that chooses the learning rate is never scored", seed);
  }
}

std::vector<double> learning_rates(const SweepOptions& options, int32_t width) {
  std::vector<double> rates;
  for (const double factor : options.learning_rates) rates.push_back(factor / width);
  return rates;
}

Experiment sweep_experiment(const SweepOptions& options, std::string task, std::string variant,
                            Shared<tasks::Task> data, int32_t width) {
  Experiment experiment;
  experiment.task = std::move(task);
  experiment.variant = std::move(variant);
  experiment.data = std::move(data);
  experiment.width = width;
  experiment.n_layer = options.n_layer;
  experiment.steps = options.steps;
  experiment.batch_size = options.batch_size;
  experiment.dtype = parse_dtype(options.dtype);
  experiment.seeds = options.seeds;
  experiment.learning_rates = learning_rates(options, width);
  return experiment;
}

std::string cell_name(const Experiment& experiment, const Member& member) {
  std::string name = experiment.task.empty() ? "" : experiment.task + "-";
  name += fmt::format("{}-d{}-L{}-s{}-lr{:.4g}", experiment.variant, experiment.width, experiment.n_layer, member.seed,
                      member.learning_rate);
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

Cell empty_cell(const Experiment& experiment, const Member& member) {
  Cell cell;
  cell.cell = cell_name(experiment, member);
  cell.n_layer = experiment.n_layer;
  cell.n_embd = experiment.width;
  cell.seed = member.seed;
  cell.learning_rate = member.learning_rate;
  cell.steps = experiment.steps;
  cell.task = experiment.task;
  cell.variant = experiment.variant;
  return cell;
}

std::vector<std::vector<Member>> pack_members(const engine::DeviceInfo& device, const SweepOptions& options,
                                              const Experiment& experiment) {
  std::vector<Member> members;
  for (const int32_t seed : experiment.seeds) {
    for (const double rate : experiment.learning_rates) {
      members.push_back({static_cast<uint32_t>(seed), rate});
    }
  }
  const size_t size = ensemble_size(device, options, experiment, members.size());
  std::vector<std::vector<Member>> packs;
  for (size_t first = 0; first < members.size(); first += size) {
    const auto begin = members.begin() + static_cast<std::ptrdiff_t>(first);
    const size_t count = std::min(size, members.size() - first);
    packs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  return packs;
}

PackStep first_step(const Experiment& experiment, const std::vector<Member>& members) {
  PackStep step;
  step.name = cell_name(experiment, members.at(0));
  step.model = model_config(experiment);
  step.train = train_config(experiment, members);
  if (experiment.data == nullptr) return step;
  for (const uint32_t seed : distinct_seeds(members))
    step.batches.push_back(experiment.data->sample(tasks::Split::kTrain, seed, 0, experiment.batch_size));
  return step;
}

std::unique_ptr<Trainer> make_trainer(engine::Session& session, const Model& model, const Experiment& experiment,
                                      const std::vector<Member>& members) {
  TrainConfig config = train_config(experiment, members);
  if (experiment.generated != nullptr) {
    return std::make_unique<Trainer>(session, model, std::move(config));
  }
  return std::make_unique<Trainer>(session, model, std::move(config), *experiment.data);
}

PackCost pack_cost(const graph::Target& target, const Experiment& experiment, const std::vector<Member>& members) {
  const Model model(model_config(experiment));
  if (experiment.trained != nullptr) return {.parameters = model.parameter_count()};
  const TrainConfig config = train_config(experiment, members);
  std::vector<graph::Plan> plans;
  for (const auto& [name, program] : train_programs(model, config).programs)
    plans.push_back(graph::compile(program, target, compile_options(config, name)));
  std::vector<const graph::Plan*> all;
  for (const graph::Plan& plan : plans) all.push_back(&plan);
  return cost_of(model, config, all);
}

PackCost session_cost(const engine::Session& session, const Trainer& trainer) {
  std::vector<const graph::Plan*> plans;
  const bool whole = trainer.config().accumulation() == 1;
  for (const char* name : whole ? std::vector{"train"} : std::vector{"accumulate", "apply"})
    plans.push_back(&session.program(name).plan());
  return cost_of(trainer.model(), trainer.config(), plans);
}

double measure_step(engine::Device& device, const Experiment& experiment, const std::vector<Member>& members,
                    int64_t steps) {
  constexpr int64_t kWarmUp = 4;
  Experiment shortened = experiment;
  shortened.steps = static_cast<int32_t>(kWarmUp + steps);
  const Model model(model_config(shortened));
  engine::Session session(device, {.quiet = true});
  const std::unique_ptr<Trainer> trainer = make_trainer(session, model, shortened, members);
  session.allocate();
  trainer->initialise();
  trainer->run({.until = kWarmUp});
  const auto start = std::chrono::steady_clock::now();
  trainer->run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(steps);
}

}  // namespace surtsey::experiments
