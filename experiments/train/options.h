// The keys of a training run, and what some of them mean.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "experiments/base/config.h"
#include "experiments/train/train_program.h"

namespace surtsey::experiments {

// What every training run has, with nanoGPT's names and meanings.
struct TrainingKeys {
  // Model size.
  int32_t n_layer = 2;
  int32_t n_head = 2;
  int32_t n_embd = 32;
  int32_t block_size = 64;
  double dropout = 0;
  bool bias = false;
  // Data and length.
  int32_t batch_size = 12;
  int32_t gradient_accumulation_steps = 1;
  int32_t max_iters = 2000;
  int32_t eval_interval = 250;
  int32_t eval_iters = 20;
  int32_t log_interval = 10;
  // AdamW and its schedule.
  double learning_rate = 1e-3;
  double min_lr = 1e-4;
  int32_t warmup_iters = 100;
  int32_t lr_decay_iters = 2000;
  bool decay_lr = true;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double grad_clip = 1.0;
  int32_t divergence_patience = 100;
  uint32_t seed = 1337;
  std::string dtype = "f32";  // see parse_dtype()
  std::string memory_budget;  // see parse_memory_budget()
};

void add_training_fields(ConfigTable& table, TrainingKeys& keys);

// What a run with these keys trains: one model a member, of seeds that count up from the key. UserError: a schedule
// that cannot be.
TrainConfig train_config(const TrainingKeys& keys, int64_t members = 1);

// The key `dtype`: what activations are stored in. f32, bf16 or f16, or by nanoGPT's names.
void add_dtype_field(ConfigTable& table, std::string& dtype);
graph::DType parse_dtype(std::string_view name);  // UserError lists the names

// Bytes ("2684354560", "512MiB", "2.5GiB", "1e9"), or a share of what the program takes without a
// budget ("0.5x"); empty: no limit. UserError for anything else.
graph::MemoryLimit parse_memory_budget(std::string_view text);

}  // namespace surtsey::experiments
