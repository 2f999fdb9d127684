#include "experiments/commands/bench.h"
#include "graph/autodiff.h"
#include "graph/functions.h"
#include "graph/interpret.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace surtsey::experiments::commands {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Value;

struct ReduceCase {
  std::string op;
  int64_t rows = 0, width = 0;
  bool backward = false;
};

constexpr std::array<const char*, 6> kOps = {"softmax",       "layer_norm", "rms_norm",
                                             "cross_entropy", "column_sum", "embedding"};

// Rows are tokens. Backward is the gradient with respect to everything that is trained through the
// op, for a gradient `dy` that is given; cross_entropy is the loss and its gradient in one.
graph::Program reduction(const ReduceCase& c, int64_t vocab_size) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  const auto input = [&](const char* name, graph::Shape shape) {
    return program.graph->parameter(name, {DType::f32, std::move(shape)});
  };
  const auto tokens = [&] { return program.graph->parameter("tokens", {DType::u32, {c.rows}}); };
  Value out;
  std::vector<std::pair<std::string, Value>> trained;
  if (c.op == "embedding") {
    const Value table = input("table", {vocab_size, c.width});
    out = graph::embedding(table, tokens());
    trained = {{"table", table}};
  } else {
    const Value x = input("x", {c.rows, c.width});
    trained = {{"x", x}};
    if (c.op == "softmax") out = graph::softmax(x);
    if (c.op == "column_sum") out = graph::sum(x, {0}, false);
    if (c.op == "cross_entropy") out = graph::cross_entropy(x, tokens()).mean;
    if (c.op == "layer_norm" || c.op == "rms_norm") {
      const Value weight = input("weight", {c.width});
      trained.emplace_back("weight", weight);
      if (c.op == "rms_norm") {
        out = graph::rms_norm(x, weight);
      } else {
        const Value bias = input("bias", {c.width});
        trained.emplace_back("bias", bias);
        out = graph::layer_norm(x, weight, bias);
      }
    }
  }
  if (!c.backward || c.op == "cross_entropy") program.outputs = {{"y", out}};
  if (!c.backward) return program;
  Value loss = out;
  if (c.op != "cross_entropy") {
    std::vector<int64_t> axes;
    for (size_t axis = 0; axis < out.type().shape.size(); ++axis) axes.push_back(int64_t(axis));
    loss = graph::sum(out * input("dy", out.type().shape), axes, false);
  }
  std::vector<Value> values;
  for (const auto& [name, value] : trained) values.push_back(value);
  const std::vector<Value> gradients = graph::differentiate(loss, values);
  for (size_t i = 0; i < gradients.size(); ++i) {
    program.outputs.emplace_back("d" + trained[i].first, gradients[i]);
  }
  return program;
}

uint64_t bytes_of(const graph::Type& type) {
  auto bytes = uint64_t(graph::storage_bytes(type.dtype));
  for (const int64_t extent : type.shape) bytes *= uint64_t(extent);
  return bytes;
}

Record measure(engine::Device& device, const ReduceCase& c, int64_t vocab_size, const BenchOptions& options) {
  const graph::Program program = reduction(c, vocab_size);
  engine::Session session(device, session_options(device, options));
  const engine::SessionProgram reduce = session.add_program("reduce", program);
  session.allocate();
  graph::State state;
  uint64_t bytes = 0;
  uint32_t seed = 1;
  for (const char* name : {"x", "table", "tokens", "weight", "bias", "dy"}) {
    if (!session.has_state(name)) continue;
    const graph::Type type = session.state_type(name);
    const bool index = type.dtype == DType::u32;
    const int64_t classes = c.op == "embedding" ? vocab_size : c.width;
    HostTensor values = HostTensor::random(type, index ? 0 : -1, index ? double(classes) : 1, seed++);
    values.round_to_storage();
    session.write(name, values);
    state.emplace(name, std::move(values));
    bytes += bytes_of(type);
  }
  reduce.run();
  // A fast wrong kernel is no result.
  for (const auto& [name, expected] : graph::interpret(program, state)) {
    bytes += bytes_of(expected.type);
    const std::vector<float> result = reduce.read_floats(name);
    double largest = 0;
    for (const double value : expected.values) largest = std::max(largest, std::abs(value));
    for (size_t i = 0; i < result.size(); ++i) {
      ensure(std::abs(double(result[i]) - expected.values[i]) <= 1e-4 * (1e-3 + largest),
             "{} {}x{}: element {} of {} is {}, not {}", c.op, c.rows, c.width, i, name, result[i], expected.values[i]);
    }
  }

  const uint32_t runs = runs_per_sample(reduce);
  Record record;
  record["test"] = "reduce";
  record["device"] = device.info().name;
  record["op"] = c.op;
  record["rows"] = c.rows;
  record["width"] = c.width;
  if (c.op == "embedding") record["vocab_size"] = vocab_size;
  record["pass"] = c.backward ? "backward" : "forward";
  record["runs_per_sample"] = runs;
  add_samples(record, take_samples(options.warmup, options.repetitions, [&] { return time_runs(reduce, runs); }));
  const double median_ns = record.number("median_ns");
  record["bytes"] = bytes;
  record["gbs"] = double(bytes) / median_ns;
  record["dispatches"] = reduce.plan().dispatches.size();
  record["planned_bytes"] = reduce.plan().bytes;
  return record;
}

}  // namespace

void bench_reduce(const BenchReduceOptions& options) {
  check_bench(options.bench);
  std::vector<std::string> ops = options.op;
  if (ops.empty()) ops.assign(kOps.begin(), kOps.end());
  for (const std::string& op : ops) {
    check(std::find(kOps.begin(), kOps.end(), op) != kOps.end(),
          "--op is softmax, layer_norm, rms_norm, cross_entropy, column_sum or embedding, not '{}'", op);
  }
  for (const std::string& pass : options.pass) {
    check(pass == "forward" || pass == "backward", "--pass is forward or backward, not '{}'", pass);
  }
  for (const auto* list : {&options.rows, &options.width}) {
    for (const int64_t extent : *list) check(extent > 0, "--rows and --width are at least 1");
  }
  check(options.vocab_size > 0, "--vocab_size is at least 1, not {}", options.vocab_size);
  engine::Device device = open_device(options.bench);
  std::vector<Record> records;
  for (const std::string& op : ops) {
    for_each_combination({options.rows, options.width}, [&](const std::vector<int64_t>& v) {
      for (const std::string& pass : options.pass) {
        // The gradient of a sum is the same number everywhere: nothing to measure.
        if (op == "column_sum" && pass == "backward") continue;
        const ReduceCase c{op, v[0], v[1], pass == "backward"};
        records.push_back(measure(device, c, options.vocab_size, options.bench));
      }
    });
  }
  print_records(records, options.bench.format, {"device", "op", "rows", "width", "pass", "dispatches", "gbs"});
}

}  // namespace surtsey::experiments::commands
