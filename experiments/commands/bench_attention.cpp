#include "experiments/commands/bench.h"
#include "graph/attention.h"
#include "graph/autodiff.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments::commands {
namespace {

using graph::AttentionVariant;
using graph::DType;
using graph::Value;

struct AttentionCase {
  int64_t batch = 0, heads = 0, length = 0, width = 0;
  bool causal = false, backward = false;
};

graph::Program attention_program(const AttentionCase& c) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  const auto input = [&](const char* name) {
    return program.graph->parameter(name, {DType::f32, {c.batch, c.heads, c.length, c.width}});
  };
  const Value q = input("q"), k = input("k"), v = input("v");
  graph::AttentionOptions options;
  options.causal = c.causal;
  const Value out = graph::scaled_dot_product_attention(q, k, v, options).out;
  program.outputs = {{"out", out}};
  if (!c.backward) return program;
  const Value loss = graph::sum(out * input("weights"), {0, 1, 2, 3}, false);
  const std::vector<Value> gradients = graph::differentiate(loss, std::vector{q, k, v});
  for (size_t i = 0; i < gradients.size(); ++i) {
    program.outputs.emplace_back(std::string("d") + "qkv"[i], gradients[i]);
  }
  return program;
}

class TimedVariant {
 public:
  TimedVariant(engine::Device& device, const AttentionCase& c, const BenchOptions& options, AttentionVariant variant)
      : session_(device, with_variant(device, options, variant)),
        program_(attention_program(c)),
        attention_(session_.add_program("attention", program_)) {
    session_.allocate();
    uint32_t seed = 1;
    for (const char* name : {"q", "k", "v", "weights"}) {
      if (!session_.has_state(name)) continue;
      session_.write(name, graph::HostTensor::random(session_.state_type(name), -1, 1, seed++));
    }
    attention_.run();
  }

  uint32_t runs() { return runs_per_sample(attention_); }
  uint64_t timed(uint32_t runs) { return time_runs(attention_, runs); }

  // A fast wrong kernel is no result.
  void check_equal(TimedVariant& other) {
    for (const auto& [name, value] : program_.outputs) {
      const std::vector<float> mine = attention_.read_floats(name);
      const std::vector<float> theirs = other.attention_.read_floats(name);
      for (size_t i = 0; i < mine.size(); ++i) {
        ensure(std::abs(mine[i] - theirs[i]) <= 1e-4f * (1 + std::abs(theirs[i])),
               "attention: element {} of {} is {} in one kernel, {} by its primitives", i, name, mine[i], theirs[i]);
      }
    }
  }

  const graph::Plan& plan() { return attention_.plan(); }
  uint64_t arena_bytes() { return session_.arena_bytes(); }

 private:
  static engine::SessionOptions with_variant(const engine::Device& device, const BenchOptions& options,
                                             AttentionVariant variant) {
    engine::SessionOptions session = session_options(device, options);
    session.target->attention = variant;
    return session;
  }

  engine::Session session_;
  graph::Program program_;
  engine::SessionProgram attention_;
};

Record measure(engine::Device& device, const AttentionCase& c, const BenchOptions& options) {
  // A device that computes attention by its primitives unless asked is asked.
  AttentionVariant variant = device.target().attention_variant();
  if (variant == AttentionVariant::expanded) variant = AttentionVariant::shared_tile;
  TimedVariant fused(device, c, options, variant);
  TimedVariant expanded(device, c, options, AttentionVariant::expanded);
  fused.check_equal(expanded);

  const uint32_t fused_runs = fused.runs(), expanded_runs = expanded.runs();
  std::vector<uint64_t> expanded_samples;
  const std::vector<uint64_t> samples = take_samples(options.warmup, options.repetitions, [&] {
    expanded_samples.push_back(expanded.timed(expanded_runs));
    return fused.timed(fused_runs);
  });
  expanded_samples.erase(expanded_samples.begin(), expanded_samples.begin() + options.warmup);

  Record record;
  record["test"] = "attention";
  record["device"] = device.info().name;
  record["B"] = c.batch;
  record["H"] = c.heads;
  record["T"] = c.length;
  record["D"] = c.width;
  record["causal"] = c.causal;
  record["pass"] = c.backward ? "backward" : "forward";
  record["variant"] = variant == AttentionVariant::lane_broadcast ? "lane_broadcast" : "shared_tile";
  record["runs_per_sample"] = fused_runs;
  add_samples(record, samples);
  const double median_ns = record.number("median_ns");
  record["gflops"] = double(fused.plan().matmul_flops) / median_ns;
  record["dispatches"] = fused.plan().dispatches.size();
  record["arena_bytes"] = fused.arena_bytes();
  record["expanded_ns"] = median(expanded_samples);
  record["expanded_dispatches"] = expanded.plan().dispatches.size();
  record["expanded_arena_bytes"] = expanded.arena_bytes();
  record["speedup"] = median(expanded_samples) / median_ns;
  return record;
}

void check_words(const std::vector<std::string>& words, const char* option, const char* first, const char* second) {
  for (const std::string& word : words) {
    check(word == first || word == second, "{} is {} or {}, not '{}'", option, first, second, word);
  }
}

}  // namespace

void bench_attention(const BenchAttentionOptions& options) {
  check_bench(options.bench);
  check_words(options.causal, "--causal", "on", "off");
  check_words(options.pass, "--pass", "forward", "backward");
  for (const auto* list : {&options.batch, &options.heads, &options.length, &options.width}) {
    for (const int64_t extent : *list) check(extent > 0, "--B, --H, --T and --D are at least 1");
  }
  for (const int64_t width : options.width) {
    check(width <= 256, "--D is at most 256, the widest head of the attention kernels");
  }
  engine::Device device = open_device(options.bench);
  std::vector<Record> records;
  for_each_combination({options.batch, options.heads, options.length, options.width},
                       [&](const std::vector<int64_t>& v) {
                         for (const std::string& causal : options.causal) {
                           for (const std::string& pass : options.pass) {
                             const AttentionCase c{v[0], v[1], v[2], v[3], causal == "on", pass == "backward"};
                             records.push_back(measure(device, c, options.bench));
                           }
                         }
                       });
  print_records(records, options.bench.format,
                {"device", "B", "H", "T", "D", "causal", "pass", "variant", "gflops", "speedup", "arena_bytes",
                 "expanded_arena_bytes"});
}

}  // namespace surtsey::experiments::commands
