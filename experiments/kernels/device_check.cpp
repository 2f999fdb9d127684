#include "experiments/kernels/device_check.h"

#include <cmath>
#include <limits>

#include "graph/autodiff.h"
#include "graph/compile.h"
#include "shaders/emit.h"

namespace surtsey::experiments {

using namespace graph;

namespace {

// Sums of n terms of size s lose at most about s * eps * sqrt(n) in f32; the factor covers unlucky
// orders.
double reduction_slack(const OpDef& row, const Sample& sample) {
  if (sample.inputs.empty()) return 0;
  double terms = 1;
  if (row.family == Family::reduce) terms = double(element_count(sample.inputs[0].shape));
  if (row.family == Family::matmul) terms = double(sample.inputs[0].shape.back());
  if (row.op == Op::scatter_add) terms = double(element_count(sample.inputs[1].shape));
  const double size = std::max(std::abs(sample.low), std::abs(sample.high));
  return 4 * 6e-8 * std::sqrt(terms) * size * (row.family == Family::matmul ? size : 1);
}

}  // namespace

std::vector<Variant> variants(const engine::Device& device) {
  const Target base = device.target();
  std::vector<Variant> list{{"default", base}};
  const auto add = [&](std::string name, const auto& change) {
    Target target = base;
    change(target);
    list.push_back({std::move(name), target});
  };
  if (base.matmul_variant() != MatmulVariant::shared_tile)
    add("shared_tile", [](Target& t) { t.matmul = MatmulVariant::shared_tile; });
  if (base.matmul_variant() != MatmulVariant::lane_broadcast && base.subgroup_ballot && base.subgroup_size >= 4)
    add("lane_broadcast", [](Target& t) { t.matmul = MatmulVariant::lane_broadcast; });
  add(base.reduce_variant() == ReduceVariant::lane_per_row ? "workgroup_per_row" : "lane_per_row", [&](Target& t) {
    t.reduce = base.reduce_variant() == ReduceVariant::lane_per_row ? ReduceVariant::workgroup_per_row
                                                                    : ReduceVariant::lane_per_row;
  });
  if (base.attention_variant() != AttentionVariant::expanded)
    add("attention_expanded", [](Target& t) { t.attention = AttentionVariant::expanded; });
  if (base.attention_variant() != AttentionVariant::lane_broadcast && base.can_broadcast())
    add("attention_lane_broadcast", [](Target& t) { t.attention = AttentionVariant::lane_broadcast; });
  // A CPU's driver compiles it for minutes where heads are wider than 4: only
  // test_device_attention.cpp runs it there.
  if (base.attention_variant() != AttentionVariant::shared_tile && !base.cpu)
    add("attention_shared_tile", [](Target& t) { t.attention = AttentionVariant::shared_tile; });
  add("scatter_rows", [](Target& t) { t.scatter = ScatterVariant::rows; });
  if (base.fusion) add("unfused", [](Target& t) { t.fusion = false; });
  if (base.buffer_address)
    add(base.addressing == Addressing::address ? "descriptor" : "address", [&](Target& t) {
      t.addressing = base.addressing == Addressing::address ? Addressing::descriptor : Addressing::address;
    });
  return list;
}

Deviation deviation(const HostTensor& device, const HostTensor& reference, Tolerance tolerance) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (device.type != reference.type)
    return {kInfinity, 0, fmt::format("type {} instead of {}", to_string(device.type), to_string(reference.type))};
  HostTensor rounded = reference;
  rounded.round_to_storage();
  Deviation result;
  for (size_t i = 0; i < reference.values.size(); ++i) {
    const double d = device.values[i], r = rounded.values[i];
    if (d == r || (std::isnan(r) && std::isnan(d))) continue;
    const double difference = std::abs(d - r);
    const double allowed = tolerance.absolute + tolerance.relative * std::abs(r);
    const bool number = std::isfinite(difference);
    if (number) result.absolute = std::max(result.absolute, difference);
    result.share = std::max(result.share, number && allowed > 0 ? difference / allowed : kInfinity);
    if ((number && difference <= allowed) || !result.text.empty()) continue;
    result.text = fmt::format("element {} of {}: {:.9g} instead of {:.9g} (difference {:.3g}, allowed {:.3g})", i,
                              to_string(reference.type), d, r, d - r, allowed);
  }
  return result;
}

engine::SessionProgram add_program(engine::Session& session, const std::string& name, const Program& program,
                                   const AlterShaders& alter) {
  if (!alter) return session.add_program(name, program);
  Plan plan = compile(program, session.target(), {.name = name});
  std::vector<shaders::Shader> shaders = shaders::emit(plan, session.target());
  alter(shaders);
  return session.add_plan(name, std::move(plan), std::move(shaders));
}

std::map<std::string, HostTensor> run_on_device(engine::Device& device, const Target& target, const Program& program,
                                                const State& state, uint32_t steps, const AlterShaders& alter) {
  engine::SessionOptions options;
  options.target = target;
  options.quiet = true;
  options.poison = true;
  engine::Session session(device, options);
  const engine::SessionProgram test = add_program(session, "test", program, alter);
  session.allocate();
  for (const auto& [name, value] : state)
    if (session.has_state(name)) session.write(name, value);
  test.run(steps);
  for (const std::string& place : session.overruns()) throw InternalError("the device wrote " + place);
  for (const std::string& message : device.validation_messages()) throw InternalError("validation: " + message);
  std::map<std::string, HostTensor> results;
  for (const auto& [name, value] : program.outputs) results[name] = test.read(name);
  for (const Assignment& assignment : program.graph->assignments())
    for (const auto& [name, value] : program.graph->parameters())
      if (value == assignment.parameter) results["state " + name] = session.read(name);
  return results;
}

OpSuite op_suite(const OpDef& row) {
  OpSuite suite;
  auto& [program, state, cases] = suite;
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
    // Operands are shifted in f32 on the device: the op sees an argument that is off by one
    // rounding.
    const Tolerance loose{1e-5 + 4 * slack + 4 * row.absolute, 1e-5 + 4 * row.relative};
    output("fused", inner * coefficient + coefficient, loose);
    if (row.gradient == nullptr) continue;
    std::vector<int64_t> axes;
    for (int64_t d = 0; d < inner.rank(); ++d) axes.push_back(d);
    // A derivative is of functions as exact as the op, as the cosine is to the sine, for which
    // Vulkan grants 2^-11; the coefficient is below 2.
    const std::vector<Value> gradients = differentiate(sum(inner * coefficient, axes, false), wrt);
    for (size_t i = 0; i < gradients.size(); ++i)
      output(fmt::format("gradient{}", i).c_str(), gradients[i],
             {1e-4 + 4 * slack + 2 * row.absolute, 1e-4 + 2 * row.relative});
  }
  return suite;
}

}  // namespace surtsey::experiments
