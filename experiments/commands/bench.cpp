#include "experiments/commands/bench.h"

#include "experiments/adapt/packed.h"
#include "experiments/base/computing_device.h"
#include "experiments/commands/keys.h"
#include "experiments/models/shapes.h"
#include "experiments/train/options.h"

#include <algorithm>
#include <chrono>

namespace surtsey::experiments::commands {

void check_bench(const BenchOptions& options) {
  check(std::find(kRecordFormats.begin(), kRecordFormats.end(), options.format) != kRecordFormats.end(),
        "-o is md, json, jsonl or csv, not '{}'", options.format);
  check(options.repetitions > 0, "-r (repetitions) is at least 1, not {}", options.repetitions);
  check(options.warmup >= 0, "--warmup cannot be {}", options.warmup);
  matmul_variant(options.variant);
}

void for_each_model(const BenchModels& models, const std::vector<std::string>& keys,
                    const std::function<void(const BenchModel&)>& visit) {
  constexpr int64_t kContext = 1024;
  for (const std::string& name : models.model.empty() ? std::vector<std::string>{""} : models.model) {
    ModelConfig base;
    int64_t batch_size = 1;
    if (!name.empty()) {
      apply_shape(base, name);
      base.block_size = std::min(base.block_size, kContext);
    } else {
      const BenchModels::Unnamed& unnamed = models.unnamed;
      base.vocab_size = unnamed.vocab_size;
      base.block_size = unnamed.block_size;
      base.n_layer = unnamed.n_layer;
      base.n_embd = unnamed.n_embd;
      base.n_head = unnamed.n_head;
      batch_size = unnamed.batch_size;
    }
    ConfigTable none;
    read_keys(base, none, "", keys);
    const auto list = [](const std::vector<int64_t>& given, int64_t otherwise) {
      return given.empty() ? std::vector{otherwise} : given;
    };
    for (const std::string& weights : models.weights) {
      for_each_combination({list(models.vocab_size, base.vocab_size), list(models.block_size, base.block_size),
                            list(models.n_layer, base.n_layer), list(models.n_embd, base.n_embd),
                            list(models.n_head, base.n_head), list(models.batch_size, batch_size), models.members},
                           [&](const std::vector<int64_t>& v) {
                             BenchModel model{base, v[5], v[6], weights};
                             model.config.vocab_size = v[0];
                             model.config.block_size = v[1];
                             model.config.n_layer = v[2];
                             model.config.n_embd = v[3];
                             model.config.n_head = v[4];
                             check_config(model.config);
                             check(v[5] > 0 && v[6] > 0, "--batch_size and --members are at least 1");
                             visit(model);
                           });
    }
  }
}

TrainConfig BenchModel::train() const {
  constexpr uint32_t kSeed = 1337;
  constexpr double kLearningRate = 1e-3;
  TrainConfig train;
  train.batch_size = static_cast<int32_t>(batch_size);
  train.members.clear();
  for (int64_t e = 0; e < members; ++e) train.members.push_back({kSeed + uint32_t(e), kLearningRate});
  return train;
}

Model BenchModel::model() const {
  Model result(config);
  freeze_weights(result.store(), weights);
  result.keep_projections_together();
  return result;
}

void add_model(Record& record, const BenchModel& model, int64_t parameters) {
  record["vocab_size"] = model.config.vocab_size;
  record["block_size"] = model.config.block_size;
  record["n_layer"] = model.config.n_layer;
  record["n_embd"] = model.config.n_embd;
  record["n_head"] = model.config.n_head;
  record["batch_size"] = model.batch_size;
  record["members"] = model.members;
  record["weights"] = model.weights;
  record["parameters"] = parameters;
}

std::vector<std::string> model_columns() {
  return {"device", "parameters", "vocab_size", "block_size", "n_layer", "n_embd", "n_head", "batch_size", "members"};
}

uint64_t time_runs(engine::SessionProgram program, uint32_t runs) {
  const auto start = std::chrono::steady_clock::now();
  program.run(runs);
  const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
  return uint64_t(spent.count()) / runs;
}

uint32_t runs_per_sample(engine::SessionProgram program) {
  constexpr uint64_t kSampleNs = 20'000'000;
  const uint64_t once = std::max<uint64_t>(1, std::min(time_runs(program, 1), time_runs(program, 1)));
  return uint32_t(std::clamp<uint64_t>(kSampleNs / once, 1, 1024));
}

graph::MatmulVariant matmul_variant(const std::string& name) {
  using graph::MatmulVariant;
  if (name.empty() || name == "automatic") return MatmulVariant::automatic;
  for (const MatmulVariant variant :
       {MatmulVariant::lane_broadcast, MatmulVariant::shared_tile, MatmulVariant::cooperative})
    if (name == graph::name(variant)) return variant;
  throw UserError(fmt::format("--variant is automatic, lane_broadcast, shared_tile or cooperative, not '{}'", name));
}

engine::Device open_device(const BenchOptions& options, const std::vector<std::string>& dtypes) {
  engine::DeviceOptions device = options.device;
  device.f16 = matmul_variant(options.variant) == graph::MatmulVariant::cooperative ||
               std::any_of(dtypes.begin(), dtypes.end(),
                           [](const std::string& dtype) { return parse_dtype(dtype) == graph::DType::f16; });
  return open_computing_device(device);
}

engine::SessionOptions session_options(const engine::Device& device, const BenchOptions& options) {
  engine::SessionOptions session;
  session.quiet = true;
  session.target = device.target();
  session.target->matmul = matmul_variant(options.variant);
  return session;
}

}  // namespace surtsey::experiments::commands
