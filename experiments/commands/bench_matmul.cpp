#include "experiments/commands/bench.h"
#include "experiments/tune.h"

#include <algorithm>

namespace surtsey::experiments::commands {
namespace {

using graph::HostTensor;

// A fast wrong kernel is no result.
void check_product(const graph::MatmulShape& shape, const HostTensor& a, const HostTensor& b,
                   const std::vector<float>& result) {
  const std::string wrong = wrong_element(shape, a, b, result);
  ensure(wrong.empty(), "matmul {}x{}x{}: {}", shape.m, shape.n, shape.k, wrong);
}

Record measure(engine::Device& device, const graph::MatmulShape& c, const std::string& layout,
               const BenchOptions& options) {
  engine::Session session(device, session_options(device, options));
  session.add_program("matmul", product_program(c));
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
  record["layout"] = layout;
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
      records.push_back(measure(device,
                                {.m = v[0],
                                 .n = v[1],
                                 .k = v[2],
                                 .a_transposed = layout[0] == 't',
                                 .b_transposed = layout[1] == 't'},
                                layout, options.bench));
    }
  });
  print_records(records, options.bench.format,
                {"device", "m", "n", "k", "layout", "variant", "gflops"});
}

}  // namespace surtsey::experiments::commands
