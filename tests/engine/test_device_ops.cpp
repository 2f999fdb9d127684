// The op suite on the device: every row of the op table on every sample, as it stands, fused into its surroundings and
// differentiated, in every variant that the device can run, against the double interpreter.
#include "graph/compile.h"
#include "graph/op.h"
#include "tests/support/device_suite.h"

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

void run_suite(engine::Device& device, const Variant& variant) {
  for (const OpDef& row : op_table()) {
    if (row.samples.empty()) continue;
    const auto [program, state, cases] = experiments::op_suite(row);
    State scratch = state;
    const auto reference = interpret(program, scratch);
    std::map<std::string, HostTensor> results;
    INFO(variant.name << " " << row.name);
    REQUIRE_NOTHROW(results = run_on_device(device, variant.target, program, state));
    for (const auto& [name, expected] : reference) {
      INFO(cases.at(name).text);
      CHECK(compare(results.at(name), expected, cases.at(name).tolerance) == "");
    }
  }
}

// The same elements, through a product with 1: what comes before it feeds a matmul, which is what is stored in 16 bits.
Value through_matmul(const Value& value) {
  const Value one = value.graph->parameter("one", {DType::f32, {1, 1}});
  return reshape(matmul(reshape(value, {-1, 1}), one), value.shape());
}

// Half the distance of neighbours, relative.
double roundoff(DType dtype) { return dtype == DType::f16 ? 0x1p-11 : 0x1p-8; }

// Under 16-bit storage a value may round to the other neighbour, and kernels go on with what they have not rounded. So
// beyond what f32 is allowed the device may be off by one rounding of the result and by as much as rounding moves any
// element of this output.
void run_narrow_suite(engine::Device& device, const Variant& variant, DType storage) {
  size_t rounded = 0;
  for (const OpDef& row : op_table()) {
    if (row.samples.empty()) continue;
    auto [program, state, cases] = experiments::op_suite(row);
    state["one"] = HostTensor({DType::f32, {1, 1}}, {1});
    for (auto& [name, value] : program.outputs)
      if (value.dtype() == DType::f32) value = through_matmul(value);
    const CompileOptions compile{.storage = storage};
    State scratch = state, exact_scratch = state;
    const auto reference = interpret(as_stored(graph::compile(program, variant.target, compile)), scratch);
    const auto exact = interpret(program, exact_scratch);
    std::map<std::string, HostTensor> results;
    INFO(variant.name << " " << row.name << " " << name(storage));
    REQUIRE_NOTHROW(results = run_compiled(device, variant.target, program, state, compile));
    for (const auto& [name, expected] : reference) {
      INFO(cases.at(name).text);
      double moved = 0;
      for (size_t i = 0; i < expected.values.size(); ++i) {
        const double by = std::abs(expected.values[i] - exact.at(name).values[i]);
        if (std::isfinite(by)) moved = std::max(moved, by);
      }
      rounded += moved > 0;
      Tolerance tolerance = cases.at(name).tolerance;
      tolerance.absolute += 2 * moved;
      tolerance.relative += 2 * roundoff(storage);
      CHECK(compare(results.at(name), expected, tolerance) == "");
    }
  }
  CHECK(rounded > 100);
}

}  // namespace

TEST_CASE("every op on every sample on the device", "[device][lane][ops]") {
  SURTSEY_NEED_DEVICE();
  run_suite(device, variants(device).front());
}

TEST_CASE("every op in every other variant", "[device][ops]") {
  SURTSEY_NEED_DEVICE();
  const auto list = variants(device);
  for (size_t i = 1; i < list.size(); ++i) DYNAMIC_SECTION(list[i].name) {
      run_suite(device, list[i]);
    }
}

TEST_CASE("every op under 16-bit storage", "[device][ops][precision]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("the device has no 16-bit storage");
  // Unfused, every value between two ops is stored; as it is fused by default, few are, and matmuls read them.
  const auto list = variants(device);
  const Variant& unfused =
      *std::find_if(list.begin(), list.end(), [](const Variant& v) { return v.name == "unfused"; });
  SECTION("f16 fused") { run_narrow_suite(device, list.front(), DType::f16); }
  SECTION("f16 unfused") { run_narrow_suite(device, unfused, DType::f16); }
  SECTION("bf16 unfused") { run_narrow_suite(device, unfused, DType::bf16); }
}

// Sums over the inner axis of a product are computed with it: over rows and columns, in tiles that lie along either,
// odd ones, batches.
Program sums_beside_products(State& state) {
  Program program{std::make_shared<Graph>(), {}};
  Graph& g = *program.graph;
  struct Shapes {
    int64_t batch, m, n, k;
  };
  uint32_t seed = 0;
  for (const auto& [batch, m, n, k] : {Shapes{1, 32, 128, 70}, Shapes{1, 128, 32, 515}, Shapes{3, 17, 9, 33},
                                       Shapes{2, 5, 70, 2}, Shapes{2, 70, 5, 7}}) {
    const auto operand = [&](const char* side, int64_t extent) {
      const std::string name = fmt::format("{}{}", side, ++seed);
      const Value x = g.parameter(name, {DType::f32, {batch, k, extent}});
      state[name] = HostTensor::random(x.type(), -1, 1, seed);
      state[name].round_to_storage();
      return x;
    };
    const Value a = operand("a", m), b = operand("b", n);
    program.outputs.emplace_back(fmt::format("product {}x{}x{}x{}", batch, m, n, k), matmul(transpose(a), b));
    program.outputs.emplace_back(fmt::format("rows {}x{}x{}x{}", batch, m, n, k), sum(a, {1}));
    program.outputs.emplace_back(fmt::format("columns {}x{}x{}x{}", batch, m, n, k), sum(b, {1}, false));
  }
  return program;
}

TEST_CASE("sums beside products, in every variant", "[device][lane][ops]") {
  SURTSEY_NEED_DEVICE();
  State state;
  const Program program = sums_beside_products(state);
  State scratch = state;
  const auto reference = interpret(program, scratch);
  for (const Variant& variant : variants(device)) {
    INFO(variant.name);
    // A product with both sums binds five tensors.
    const size_t fused = variant.target.max_bindings() >= 5 ? 5 : 10;
    CHECK(compile(program, variant.target).dispatches.size() == (variant.target.fusion ? fused : 15));
    const auto results = run_on_device(device, variant.target, program, state);
    for (const auto& [name, expected] : reference) {
      INFO(name);
      CHECK(compare(results.at(name), expected, {2e-4, 1e-5}) == "");
    }
  }
}

TEST_CASE("a product whose inner axis is cut gives the same sums, and the same bits every time", "[device]") {
  SURTSEY_NEED_DEVICE();
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  // A weight gradient and its bias gradient, and what follows them.
  const Value x = graph.parameter("x", {DType::f32, {2048, 33}}), g = graph.parameter("g", {DType::f32, {2048, 20}});
  program.outputs = {{"weight", matmul(transpose(x), g) * 0.5}, {"bias", sum(g, {0}, false)}};
  State state;
  for (const auto& [name, value] : graph.parameters())
    state[name] = HostTensor::random(value.type(), -1, 1, uint32_t(name[0]));
  Target target = device.target();
  target.matmul = MatmulVariant::shared_tile;
  int64_t parts = 1;
  for (const Kernel& kernel : graph::compile(program, target).kernels)
    if (kernel.archetype == Archetype::matmul) parts = element_count(kernel.space) / (33 * 20);
  CHECK(parts == 8);
  State scratch = state;
  const auto reference = interpret(program, scratch);
  const auto results = run_on_device(device, target, program, state),
             again = run_on_device(device, target, program, state);
  for (const auto& [name, expected] : reference) {
    INFO(name);
    CHECK(compare(results.at(name), expected, {1e-4, 1e-5}) == "");
    CHECK(results.at(name).values == again.at(name).values);
  }
}
