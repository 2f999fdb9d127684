// The op suite on the device: every row of the op table on every sample, as it stands, fused into its surroundings and differentiated, in
// every variant that the device can run, against the double interpreter.
#include "tests/device_suite.h"
#include "graph/autodiff.h"
#include "graph/op.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

struct Case {
  std::string text;  // reproducible: the row and its operand types
  Tolerance tolerance;
};

// Sums of n terms of size s lose at most about s * eps * sqrt(n) in f32; the factor covers unlucky orders.
double reduction_slack(const OpDef& row, const Sample& sample) {
  if (sample.inputs.empty()) return 0;
  double terms = 1;
  if (row.family == Family::reduce) terms = double(element_count(sample.inputs[0].shape));
  if (row.family == Family::matmul) terms = double(sample.inputs[0].shape.back());
  if (row.op == Op::scatter_add) terms = double(element_count(sample.inputs[1].shape));
  const double size = std::max(std::abs(sample.low), std::abs(sample.high));
  return 4 * 6e-8 * std::sqrt(terms) * size * (row.family == Family::matmul ? size : 1);
}

// All samples of one row in one program: three outputs a sample.
Program suite_program(const OpDef& row, std::map<std::string, Case>& cases, State& state) {
  Program program;
  program.graph = std::make_shared<Graph>();
  Graph& graph = *program.graph;
  for (size_t s = 0; s < row.samples.size(); ++s) {
    const Sample& sample = row.samples[s];
    std::vector<Value> operands, shifted, wrt;
    std::string text = row.name;
    for (size_t i = 0; i < sample.inputs.size(); ++i) {
      const std::string name = fmt::format("s{}.x{}", s, i);
      const auto [low, high] = sample.ranges.empty() ? std::pair(sample.low, sample.high) : sample.ranges[i];
      state[name] = HostTensor::random(sample.inputs[i], low, high, uint32_t(100 * s + i));
      state[name].round_to_storage();
      const Value x = graph.parameter(name, sample.inputs[i]);
      operands.push_back(x);
      const double middle = (low + high) / 2;
      shifted.push_back(x.dtype() == DType::f32 ? (x - middle) * 0.75 + middle : x);
      if (x.dtype() == DType::f32) wrt.push_back(x);
      text += " " + to_string(sample.inputs[i]);
    }
    const double slack = reduction_slack(row, sample);
    const Tolerance exact{row.absolute + (row.absolute + row.relative > 0 ? slack : 0), row.relative};
    const auto output = [&](const char* kind, const Value& value, Tolerance tolerance) {
      const std::string name = fmt::format("s{}.{}", s, kind);
      program.outputs.emplace_back(name, value);
      cases[name] = {text + ", " + kind, tolerance};
    };
    const Value plain = graph.add(row.op, operands, sample.attr);
    output("plain", plain, exact);
    const Value inner = graph.add(row.op, shifted, sample.attr);
    if (inner.dtype() != DType::f32 || wrt.empty()) continue;
    const std::string coefficient_name = fmt::format("s{}.coefficient", s);
    state[coefficient_name] = HostTensor::random(inner.type(), 0.5, 1.5, uint32_t(7 * s + 3));
    state[coefficient_name].round_to_storage();
    const Value coefficient = graph.parameter(coefficient_name, inner.type());
    // Operands are shifted in f32 on the device: the op sees an argument that is off by one rounding.
    const Tolerance loose{1e-5 + 4 * slack + 4 * row.absolute, 1e-5 + 4 * row.relative};
    output("fused", inner * coefficient + coefficient, loose);
    if (row.gradient == nullptr) continue;
    std::vector<int64_t> axes;
    for (int64_t d = 0; d < inner.rank(); ++d) axes.push_back(d);
    const std::vector<Value> gradients = differentiate(sum(inner * coefficient, axes, false), wrt);
    for (size_t i = 0; i < gradients.size(); ++i) output(fmt::format("gradient{}", i).c_str(), gradients[i], {1e-4 + 4 * slack, 1e-4});
  }
  return program;
}

void run_suite(engine::Device& device, const Variant& variant) {
  for (const OpDef& row : op_table()) {
    if (row.samples.empty()) continue;
    std::map<std::string, Case> cases;
    State state;
    const Program program = suite_program(row, cases, state);
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

}  // namespace

TEST_CASE("every op on every sample on the device", "[device][lane][ops]") {
  SURTSEY_NEED_DEVICE();
  run_suite(device, variants(device).front());
}

TEST_CASE("every op in every other variant", "[device][ops]") {
  SURTSEY_NEED_DEVICE();
  const auto list = variants(device);
  for (size_t i = 1; i < list.size(); ++i)
    DYNAMIC_SECTION(list[i].name) { run_suite(device, list[i]); }
}
