#include "experiments/commands/bench.h"
#include "experiments/generate/cache_type.h"
#include "experiments/generate/decode.h"
#include "experiments/profile/ceilings.h"
#include "experiments/train/train_session.h"
#include "graph/random.h"

#include <algorithm>
#include <chrono>

namespace surtsey::experiments::commands {
namespace {

uint64_t run_for(engine::SessionProgram program, int64_t steps) {
  const auto start = std::chrono::steady_clock::now();
  if (steps > 0) program.run(uint32_t(steps));
  const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
  return uint64_t(spent.count());
}

// Bytes a nanosecond at which the products of a token read weights, each product timed alone; 0: nothing is frozen.
double weights_gbs(engine::SessionProgram decode) {
  const graph::Plan& plan = decode.plan();
  const engine::TimedReplay replay = decode.run_timed(engine::TimingMode::isolated);
  uint64_t bytes = 0, ns = 0;
  for (size_t i = 0; i < plan.dispatches.size(); ++i) {
    const graph::Dispatch& dispatch = plan.dispatches[i];
    if (plan.kernels[dispatch.kernel].archetype != graph::Archetype::matmul) continue;
    uint64_t weights = 0;
    for (const graph::Access& access : dispatch.accesses)
      if (plan.buffers[access.buffer].name.starts_with(graph::kFrozen)) weights += access.bytes;
    if (weights == 0) continue;
    bytes += weights;
    ns += replay.dispatches[i].ns();
  }
  return ns == 0 ? 0 : double(bytes) / double(ns);
}

// Bytes of all keys and values.
uint64_t cache_bytes(const engine::Session& session) {
  uint64_t bytes = 0;
  for (const std::string& name : session.state_names()) {
    const graph::Type& type = session.state_type(name);
    if (name.starts_with("cache."))
      bytes += uint64_t(graph::element_count(type.shape) * graph::storage_bytes(type.dtype));
  }
  return bytes;
}

Record measure(engine::Device& device, const BenchModel& benched, int64_t prompt, int64_t new_tokens,
               const std::string& cache_type, const BenchGenerateOptions& options) {
  constexpr uint32_t kSeed = 1337;
  Model model = benched.model();
  model.keep_cache_as(cache_storage(cache_type, model.config(), device.target()));
  DecodeConfig config;
  config.rows = benched.batch_size;
  config.columns = prompt + new_tokens;
  config.prefill = std::max<int64_t>(1, prompt - 1);
  engine::Session session(device, session_options(device, options.bench));
  Decoder decoder(session, model, size_t(benched.members), config);
  session.allocate();
  write_models(session, model, benched.train().members);
  std::vector<uint32_t> tokens;
  for (int64_t i = 0; i < benched.members * config.rows * config.columns; ++i) {
    tokens.push_back(
        graph::random_range(graph::stream_seed(kSeed, "prompt"), 0, uint32_t(i), uint32_t(benched.config.vocab_size)));
  }
  session.write("decode.tokens", tokens);
  session.write("decode.length", std::vector<uint32_t>(size_t(benched.members * config.rows), uint32_t(prompt)));

  // The last token of the prompt is read by the first replay of decode.
  const int64_t read = prompt - 1;
  const engine::SessionProgram prefill_program = session.program("prefill"), decode_program = session.program("decode");
  std::vector<uint64_t> prefill, decode;
  const auto samples = take_samples(options.bench.warmup, options.bench.repetitions, [&] {
    session.write("decode.filled", std::vector<uint32_t>{0});
    session.write("decode.position", std::vector<uint32_t>{uint32_t(prompt)});
    prefill.push_back(run_for(prefill_program, read > 0 ? 1 : 0));
    decode.push_back(run_for(decode_program, new_tokens));
    return prefill.back() + decode.back();
  });
  for (auto* list : {&prefill, &decode}) {
    list->erase(list->begin(), list->begin() + options.bench.warmup);
  }
  check(decoder.finite(), "the benchmark's model diverged: its logits are not finite");

  Record record;
  record["test"] = "generate";
  record["device"] = device.info().name;
  add_model(record, benched, model.parameter_count());
  record["prompt_length"] = prompt;
  record["new_tokens"] = new_tokens;
  record["cache_type"] = cache_type;
  record["cache_bytes"] = cache_bytes(session);
  record["prefill_dispatches"] = prefill_program.plan().dispatches.size();
  record["decode_dispatches"] = decode_program.plan().dispatches.size();
  record["arena_bytes"] = session.arena_bytes();
  add_samples(record, samples);
  const auto rate = [&](int64_t count, double ns) { return double(benched.members * config.rows * count) / ns * 1e9; };
  record["prefill_median_ns"] = int64_t(median(prefill));
  record["decode_median_ns"] = int64_t(median(decode));
  record["prefill_tokens_per_second"] = read > 0 ? rate(read, median(prefill)) : 0;
  record["decode_tokens_per_second"] = rate(new_tokens, median(decode));
  const double gbs = weights_gbs(decode_program);
  record["weights_gbs"] = gbs;
  record["weights_share_of_copy"] =
      gbs > 0 ? gbs / measure_ceilings(device, shaders::default_cache_directory()).copy_gbs() : 0;
  if (options.profile) {
    fmt::print(stderr, "{}",
               engine::print(
                   engine::by_kernel(decode_program.plan(), decode_program.run_timed(engine::TimingMode::isolated))));
  }
  return record;
}

}  // namespace

void bench_generate(const BenchGenerateOptions& options) {
  check_bench(options.bench);
  engine::Device device = open_device(options.bench);
  std::vector<Record> records;
  for_each_combination({options.prompt_length, options.new_tokens}, [&](const std::vector<int64_t>& v) {
    check(v[0] > 0 && v[1] > 0, "--prompt_length and --new_tokens are at least 1");
    BenchModels models = options;
    models.block_size = {v[0] + v[1] - 1};
    for (const std::string& type : options.cache_type)
      for_each_model(models, options.keys, [&](const BenchModel& model) {
        records.push_back(measure(device, model, v[0], v[1], type, options));
      });
  });
  std::vector<std::string> columns = model_columns();
  columns.insert(columns.end(),
                 {"prompt_length", "new_tokens", "cache_type", "cache_bytes", "decode_dispatches", "arena_bytes",
                  "prefill_tokens_per_second", "decode_tokens_per_second", "weights_share_of_copy"});
  print_records(records, options.bench.format, columns);
}

}  // namespace surtsey::experiments::commands
