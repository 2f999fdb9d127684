#include "experiments/commands/bench.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments::commands {
namespace {

using graph::DType;
using graph::HostTensor;

struct Case {
  int64_t m = 0, n = 0, k = 0;
  std::string layout;
  bool transposed(size_t operand) const { return layout[operand] == 't'; }
};

graph::Program product(const Case& c) {
  auto graph = std::make_shared<graph::Graph>();
  const auto operand = [&](const char* name, int64_t rows, int64_t columns, bool transposed) {
    if (!transposed) return graph->parameter(name, {DType::f32, {rows, columns}});
    return graph::transpose(graph->parameter(name, {DType::f32, {columns, rows}}));
  };
  const graph::Value a = operand("a", c.m, c.k, c.transposed(0));
  const graph::Value b = operand("b", c.k, c.n, c.transposed(1));
  return {graph, {{"c", graph::matmul(a, b)}}};
}

// A fast wrong kernel is no result: compares elements spread over the product with sums in double.
void check_product(const Case& c, const HostTensor& a, const HostTensor& b,
                   const std::vector<float>& result) {
  constexpr int64_t kElements = 257;
  const int64_t count = c.m * c.n;
  for (int64_t i = 0; i < std::min(count, kElements); ++i) {
    const int64_t at = count <= kElements ? i : i * (count - 1) / (kElements - 1);
    const int64_t row = at / c.n, column = at % c.n;
    double expected = 0;
    for (int64_t k = 0; k < c.k; ++k) {
      expected += a.values[size_t(c.transposed(0) ? k * c.m + row : row * c.k + k)] *
                  b.values[size_t(c.transposed(1) ? column * c.k + k : k * c.n + column)];
    }
    const double tolerance = 1e-6 * std::sqrt(double(c.k)) * (1 + std::abs(expected));
    ensure(std::abs(double(result[size_t(at)]) - expected) <= tolerance,
           "matmul {} {}x{}x{}: element [{}, {}] is {}, not {}", c.layout, c.m, c.n, c.k, row,
           column, result[size_t(at)], expected);
  }
}

Record measure(engine::Device& device, const Case& c, const BenchOptions& options) {
  engine::Session session(device, session_options(device, options));
  session.add_program("matmul", product(c));
  session.allocate();
  HostTensor a = HostTensor::random(session.state_type("a"), -1, 1, 1);
  HostTensor b = HostTensor::random(session.state_type("b"), -1, 1, 2);
  a.round_to_storage();
  b.round_to_storage();
  session.write("a", a);
  session.write("b", b);
  session.run("matmul");
  check_product(c, a, b, session.read_output_floats("matmul", "c"));

  const uint32_t runs = runs_per_sample(session, "matmul");
  Record record;
  record["test"] = "matmul";
  record["device"] = device.info().name;
  record["m"] = c.m;
  record["n"] = c.n;
  record["k"] = c.k;
  record["layout"] = c.layout;
  record["kernel"] = session.plan("matmul").kernels[0].name;
  record["variant"] = variant_name(session.target());
  record["runs_per_sample"] = runs;
  add_samples(record, take_samples(options.warmup, options.repetitions,
                                   [&] { return time_runs(session, "matmul", runs); }));
  record["gflops"] =
      2.0 * double(c.m) * double(c.n) * double(c.k) / record["median_ns"].get<double>();
  return record;
}

}  // namespace

void bench_matmul(const BenchMatmulOptions& options) {
  check_bench(options.bench);
  for (const std::string& layout : options.layout) {
    check(layout == "nn" || layout == "nt" || layout == "tn" || layout == "tt",
          "--layout is nn, nt, tn or tt, not '{}'", layout);
  }
  for (const auto* list : {&options.m, &options.n, &options.k}) {
    for (const int64_t extent : *list) check(extent > 0, "--m, --n and --k are at least 1");
  }
  engine::Device device = engine::Device::open(options.bench.device);
  std::vector<Record> records;
  for_each_combination({options.m, options.n, options.k}, [&](const std::vector<int64_t>& v) {
    for (const std::string& layout : options.layout) {
      records.push_back(measure(device, {v[0], v[1], v[2], layout}, options.bench));
    }
  });
  print_records(records, options.bench.format,
                {"device", "m", "n", "k", "layout", "variant", "gflops"});
}

}  // namespace surtsey::experiments::commands
