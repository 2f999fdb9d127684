// What the benchmarks share.
#pragma once

#include "engine/session.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/records.h"
#include "experiments/train/train_program.h"

namespace surtsey::experiments::commands {

// UserError: format, repetitions, warm-up or variant are not possible.
void check_bench(const BenchOptions& options);

// Every combination of the lists, over a model with these further `keys` (--key=value). UserError:
// a key or a model that is not possible.
struct BenchModel {
  ModelConfig config;
  int64_t batch_size = 0;
  int64_t members = 0;
  std::string weights = "trained";

  Model model() const;
  // Of a run at a constant learning rate that no benchmark is too long for: member e has seed 1337 + e.
  TrainConfig train() const;
};
void for_each_model(const BenchModels& models, const std::vector<std::string>& keys,
                    const std::function<void(const BenchModel&)>& visit);
// The record's fields that say what was measured, and the same as columns of a table.
void add_model(Record& record, const BenchModel& model, int64_t parameters);
std::vector<std::string> model_columns();

// For what is stored in these dtypes.
engine::Device open_device(const BenchOptions& options, const std::vector<std::string>& dtypes = {"f32"});
engine::SessionOptions session_options(const engine::Device& device, const BenchOptions& options);

// How many runs make a sample long enough that handing it over does not count, and the nanoseconds
// that one of so many takes.
uint32_t runs_per_sample(engine::SessionProgram program);
uint64_t time_runs(engine::SessionProgram program, uint32_t runs);

// automatic, lane_broadcast, shared_tile or cooperative from its name, empty for automatic; UserError.
graph::MatmulVariant matmul_variant(const std::string& name);

}  // namespace surtsey::experiments::commands
