#include "experiments/commands/bench.h"
#include "experiments/models/forward_program.h"
#include "experiments/train/train_session.h"

#include <chrono>

namespace surtsey::experiments::commands {
namespace {

Record measure(engine::Device& device, const BenchModel& benched, const BenchForwardOptions& options) {
  const Model model = benched.model();
  engine::Session session(device, session_options(device, options.bench));
  const engine::SessionProgram forward =
      session.add_program("forward", forward_program(model, benched.batch_size, size_t(benched.members)));
  session.allocate();
  write_models(session, model, benched.train().members);
  write_uniform_tokens(session, benched.config, benched.train().members.front().seed);
  const auto samples = take_samples(options.bench.warmup, options.bench.repetitions, [&] {
    const auto start = std::chrono::steady_clock::now();
    forward.run();
    const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
    return uint64_t(spent.count());
  });

  const graph::Plan& plan = forward.plan();
  Record record;
  record["test"] = "forward";
  record["device"] = device.info().name;
  add_model(record, benched, model.parameter_count());
  record["dispatches"] = plan.dispatches.size();
  record["flops"] = plan.flops;
  record["matmul_flops"] = plan.matmul_flops;
  record["arena_bytes"] = session.arena_bytes();
  add_samples(record, samples);
  const double median_ns = record.number("median_ns");
  const auto tokens = double(benched.members * benched.batch_size * benched.config.block_size);
  record["median_ms"] = median_ns / 1e6;
  record["tokens_per_second"] = tokens / median_ns * 1e9;
  record["gflops"] = double(plan.matmul_flops) / median_ns;
  if (options.profile) {
    fmt::print(stderr, "{}", engine::print(engine::by_kernel(plan, forward.run_timed(engine::TimingMode::isolated))));
  }
  return record;
}

}  // namespace

void bench_forward(const BenchForwardOptions& options) {
  check_bench(options.bench);
  engine::Device device = open_device(options.bench);
  std::vector<Record> records;
  for_each_model(options, options.keys,
                 [&](const BenchModel& model) { records.push_back(measure(device, model, options)); });
  std::vector<std::string> columns = model_columns();
  columns.insert(columns.end(), {"dispatches", "arena_bytes", "gflops", "tokens_per_second"});
  print_records(records, options.bench.format, columns);
}

}  // namespace surtsey::experiments::commands
