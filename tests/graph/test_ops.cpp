// Every row of the op table on every sample: the type rule, the meaning, and the gradient in
// mid-graph.
#include "graph/autodiff.h"
#include "graph/interpret.h"
#include "graph/ops/glsl_helpers.h"
#include "graph/random.h"
#include "graph/text.h"
#include "graph/verify.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <set>

using namespace surtsey;
using namespace surtsey::graph;

namespace {

std::string case_name(const OpDef& row, const Sample& sample) {
  std::string text = row.name;
  for (const Type& type : sample.inputs) text += " " + to_string(type);
  return text;
}

std::pair<double, double> range_of(const Sample& sample, size_t operand) {
  return sample.ranges.empty() ? std::pair(sample.low, sample.high) : sample.ranges.at(operand);
}

State draw_operands(const Sample& sample) {
  State state;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const auto [low, high] = range_of(sample, i);
    state["x" + std::to_string(i)] = HostTensor::random(sample.inputs[i], low, high, static_cast<uint32_t>(17 + i));
  }
  return state;
}

using GradientRule = std::vector<Value> (*)(std::span<const Value>, const Attr&, Value, Value);

// The largest error of d loss / d x against central differences, relative to the largest
// derivative, where loss = sum(coefficient * op(h(x))), h is affine with slope 0.7 about the middle
// of the range, and coefficient is random. Neither the gradient that arrives at the op nor the one
// that leaves it is 1, so a rule that ignores either fails. `rule` replaces that of the table.
double gradient_error(const OpDef& row, const Sample& sample, GradientRule rule = nullptr) {
  constexpr double kSlope = 0.7;
  Graph graph;
  State state = draw_operands(sample);
  std::vector<Value> parameters, wrt, operands;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const Value x = graph.parameter("x" + std::to_string(i), sample.inputs[i]);
    parameters.push_back(x);
    if (x.dtype() != DType::f32) {
      operands.push_back(x);
      continue;
    }
    const auto [low, high] = range_of(sample, i);
    const double middle = (low + high) / 2;
    operands.push_back((x - middle) * kSlope + middle);
    wrt.push_back(x);
  }
  const Value out = graph.add(row.op, operands, sample.attr);
  const Value coefficient = graph.parameter("coefficient", out.type());
  state["coefficient"] = HostTensor::random(out.type(), 0.5, 1.5, 99);
  std::vector<int64_t> axes(static_cast<size_t>(out.rank()));
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int64_t>(i);
  const Value loss = sum(out * coefficient, axes, false);

  std::vector<Value> gradients;
  if (rule == nullptr) {
    gradients = differentiate(loss, wrt);
  } else {
    const std::vector<Value> found = rule(operands, sample.attr, out, coefficient);
    for (size_t i = 0; i < operands.size(); ++i) {
      if (parameters[i].dtype() == DType::f32) gradients.push_back(found[i] * kSlope);
    }
  }
  verify(graph);
  const std::vector<HostTensor> analytic = evaluate(graph, gradients, state);
  const auto loss_at = [&](const std::string& name, size_t element, double value) {
    const double kept = std::exchange(state[name].values[element], value);
    const double result = evaluate(graph, std::span(&loss, 1), state)[0].values[0];
    state[name].values[element] = kept;
    return result;
  };
  double largest = 0;
  double error = 0;
  for (size_t w = 0; w < wrt.size(); ++w) {
    const std::string name = std::get<LeafAttr>(graph.node(wrt[w]).attr).name;
    const size_t count = analytic[w].values.size();
    // A few elements of big tensors, spread out and at both ends.
    const size_t checks = std::min<size_t>(count, 24);
    for (size_t i = 0; i < checks; ++i) {
      const size_t element = checks == 1 ? 0 : i * (count - 1) / (checks - 1);
      const double x = state[name].values[element];
      const double h = 1e-5;
      const double numeric = (loss_at(name, element, x + h) - loss_at(name, element, x - h)) / (2 * h);
      largest = std::max({largest, std::fabs(numeric), std::fabs(analytic[w].values[element])});
      error = std::max(error, std::fabs(numeric - analytic[w].values[element]));
    }
  }
  return largest == 0 ? 0 : error / largest;
}

bool is_differentiable(const OpDef& row, const Sample& sample, const Type& result) {
  if (row.gradient == nullptr || result.dtype != DType::f32) return false;
  for (const Type& type : sample.inputs) {
    if (type.dtype == DType::f32) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("the op table is complete and says everything about each op", "[ops]") {
  std::set<std::string> names;
  for (const OpDef& row : op_table()) {
    INFO(row.name);
    CHECK(names.insert(row.name).second);
    CHECK(find_op(row.name) == &row);
    CHECK(std::string(row.doc).size() >= 2);
    CHECK(row.infer != nullptr);
    if (row.family == Family::elementwise) {
      CHECK(row.glsl != nullptr);
      CHECK((row.scalar != nullptr) != (row.interpret != nullptr));
      for (int operand = 0; operand < row.arity; ++operand) {
        CHECK(std::string(row.glsl).find("$" + std::to_string(operand)) != std::string::npos);
      }
    }
    CHECK(row.calls_helpers == (row.glsl != nullptr && std::string(row.glsl).find("surtsey_") != std::string::npos));
    if (row.family == Family::reduce) {
      CHECK(row.glsl != nullptr);
      CHECK(row.identity != nullptr);
    }
    const bool is_value = row.family != Family::state && row.family != Family::region && row.op != Op::parameter;
    if (is_value) CHECK(row.samples.size() >= 3);
  }
  CHECK(find_op("softmax") == nullptr);
}

TEST_CASE("every sample runs and has finite values of the inferred type", "[ops]") {
  for (const OpDef& row : op_table()) {
    for (const Sample& sample : row.samples) {
      INFO(case_name(row, sample));
      Graph graph;
      const State state = draw_operands(sample);
      std::vector<Value> operands;
      for (size_t i = 0; i < sample.inputs.size(); ++i) {
        operands.push_back(graph.parameter("x" + std::to_string(i), sample.inputs[i]));
      }
      const Value out = graph.add(row.op, operands, sample.attr);
      verify(graph);
      const HostTensor result = evaluate(graph, std::span(&out, 1), state)[0];
      CHECK(result.type == out.type());
      for (const double value : result.values) REQUIRE(std::isfinite(value));
      // What a device stores must survive the trip; the interpreter keeps doubles, so floats are
      // rounded first.
      HostTensor rounded = result;
      rounded.round_to_storage();
      CHECK(HostTensor::from_bytes(rounded.type, rounded.to_bytes()).values == rounded.values);
    }
  }
}

TEST_CASE("every gradient agrees with central differences in mid-graph", "[ops]") {
  int checked = 0;
  for (const OpDef& row : op_table()) {
    for (const Sample& sample : row.samples) {
      const Type result = row.infer(sample.inputs, sample.attr).at(0);
      if (!is_differentiable(row, sample, result)) continue;
      INFO(case_name(row, sample));
      CHECK(gradient_error(row, sample) < 1e-6);
      ++checked;
    }
  }
  CHECK(checked > 100);
}

TEST_CASE("the gradient check catches wrong rules", "[ops]") {
  const OpDef& exp_row = definition(Op::exp);
  const GradientRule ignores_incoming = [](std::span<const Value>, const Attr&, Value out,
                                           Value) -> std::vector<Value> { return {out}; };
  CHECK(gradient_error(exp_row, exp_row.samples[0], ignores_incoming) > 1e-2);
  CHECK(gradient_error(exp_row, exp_row.samples[0], exp_row.gradient) < 1e-6);

  const OpDef& mul_row = definition(Op::mul);
  const GradientRule swapped = [](std::span<const Value> in, const Attr&, Value, Value g) -> std::vector<Value> {
    return {g * in[0], g * in[1]};
  };
  CHECK(gradient_error(mul_row, mul_row.samples[1], swapped) > 1e-2);

  const OpDef& sum_row = definition(Op::sum);
  const GradientRule ones = [](std::span<const Value> in, const Attr&, Value, Value) -> std::vector<Value> {
    return {constant_like(in[0], 1)};
  };
  CHECK(gradient_error(sum_row, sum_row.samples[1], ones) > 1e-2);
}

TEST_CASE("gradients flow through several uses, and stop where there is no path", "[autodiff]") {
  Graph graph;
  const Value x = graph.parameter("x", {DType::f32, {3}});
  const Value unused = graph.parameter("unused", {DType::f32, {2}});
  const Value y = x * x;
  const Value loss = sum(y * x + floor(x), {0}, false);
  const std::vector<Value> wrt = {x, y, unused};
  const std::vector<Value> gradients = differentiate(loss, wrt, scalar(graph, 2));
  const State state = {{"x", HostTensor({DType::f32, {3}}, {1, 2, -3})},
                       {"unused", HostTensor({DType::f32, {2}}, {1, 1})}};
  const auto values = evaluate(graph, gradients, state);
  CHECK(values[0].values == std::vector<double>{6, 24, 54});  // 2 * 3 x^2
  CHECK(values[1].values == std::vector<double>{2, 4, -6});   // 2 x
  CHECK(values[2].values == std::vector<double>{0, 0});
}

TEST_CASE("a region without a gradient of its own is differentiated through its body", "[autodiff]") {
  const Type type{DType::f32, {4}};
  auto make_region = [&] {
    auto result = std::make_shared<Region>();
    result->name = "pair";
    result->body = std::make_shared<Graph>();
    const Value a = result->body->parameter("a", type);
    const Value b = result->body->parameter("b", type);
    result->parameters = {a, b};
    result->results = {a * exp(b), a + b};
    return result;
  };
  for (const bool own_gradient : {false, true}) {
    auto pair = make_region();
    if (own_gradient) {
      pair->gradient = [](std::span<const Value> in, std::span<const Value> out,
                          std::span<const Value> g) -> std::vector<Value> {
        const Value sum_part = g[1] ? g[1] : constant_like(g[0], 0);
        return {g[0] * exp(in[1]) + sum_part, g[0] * out[0] + sum_part};
      };
    }
    Graph graph;
    const Value x = graph.parameter("x", type);
    const Value y = x * 0.5;
    const auto results = region(pair, {y, x});
    const Value twice = region(pair, {y, y})[0];
    const Value coefficient = graph.parameter("c", type);
    const Value loss = sum((results[0] * results[1] + twice) * coefficient, {0}, false);
    const Value gradient = differentiate(loss, std::span(&x, 1))[0];
    verify(graph);
    State state = {{"x", HostTensor::random(type, -1, 1, 1)}, {"c", HostTensor::random(type, 0.5, 2, 2)}};
    const auto analytic = evaluate(graph, std::span(&gradient, 1), state)[0].values;
    for (size_t i = 0; i < 4; ++i) {
      const double v = state["x"].values[i];
      const double c = state["c"].values[i];
      // f = (x/2) e^x (3x/2) + (x/2) e^(x/2)
      const double expected = c * ((1.5 * v + 0.75 * v * v) * std::exp(v) + (0.5 + 0.25 * v) * std::exp(v / 2));
      CHECK(analytic[i] == Catch::Approx(expected).epsilon(1e-10));
    }
  }
}

TEST_CASE("the erf of the shaders, in f32, is within 4.5e-7", "[ops]") {
  // The same arithmetic as surtsey_erf; the device suite checks the GLSL itself.
  const auto erf_f32 = [](float x) {
    const float a = std::clamp(x, -3.92f, 3.92f);
    const float s = a * a;
    float p = 1.9921481e-08f;
    for (const float c :
         {-1.9943072e-06f, 1.4898766e-04f, 3.9729183e-03f, 5.1397346e-02f, 2.0611477e-01f, 1.1283787f}) {
      p = p * s + c;
    }
    float q = 1.0241313e-03f;
    for (const float c : {1.4889264e-02f, 1.1756478e-01f, 5.1599324e-01f, 1.0f}) q = q * s + c;
    return std::clamp(a * p / q, -1.0f, 1.0f);
  };
  double worst = 0;
  for (int i = -60000; i <= 60000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    worst = std::max(worst, std::fabs(erf_f32(x) - std::erf(static_cast<double>(x))));
  }
  CHECK(worst < 4.5e-7);
  CHECK(std::string(kGlslHelpers).find("1.9921481e-08") != std::string::npos);
}
