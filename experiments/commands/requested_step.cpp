#include "experiments/commands/requested_step.h"

#include "experiments/adapt/packed.h"
#include "experiments/commands/keys.h"
#include "experiments/models/forward_program.h"

namespace surtsey::experiments::commands {

RequestedStep requested_step(const std::string& program, int64_t members, const std::string& config,
                             const std::vector<std::string>& keys) {
  check(program == "train" || program == "forward", "--program is train or forward, not '{}'", program);
  check(members > 0, "--members is at least 1");
  TrainingKeys training;
  ConfigTable table;
  std::string data;  // of a training run's configuration; the compiler does not need it
  table.add("data", &data, "text file; not read");
  std::string weights = "trained";
  table.add("weights", &weights,
            "of a forward pass: trained, or frozen as f32, f16, bf16, int8, int4, q8_0, q4_0, q4_k, q6_k");
  table.add("members", &members, "models of an ensemble").at_least(1);
  add_training_fields(table, training);
  ModelConfig model_config;
  read_keys(model_config, table, config, keys);
  if (training.gradient_accumulation_steps != 1) {
    fmt::print(stderr, "gradient_accumulation_steps is taken as 1: a batch and its update\n");
    training.gradient_accumulation_steps = 1;
  }
  Model model(model_config);
  check(program == "forward" || weights == "trained",
        "--weights={}: a model of which nothing trains has no step; give "
        "--program=forward",
        weights);
  freeze_weights(model.store(), weights);
  const TrainConfig train = train_config(training, members);
  return {
      model, train,
      program == "train" ? train_step(model, train) : forward_program(model, train.batch_size, train.members.size()),
      compile_options(train, program)};
}

}  // namespace surtsey::experiments::commands
