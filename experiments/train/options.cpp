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

void add_training_fields(ConfigTable& table, TrainingOptions& o) {
  table.add("n_layer", &o.n_layer, "transformer blocks").at_least(1).at_most(1000);
  table.add("n_head", &o.n_head, "attention heads").at_least(1).at_most(1024);
  table.add("n_embd", &o.n_embd, "width of the residual stream").at_least(1).at_most(65536);
  table.add("block_size", &o.block_size, "context length").at_least(1).at_most(1 << 20);
  table.add("dropout", &o.dropout, "share of activations dropped in training").at_least(0).at_most(0.99);
  table.add("bias", &o.bias, "biases in linear layers and norms");
  table.add("batch_size", &o.batch_size, "sequences per micro-batch").at_least(1);
  table.add("gradient_accumulation_steps", &o.gradient_accumulation_steps, "micro-batches per optimizer step")
      .at_least(1);
  table.add("max_iters", &o.max_iters, "optimizer steps").at_least(1);
  table.add("eval_interval", &o.eval_interval, "steps between evaluations").at_least(1);
  table.add("eval_iters", &o.eval_iters, "batches per evaluation").at_least(1);
  table.add("log_interval", &o.log_interval, "steps between log lines").at_least(1);
  table.add("learning_rate", &o.learning_rate, "largest learning rate").at_least(0);
  table.add("min_lr", &o.min_lr, "learning rate at the end of the decay").at_least(0);
  table.add("warmup_iters", &o.warmup_iters, "steps of linear warm-up").at_least(0);
  table.add("lr_decay_iters", &o.lr_decay_iters, "step at which the decay ends").at_least(1);
  table.add("decay_lr", &o.decay_lr, "decay the learning rate after the warm-up");
  table.add("weight_decay", &o.weight_decay, "decoupled weight decay").at_least(0);
  table.add("beta1", &o.beta1, "decay of the first moment").at_least(0).at_most(0.999999);
  table.add("beta2", &o.beta2, "decay of the second moment").at_least(0).at_most(0.999999);
  table.add("grad_clip", &o.grad_clip, "largest gradient norm, 0 for none").at_least(0);
  table.add("seed", &o.seed, "seed of weights, data and dropout");
  add_dtype_field(table, o.dtype);
  table.add("memory_budget", &o.memory_budget,
            "most memory of the training step (512MiB, 2.5GiB, 0.5x of its need): computes again "
            "what does not fit; empty for none");
}

}  // namespace surtsey::experiments
