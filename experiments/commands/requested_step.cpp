#include "experiments/commands/requested_step.h"

#include "experiments/commands/keys.h"
#include "experiments/train/train_program.h"

namespace surtsey::experiments::commands {

RequestedStep requested_step(const std::string& program, int64_t members, const std::string& config,
                             const std::vector<std::string>& keys) {
  check(program == "train" || program == "forward", "--program is train or forward, not '{}'", program);
  check(members > 0, "--members is at least 1");
  TrainingOptions training;
  ConfigTable table;
  std::string data;  // of a training run's configuration; the compiler does not need it
  table.add("data", &data, "text file");
  add_training_fields(table, training);
  ModelConfig model_config;
  read_keys(model_config, table, config, keys);
  const Model model(model_config);
  StepConfig step;
  step.batch_size = training.batch_size;
  step.members = members;
  graph::CompileOptions compile{.name = program, .storage = parse_dtype(training.dtype)};
  compile.memory = parse_memory_budget(training.memory_budget);
  step.optimizer = optimizer_for(step_optimizer(training), compile.storage);
  return {model, program == "train" ? training_step(model, step) : forward_pass(model, step), std::move(compile)};
}

}  // namespace surtsey::experiments::commands
