// One size of one kind of model: an ensemble over seeds and learning rates, trained, evaluated and
// written down as cells.
//
// The learning rate of a size is chosen by the held-out loss of models with a seed of their own,
// which may train for fewer steps. They are never asked a test question and never part of a claim.
//
// Ensembles are as large as is fast: on a GPU as large as memory allows, on a CPU device as large
// as its caches hold, since more only move more data (measured: six models of width 16 cost 1.7
// times as much each as two).
#pragma once

#include "experiments/study.h"
#include "experiments/tasks/task.h"
#include "experiments/train.h"

namespace surtsey::experiments {

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
};

// Adds them all; call check_sweep_options() after parsing.
void add_sweep_fields(ConfigTable& table, SweepOptions& options);
void check_sweep_options(const SweepOptions& options);

struct Experiment {
  std::string task;     // Cell::task
  std::string variant;  // Cell::variant
  const tasks::Task* data = nullptr;
  int32_t width = 0;
  int32_t n_layer = 2;
  int32_t steps = 0;
  int32_t batch_size = 0;
  std::vector<int32_t> seeds;
  std::vector<double> learning_rates;  // of the optimizer, not yet divided by anything else
  bool choose_rate = true;             // false: every learning rate counts (negative controls)
  std::string corrupt_arm;             // whose steps are corrupted; empty: none
};

// The grid of a width: factor / width, in the order of the options.
std::vector<double> learning_rates(const SweepOptions& options, int32_t width);

// "joint-d16-L2-s0-lr0.01"; the task comes first where there is one.
std::string cell_name(const Experiment& experiment, const Member& member);

// Trains and evaluates what is not finished yet, marks the chosen learning rate, and returns it
// (the first of the grid when choose_rate is false). One model configuration: recipe_config().
double run_experiment(StudyRun& run, const SweepOptions& options, const Experiment& experiment);

// Cells that a claim may rest on: of this task and variant, selected, not validation only.
std::vector<const Cell*> claim_cells(const StudyResult& result, std::string_view task,
                                     std::string_view variant);

}  // namespace surtsey::experiments
