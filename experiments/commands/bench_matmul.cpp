#include "experiments/commands/bench.h"
#include "experiments/kernels/tune.h"
#include "experiments/train/options.h"
#include "shaders/matmul_tile.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments::commands {
namespace {

// Compares elements spread over the product of `a` and `b` with sums in double: empty, or the first
// one that is wrong.
std::string wrong_element(const graph::MatmulShape& shape, const graph::HostTensor& a, const graph::HostTensor& b,
                          const std::vector<float>& result) {
  constexpr int64_t kElements = 257;
  const int64_t batch = shape.batch, m = shape.m, n = shape.n, depth = shape.k;
  const int64_t count = batch * m * n;
  for (int64_t i = 0; i < std::min(count, kElements); ++i) {
    const int64_t at = count <= kElements ? i : i * (count - 1) / (kElements - 1);
    const int64_t column = at % n, row = at / n % m, z = at / (n * m);
    double expected = 0;
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t in_a = shape.a_transposed ? k * m + row : row * depth + k;
      const int64_t in_b = shape.b_transposed ? column * depth + k : k * n + column;
      expected += a.values[size_t(z * m * depth + in_a)] * b.values[size_t(z * n * depth + in_b)];
    }
    const double tolerance = 1e-6 * std::sqrt(double(depth)) * (1 + std::abs(expected));
    const double found = result[size_t(at)];
    if (!(std::abs(found - expected) <= tolerance)) {
      return fmt::format("element [{}, {}, {}] is {}, not {}", z, row, column, found, expected);
    }
  }
  return {};
}

using graph::HostTensor;

// A fast wrong kernel is no result.
void check_product(const graph::MatmulShape& shape, const HostTensor& a, const HostTensor& b,
                   const std::vector<float>& result) {
  const std::string wrong = wrong_element(shape, a, b, result);
  ensure(wrong.empty(), "matmul {}x{}x{}: {}", shape.m, shape.n, shape.k, wrong);
}

Record measure(engine::Device& device, const graph::MatmulShape& c, const std::string& layout, const std::string& dtype,
               const BenchOptions& options) {
  engine::Session session(device, session_options(device, options));
  const engine::SessionProgram matmul = session.add_program("matmul", product_program(c, parse_dtype(dtype)));
  session.allocate();
  HostTensor a = HostTensor::random(session.state_type("a"), -1, 1, 1);
  HostTensor b = HostTensor::random(session.state_type("b"), -1, 1, 2);
  a.round_to_storage();
  b.round_to_storage();
  session.write("a", a);
  session.write("b", b);
  matmul.run();
  check_product(c, a, b, matmul.read_floats("c"));

  const uint32_t runs = runs_per_sample(matmul);
  Record record;
  record["test"] = "matmul";
  record["device"] = device.info().name;
  record["m"] = c.m;
  record["n"] = c.n;
  record["k"] = c.k;
  record["layout"] = layout;
  const graph::Plan& plan = matmul.plan();
  record["kernel"] = plan.kernels[0].name;
  record["dtype"] = dtype;
  record["variant"] =
      graph::name(shaders::matmul_shape(plan.kernels[0], *plan.program.graph, session.target()).variant);
  record["runs_per_sample"] = runs;
  add_samples(record, take_samples(options.warmup, options.repetitions, [&] { return time_runs(matmul, runs); }));
  record["gflops"] = 2.0 * double(c.m) * double(c.n) * double(c.k) / record.number("median_ns");
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
  std::vector<std::pair<std::string, std::string>> kinds;
  for (const std::string& dtype : options.dtype)
    for (const std::string& layout : options.layout) kinds.emplace_back(layout, dtype);
  engine::Device device = open_device(options.bench, options.dtype);
  std::vector<Record> records;
  for_each_combination({options.m, options.n, options.k}, [&](const std::vector<int64_t>& v) {
    for (const auto& [layout, dtype] : kinds) {
      records.push_back(measure(
          device, {.m = v[0], .n = v[1], .k = v[2], .a_transposed = layout[0] == 't', .b_transposed = layout[1] == 't'},
          layout, dtype, options.bench));
    }
  });
  print_records(records, options.bench.format, {"device", "m", "n", "k", "layout", "dtype", "variant", "gflops"});
}

}  // namespace surtsey::experiments::commands
