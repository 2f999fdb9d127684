// A task, a model and a training that take a second.
#pragma once

#include "experiments/tasks/chain.h"
#include "experiments/train/train.h"

namespace surtsey::tests {

inline experiments::tasks::ChainTask small_task() {
  return experiments::tasks::ChainTask({.modulus = 5, .length = 3, .held_out_share = 0});
}

inline experiments::TrainConfig small_config(int64_t steps, std::vector<experiments::Member> members,
                                             int32_t batch_size) {
  experiments::TrainConfig config;
  config.optimizer = experiments::recipe_optimizer(steps);
  config.members = std::move(members);
  config.batch_size = batch_size;
  config.steps = steps;
  return config;
}

inline experiments::Model small_model(const experiments::tasks::Task& task, double dropout = 0) {
  experiments::ModelConfig config = experiments::recipe_config(2, 8, task.vocab_size(), task.block_size());
  config.dropout = dropout;
  return experiments::Model(config);
}

}  // namespace surtsey::tests
