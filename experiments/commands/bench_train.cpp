#include "experiments/commands/bench.h"
#include "experiments/commands/step_program.h"

#include <algorithm>
#include <chrono>

namespace surtsey::experiments::commands {
namespace {

Record measure(engine::Device& device, const ModelConfig& config, const StepConfig& step,
               const BenchTrainOptions& options) {
  constexpr double kLearningRate = 1e-3;
  constexpr uint32_t kSeed = 1337;
  const Model model(config);
  engine::Session session(device, session_options(device, options.bench));
  session.add_program("train", training_step(model, step));
  session.allocate();
  write_initial_state(session, model, step, kLearningRate, kSeed);

  const auto steps = uint32_t(options.steps);
  const auto samples = take_samples(options.bench.warmup, options.bench.repetitions, [&] {
    const auto start = std::chrono::steady_clock::now();
    session.run("train", steps);
    const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
    return uint64_t(spent.count()) / steps;
  });
  const std::vector<uint32_t> skipped = session.read_words("skipped");
  check(std::all_of(skipped.begin(), skipped.end(), [](uint32_t n) { return n == 0; }),
        "the benchmark's model diverged: steps were skipped");

  const graph::Plan& plan = session.plan("train");
  Record record;
  record["test"] = "train";
  record["device"] = device.info().name;
  record["vocab_size"] = config.vocab_size;
  record["block_size"] = config.block_size;
  record["n_layer"] = config.n_layer;
  record["n_embd"] = config.n_embd;
  record["n_head"] = config.n_head;
  record["batch_size"] = step.batch_size;
  record["members"] = step.members;
  record["parameters"] = model.parameter_count();
  record["dispatches"] = plan.dispatches.size();
  record["barriers"] = plan.barriers.size();
  record["flops"] = plan.flops;
  record["matmul_flops"] = plan.matmul_flops;
  record["host_ns_per_submission"] = session.host_ns_per_submission("train");
  record["submissions"] = session.submissions("train");
  record["steps"] = steps * uint64_t(options.bench.warmup + options.bench.repetitions);
  record["arena_bytes"] = session.arena_bytes();
  record["loss"] = session.read_output_floats("train", "loss");
  add_samples(record, samples);
  const double median_ns = record["median_ns"].get<double>();
  const auto tokens = double(step.members * step.batch_size * config.block_size);
  record["tokens_per_second"] = tokens / median_ns * 1e9;
  record["gflops"] = double(plan.matmul_flops) / median_ns;
  if (options.profile) {
    fmt::print(stderr, "{}", engine::print(engine::by_kernel(session.profile("train"))));
  }
  return record;
}

}  // namespace

void bench_train(const BenchTrainOptions& options) {
  check_bench(options.bench);
  check(options.steps > 0, "--steps is at least 1");
  engine::Device device = engine::Device::open(options.bench.device);
  std::vector<Record> records;
  for_each_combination({options.vocab_size, options.block_size, options.n_layer, options.n_embd,
                        options.n_head, options.batch_size, options.members},
                       [&](const std::vector<int64_t>& v) {
                         ModelConfig config;
                         config.vocab_size = v[0];
                         config.block_size = v[1];
                         config.n_layer = v[2];
                         config.n_embd = v[3];
                         config.n_head = v[4];
                         check_config(config);
                         check(v[5] > 0 && v[6] > 0, "--batch_size and --members are at least 1");
                         StepConfig step;
                         step.batch_size = v[5];
                         step.members = v[6];
                         records.push_back(measure(device, config, step, options));
                       });
  print_records(records, options.bench.format,
                {"device", "parameters", "vocab_size", "block_size", "n_layer", "n_embd", "n_head",
                 "batch_size", "members", "dispatches", "host_ns_per_submission", "arena_bytes",
                 "tokens_per_second"});
}

}  // namespace surtsey::experiments::commands
