// A pack: models that differ in seed or learning rate only, trained as one ensemble
// (ensemble_run.h). What is trained, in which packs, and what that costs.
//
// Packs are fixed by the options and the kind of device before anything runs, and a pack resumes
// whole: what a model computes never depends on which others failed.
//
// Packs are as large as is fast: on a GPU as large as memory allows, on a CPU device as large as
// its caches hold, since more only move more data (measured: six models of width 16 cost 1.7 times
// as much each as two).
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "engine/device.h"
#include "experiments/device_data/generated.h"
#include "experiments/results/record.h"
#include "experiments/tasks/task.h"
#include "experiments/train/options.h"
#include "experiments/train/train.h"

namespace surtsey::experiments {

// What a pack takes at most of a device's memory, as a share.
inline constexpr double kMemoryShare = 0.6;

// What keys of training take at most, and learning rates at least: more is a slip, and would run out of memory or time
// where nobody looks for it.
inline constexpr double kMostWidth = 65'536, kMostLayers = 1024, kMostSteps = 1e9, kMostBatch = 1e6;
inline constexpr double kMostItems = 1e6;  // of questions, examples and sequences that the host holds
inline constexpr double kMostRows = 1e5;   // of an evaluation at once
inline constexpr double kMostMembers = 4096, kMostSeed = 2'147'483'647;
inline constexpr double kLeastRate = 1e-12, kMostRate = 1e30;

// Steps that were computed, as a number of them; at least 0. UserError: more than are trained, by the key `key`.
int32_t whole_steps(double steps, const std::string& key);

// Keys that every sweep has.
struct SweepOptions {
  std::vector<int32_t> widths = {4, 8, 16, 32};
  int32_t n_layer = 2;
  std::vector<int32_t> seeds = {0, 1};
  std::vector<double> learning_rates = {0.16, 0.08};  // times 1 / width
  int32_t selection_seed = 1000;
  int32_t selection_steps = 0;
  int32_t steps = 600;
  int32_t batch_size = 192;
  int32_t test_items = 1000;
  int32_t test_seed = 1;
  int32_t validation_items = 1024;
  int32_t evaluation_rows = 256;
  int32_t log_interval = 50;
  int32_t checkpoint_interval = 0;
  int32_t ensemble_size = 0;
  bool save_models = false;
  std::string dtype = "f32";  // see parse_dtype()
};

// Those that do not say what is trained: seeds, questions, logging, packs.
void add_run_fields(ConfigTable& table, SweepOptions& options, bool selection = true);
// Adds them all, those that choose a learning rate only on request; call check_sweep_options()
// after parsing.
void add_sweep_fields(ConfigTable& table, SweepOptions& options, bool selection = true);
void check_sweep_options(const SweepOptions& options);

class Interview;  // interview.h
struct Experiment;

// Models that an earlier run, or an earlier experiment of this one, trained and kept: one a seed at one learning rate.
struct TrainedModels {
  std::filesystem::path folder;  // the weights of CELL in folder/CELL
  std::vector<Cell> cells;       // of them

  const Cell& of_seed(uint32_t seed) const;  // InternalError: there is none
};

// An experiment that stands before another in the list, by its variant and size; its task is the same.
struct Origin {
  std::string variant;
  int32_t width = 0, n_layer = 0;  // 0: as of the other
};

// What an experiment rests on: its own (std::make_shared), or what outlives it (a pointer).
template <class T>
class Shared : public std::shared_ptr<const T> {
 public:
  Shared() = default;
  Shared(std::nullptr_t) {}
  Shared(const T* borrowed) : std::shared_ptr<const T>(std::shared_ptr<const T>(), borrowed) {}
  template <class U>
  Shared(std::shared_ptr<U> owned) : std::shared_ptr<const T>(std::move(owned)) {}
};

// Other budgets than the steps of an experiment: one of the two.
struct Budget {
  double share = 0;  // of the steps that the study trains
  double flops = 0;  // of each model
};

// What an ensemble of a pack leaves behind.
struct PackResult {
  std::vector<Cell> cells;
  std::vector<MetricLine> metrics;
  std::vector<SampleLine> samples;
};

// What is done with a pack in place of training and questions.
using Procedure =
    std::function<PackResult(engine::Device& device, const Experiment& experiment, const std::vector<Member>& members)>;

// Models of one size that learn one thing, as a value that owns what it learns from.
struct Experiment {
  std::string task;     // Cell::task
  std::string variant;  // Cell::variant
  // One of the two. Generated data wants a `model`.
  Shared<tasks::Task> data;
  Shared<GeneratedData> generated;
  Shared<Probe> probe;                              // of models that learn a task
  Shared<Interview> interview;                      // instead of every study's questions
  Shared<TrainedModels> trained;                    // asked, and not trained again
  std::optional<ModelConfig> model;                 // instead of recipe_config()
  std::optional<graph::OptimizerConfig> optimizer;  // instead of recipe_optimizer()
  int32_t width = 0;
  int32_t n_layer = 2;
  int32_t steps = 0;
  int32_t batch_size = 0;
  graph::DType dtype = graph::DType::f32;  // of activations
  std::vector<int32_t> seeds;
  std::vector<double> learning_rates;  // of the optimizer, not yet divided by anything else
  bool choose_rate = true;             // false: every learning rate counts (negative controls)
  std::string corrupt_arm;             // whose steps are corrupted; empty: none
  std::string given_arm;               // asked again with its steps given (kGivenArm); empty: none
  // The trained weights are rounded to each of so many bits (quantize.h) and asked the same
  // questions; what they answer is a cell of variant rounded_variant(), which took no time to
  // train.
  std::vector<int32_t> bits;

  // Follow-up stages. The learning rate is the one that the experiment of this variant, and of the same task and size,
  // has chosen; empty: that of `learning_rates`.
  std::string rate_of;
  // The experiment is trained again under each of these, at the learning rate that it has chosen.
  std::vector<Budget> budgets;
  // A run with `save_models` whose models of the variant `trained_variant` and this task and width are asked; they say
  // seeds, steps, depth and learning rate.
  std::string trained_by, trained_variant;

  // Training begins with the weights of the models of another experiment, each seed with those of the learning rate
  // that was chosen there; learning rates of this one are chosen from there too. Or, with `prepare`, what is learned
  // rests on those models: it is called before training, where nothing was trained yet it is not.
  std::optional<Origin> origin;
  std::function<void(engine::Device& device, const TrainedModels& models)> prepare;

  // In place of training and questions. What has no `steps` is not in a plan.
  Procedure procedure;
  // Why a device leaves it out, asked before anything of it is compiled; empty: it does not.
  std::function<std::string(const engine::DeviceInfo&)> left_out;
};

// The grid of a width: factor / width, in the order of the options.
std::vector<double> learning_rates(const SweepOptions& options, int32_t width);

// "joint-d16-L2-s0-lr0.01"; the task comes first where there is one.
std::string cell_name(const Experiment& experiment, const Member& member);

// The cell of a member, without what training and questions will say.
Cell empty_cell(const Experiment& experiment, const Member& member);

// What the options say of every experiment of one width: steps, batch, seeds, learning rates.
// `data` may be null.
Experiment sweep_experiment(const SweepOptions& options, std::string task, std::string variant,
                            Shared<tasks::Task> data, int32_t width);

// Every seed with every learning rate of the experiment, the learning rate running fastest, cut
// into packs of about equal size.
std::vector<std::vector<Member>> pack_members(const engine::DeviceInfo& device, const SweepOptions& options,
                                              const Experiment& experiment);

// What models of an experiment look like.
ModelConfig model_config(const Experiment& experiment);

// A training step of a pack, with the first batch for each distinct seed of its ensemble; none
// where the device makes them.
struct PackStep {
  std::string name;  // of the first cell
  ModelConfig model;
  TrainConfig train;
  std::vector<tasks::Batch> batches;
};
PackStep first_step(const Experiment& experiment, const std::vector<Member>& members);

// Adds the programs of its training to a session that is not yet allocated. The model must outlive
// the trainer.
std::unique_ptr<Trainer> make_trainer(engine::Session& session, const Model& model, const Experiment& experiment,
                                      const std::vector<Member>& members);

// What a pack costs, from its plan; nothing is allocated. Models that are trained already cost no
// training.
struct PackCost {
  int64_t parameters = 0;  // of one model
  double flops = 0;        // of the training of all its models
  uint64_t bytes = 0;      // of training: state, outputs, and the largest transient arena
};
PackCost pack_cost(const graph::Target& target, const Experiment& experiment, const std::vector<Member>& members);
// The same of a session that has the programs of this trainer, from the plans that it holds.
PackCost session_cost(const engine::Session& session, const Trainer& trainer);

// Seconds that a training step of the pack takes, measured over a few steps on the device.
double measure_step(engine::Device& device, const Experiment& experiment, const std::vector<Member>& members,
                    int64_t steps = 16);

}  // namespace surtsey::experiments
