#include "experiments/adapt/adaptation.h"
#include "experiments/commands/bench.h"
#include "experiments/train/options.h"
#include "experiments/train/train_session.h"

#include <algorithm>
#include <chrono>

namespace surtsey::experiments::commands {
namespace {

Record measure(engine::Device& device, const BenchModel& benched, graph::DType dtype, const std::string& budget,
               const BenchTrainOptions& options) {
  Model model(benched.config);
  if (options.lora > 0) {
    const AdaptConfig adapter{.weights = benched.weights == "trained" ? "f32" : benched.weights,
                              .target_modules = {"all-linear"},
                              .r = options.lora,
                              .lora_alpha = double(options.lora)};
    // Adapters and base start by seed, as untrained models do: nothing is read of a base.
    Adaptation(adapter, model, {}).install(model, device.target());
  }
  TrainConfig train = benched.train();
  train.dtype = dtype;
  train.memory = parse_memory_budget(budget == "none" ? "" : budget);
  engine::Session session(device, session_options(device, options.bench));
  add_train_programs(session, model, train);
  session.allocate();
  write_uniform_start(session, model, train);
  const engine::SessionProgram program = session.program("train");

  const auto steps = uint32_t(options.steps);
  const auto samples = take_samples(options.bench.warmup, options.bench.repetitions, [&] {
    const auto start = std::chrono::steady_clock::now();
    program.run(steps);
    const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
    return uint64_t(spent.count()) / steps;
  });
  const std::vector<uint32_t> skipped = session.read_words("skipped");
  // In f16 the first steps may look for the loss scale: it can be halved so often.
  const uint32_t most = dtype == graph::DType::f16 ? 16 : 0;
  check(std::all_of(skipped.begin(), skipped.end(), [&](uint32_t n) { return n <= most; }),
        "the benchmark's model diverged: steps were skipped");

  const graph::Plan& plan = program.plan();
  Record record;
  record["test"] = "train";
  record["device"] = device.info().name;
  add_model(record, benched, model.parameter_count());
  record["dtype"] = graph::name(dtype);
  record["memory_budget"] = budget;
  record["lora"] = options.lora;
  record["trained"] = model.store().trained_count();
  record["planned_bytes"] = graph::planned_bytes(plan);
  record["dispatches"] = plan.dispatches.size();
  record["barriers"] = plan.barriers.size();
  record["flops"] = plan.flops;
  record["matmul_flops"] = plan.matmul_flops;
  record["host_ns_per_submission"] = program.host_ns_per_submission();
  record["submissions"] = program.submissions();
  record["steps"] = steps * uint64_t(options.bench.warmup + options.bench.repetitions);
  record["arena_bytes"] = session.arena_bytes();
  record["loss"] = program.read_floats("loss");
  add_samples(record, samples);
  const double median_ns = record.number("median_ns");
  const auto tokens = double(benched.members * benched.batch_size * benched.config.block_size);
  record["tokens_per_second"] = tokens / median_ns * 1e9;
  record["gflops"] = double(plan.matmul_flops) / median_ns;
  return record;
}

}  // namespace

void bench_train(const BenchTrainOptions& options) {
  check_bench(options.bench);
  check(options.steps > 0, "--steps is at least 1");
  engine::Device device = open_device(options.bench, options.dtype);
  std::vector<Record> records;
  for_each_model(options, {}, [&](const BenchModel& model) {
    for (const std::string& dtype : options.dtype)
      for (const std::string& budget : options.memory_budget)
        records.push_back(measure(device, model, parse_dtype(dtype), budget, options));
  });
  std::vector<std::string> columns = model_columns();
  columns.insert(columns.end(), {"dtype", "memory_budget", "planned_bytes", "dispatches", "host_ns_per_submission",
                                 "arena_bytes", "tokens_per_second"});
  print_records(records, options.bench.format, columns);
}

}  // namespace surtsey::experiments::commands
