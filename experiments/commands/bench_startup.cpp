#include "experiments/commands/bench.h"
#include "experiments/train/train_session.h"

#include <unistd.h>
#include <chrono>
#include <filesystem>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// A cache of shaders of this process alone.
class CacheFolder {
 public:
  CacheFolder() : path_(fs::temp_directory_path() / fmt::format("surtsey.{}.startup", getpid())) { clear(); }
  ~CacheFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  CacheFolder(const CacheFolder&) = delete;
  CacheFolder& operator=(const CacheFolder&) = delete;

  std::string path() const { return path_.string(); }
  void clear() { fs::remove_all(path_); }

 private:
  fs::path path_;
};

struct Startup {
  double graph_ms = 0;     // description to graph, gradient and optimizer
  double compile_ms = 0;   // graph to plan
  double emit_ms = 0;      // plan to GLSL
  double spirv_ms = 0;     // GLSL to SPIR-V, or from the cache
  double pipeline_ms = 0;  // SPIR-V to pipelines
  double allocate_ms = 0;  // memory, zero-filled, and the recording
  uint64_t total_ns = 0;
  size_t dispatches = 0;
  uint64_t shaders_compiled = 0;
};

Startup start_up(engine::Device& device, const BenchModel& benched, const BenchOptions& options,
                 const std::string& cache) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const auto ms_since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  };
  const Model model(benched.config);
  const TrainConfig train = benched.train();
  const graph::Program program = train_step(model, train);
  Startup result;
  result.graph_ms = ms_since(begin);
  engine::SessionOptions session_settings = session_options(device, options);
  session_settings.cache = cache;
  engine::Session session(device, session_settings);
  const engine::SessionProgram step = session.add_program("train", program, compile_options(train, "train"));
  const auto allocation = Clock::now();
  session.allocate();
  result.allocate_ms = ms_since(allocation);
  result.total_ns = uint64_t(std::chrono::nanoseconds(Clock::now() - begin).count());
  const engine::ProgramStatistics& statistics = step.statistics();
  result.compile_ms = statistics.compile_ms;
  result.emit_ms = statistics.emit_ms;
  result.spirv_ms = statistics.spirv.milliseconds;
  result.pipeline_ms = statistics.pipeline_ms;
  result.dispatches = step.plan().dispatches.size();
  result.shaders_compiled = statistics.spirv.compiled;
  return result;
}

void add_records(std::vector<Record>& records, const engine::Device& device, const BenchModel& benched,
                 const char* cache, const std::vector<Startup>& runs) {
  Record record;
  record["test"] = "startup";
  record["device"] = device.info().name;
  add_model(record, benched, Model(benched.config).parameter_count());
  record["cache"] = cache;
  record["dispatches"] = runs.front().dispatches;
  record["shaders_compiled"] = runs.front().shaders_compiled;
  const std::pair<const char*, double Startup::*> stages[] = {
      {"graph_ms", &Startup::graph_ms}, {"compile_ms", &Startup::compile_ms},   {"emit_ms", &Startup::emit_ms},
      {"spirv_ms", &Startup::spirv_ms}, {"pipeline_ms", &Startup::pipeline_ms}, {"allocate_ms", &Startup::allocate_ms}};
  std::vector<uint64_t> totals;
  for (const Startup& run : runs) totals.push_back(run.total_ns);
  for (const auto& [name, stage] : stages) {
    std::vector<uint64_t> ns;
    for (const Startup& run : runs) ns.push_back(uint64_t(run.*stage * 1e6));
    record[name] = median(ns) / 1e6;
  }
  add_samples(record, totals);
  records.push_back(std::move(record));
}

}  // namespace

void bench_startup(const BenchStartupOptions& options) {
  check_bench(options.bench);
  engine::Device device = open_device(options.bench);
  CacheFolder cache;
  std::vector<Record> records;
  std::vector<std::string> keys = {"--tied=true"};
  keys.insert(keys.end(), options.keys.begin(), options.keys.end());
  for_each_model(options, keys, [&](const BenchModel& model) {
    std::vector<Startup> cold, warm;
    for (int64_t run = -options.bench.warmup; run < options.bench.repetitions; ++run) {
      cache.clear();
      const Startup first = start_up(device, model, options.bench, cache.path());
      const Startup second = start_up(device, model, options.bench, cache.path());
      if (run < 0) continue;
      cold.push_back(first);
      warm.push_back(second);
    }
    add_records(records, device, model, "empty", cold);
    add_records(records, device, model, "filled", warm);
  });
  print_records(records, options.bench.format,
                {"device", "parameters", "n_layer", "n_embd", "cache", "dispatches", "shaders_compiled", "graph_ms",
                 "compile_ms", "emit_ms", "spirv_ms", "pipeline_ms", "allocate_ms"});
}

}  // namespace surtsey::experiments::commands
