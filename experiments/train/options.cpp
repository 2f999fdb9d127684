#include "experiments/train/options.h"

#include <charconv>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr std::pair<const char*, graph::DType> kDTypeNames[] = {
    {"f32", graph::DType::f32},     {"bf16", graph::DType::bf16},     {"f16", graph::DType::f16},
    {"float32", graph::DType::f32}, {"bfloat16", graph::DType::bf16}, {"float16", graph::DType::f16}};

}  // namespace

graph::DType parse_dtype(std::string_view name) {
  std::string known;
  for (const auto& [known_name, dtype] : kDTypeNames) {
    if (name == known_name) return dtype;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", known_name);
  }
  throw UserError(fmt::format("dtype is no '{}' (one of: {})", name, known));
}

graph::MemoryLimit parse_memory_budget(std::string_view text) {
  constexpr std::pair<const char*, double> kUnits[] = {
      {"", 1},         {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30},
      {"TiB", 0x1p40}, {"kB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  graph::MemoryLimit limit;
  if (text.empty()) return limit;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc() && std::isfinite(number) && number > 0) {
    if (unit == "x") limit.share = number;
    for (const auto& [name, bytes] : kUnits) {
      if (unit == name && number * bytes >= 1 && number * bytes < 0x1p62) {
        limit.bytes = static_cast<uint64_t>(number * bytes);
      }
    }
  }
  check(bool(limit),
        "memory_budget is no '{}': bytes (2684354560, 512MiB, 2.5GiB) or a share of "
        "what is needed without a budget (0.5x)",
        text);
  return limit;
}

void add_dtype_field(ConfigTable& table, std::string& dtype) {
  std::vector<std::string> names;
  for (const auto& [name, value] : kDTypeNames) names.emplace_back(name);
  table.add("dtype", &dtype, "what activations are stored in; weights and arithmetic are f32").one_of(std::move(names));
}

void add_training_fields(ConfigTable& table, TrainingKeys& keys) {
  constexpr int32_t kMostCounted = 1 << 30;  // the device counts steps and micro-batches in 32 bits
  constexpr double kLargest = 1e9;           // of a rate or a norm: what f32 has room for, with its square
  table.add("n_layer", &keys.n_layer, "transformer blocks").at_least(1).at_most(1000);
  table.add("n_head", &keys.n_head, "attention heads").at_least(1).at_most(1024);
  table.add("n_embd", &keys.n_embd, "width of the residual stream").at_least(1).at_most(65536);
  table.add("block_size", &keys.block_size, "context length").at_least(1).at_most(1 << 20);
  table.add("dropout", &keys.dropout, "share of activations dropped in training").at_least(0).at_most(0.99);
  table.add("bias", &keys.bias, "biases in linear layers and norms");
  table.add("batch_size", &keys.batch_size, "sequences per micro-batch").at_least(1).at_most(1 << 20);
  table.add("gradient_accumulation_steps", &keys.gradient_accumulation_steps, "micro-batches per optimizer step")
      .at_least(1)
      .at_most(kMostCounted);
  table.add("max_iters", &keys.max_iters, "optimizer steps").at_least(1).at_most(kMostCounted);
  table.add("eval_interval", &keys.eval_interval, "steps between evaluations").at_least(1).at_most(kMostCounted);
  table.add("eval_iters", &keys.eval_iters, "batches per evaluation").at_least(1).at_most(1 << 20);
  table.add("log_interval", &keys.log_interval, "steps between log lines").at_least(1).at_most(kMostCounted);
  table.add("learning_rate", &keys.learning_rate, "largest learning rate").at_least(0).at_most(kLargest);
  table.add("min_lr", &keys.min_lr, "learning rate at the end of the decay").at_least(0).at_most(kLargest);
  table.add("warmup_iters", &keys.warmup_iters, "steps of linear warm-up").at_least(0).at_most(kMostCounted);
  table.add("lr_decay_iters", &keys.lr_decay_iters, "step at which the decay ends").at_least(1).at_most(kMostCounted);
  table.add("decay_lr", &keys.decay_lr, "decay the learning rate after the warm-up");
  table.add("weight_decay", &keys.weight_decay, "decoupled weight decay").at_least(0).at_most(kLargest);
  table.add("beta1", &keys.beta1, "decay of the first moment").at_least(0).at_most(0.999999);
  table.add("beta2", &keys.beta2, "decay of the second moment").at_least(0).at_most(0.999999);
  table.add("grad_clip", &keys.grad_clip, "largest gradient norm, 0 for none").at_least(0).at_most(kLargest);
  table
      .add("divergence_patience", &keys.divergence_patience,
           "steps in a row without a finite gradient that end a run; 0: none do")
      .at_least(0)
      .at_most(kMostCounted);
  table.add("seed", &keys.seed, "seed of weights, data and dropout");
  add_dtype_field(table, keys.dtype);
  table.add("memory_budget", &keys.memory_budget,
            "most memory of the training step (512MiB, 2.5GiB, 0.5x of its need): computes again "
            "what does not fit; empty for none");
}

TrainConfig train_config(const TrainingKeys& keys, int64_t members) {
  check(members > 0, "members is at least 1, not {}", members);
  TrainConfig config;
  graph::OptimizerConfig& optimizer = config.optimizer;
  optimizer.beta1 = keys.beta1;
  optimizer.beta2 = keys.beta2;
  optimizer.weight_decay = keys.weight_decay;
  optimizer.clip_norm = keys.grad_clip;
  optimizer.accumulation_steps = keys.gradient_accumulation_steps;
  if (keys.decay_lr) {
    // The schedule multiplies the peak.
    check(
        keys.learning_rate > 0 || keys.min_lr == 0,
        "min_lr is {} where learning_rate is 0: the rate is learning_rate times a factor; give a learning_rate above 0",
        keys.min_lr);
    const double ratio = keys.learning_rate > 0 ? keys.min_lr / keys.learning_rate : 0;
    optimizer.schedule = {graph::Decay::cosine, keys.warmup_iters, keys.lr_decay_iters, ratio};
  }
  check(double(keys.max_iters) * keys.gradient_accumulation_steps < 0x1p32,
        "max_iters {} times gradient_accumulation_steps {} is more micro-batches than are counted: at most 2^32 - 1",
        keys.max_iters, keys.gradient_accumulation_steps);
  config.members.clear();
  for (int64_t e = 0; e < members; ++e) config.members.push_back({keys.seed + uint32_t(e), keys.learning_rate});
  config.batch_size = keys.batch_size;
  config.steps = keys.max_iters;
  config.dtype = parse_dtype(keys.dtype);
  config.memory = parse_memory_budget(keys.memory_budget);
  return config;
}

}  // namespace surtsey::experiments
