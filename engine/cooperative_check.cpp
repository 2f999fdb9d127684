#include "engine/cooperative_check.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/session.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/interpret.h"
#include "shaders/emit.h"

namespace surtsey::engine {
namespace {

using namespace graph;

constexpr double kTolerance = 5e-4;
constexpr int kRounds = 5;

Program product(int64_t m, int64_t n, int64_t k, bool a_transposed, bool b_transposed) {
  Program program{std::make_shared<Graph>(), {}};
  const auto operand = [&](const char* name, int64_t rows, int64_t columns, bool transposed) {
    const Shape stored = transposed ? Shape{columns, rows} : Shape{rows, columns};
    const Value x = program.graph->parameter(name, {DType::f16, stored});
    return cast(transposed ? transpose(x) : x, DType::f32);
  };
  const Value a = operand("a", m, k, a_transposed), b = operand("b", k, n, b_transposed);
  program.outputs = {{"c", matmul(a, b)}};
  return program;
}

State operands(const Program& program) {
  State state;
  uint32_t seed = 0;
  for (const auto& [name, value] : program.graph->parameters()) {
    state[name] = HostTensor::random(value.type(), -1, 1, ++seed);
    state[name].round_to_storage();
  }
  return state;
}

std::string wrong_product(Device& device, const Target& target, const CooperativeCheckOptions& options) {
  struct Case {
    int64_t m, n, k;
    bool a_transposed, b_transposed;
  };
  std::vector<Case> cases;
  // Operands that are loaded in runs of 16 bytes, and such that cannot be.
  for (const int64_t odd : {0, 1})
    for (const bool a_transposed : {false, true})
      for (const bool b_transposed : {false, true})
        cases.push_back({72 - odd, 56 - odd, 104 - odd, a_transposed, b_transposed});
  for (const auto& [m, n, k, a_transposed, b_transposed] : cases) {
    const std::string layout =
        fmt::format("{}{} {}x{}x{}", a_transposed ? 't' : 'n', b_transposed ? 't' : 'n', m, n, k);
    const Program program = product(m, n, k, a_transposed, b_transposed);
    const Plan plan = compile(program, target, {.name = "product"});
    std::vector<shaders::Shader> shaders = shaders::emit(plan, target);
    if (shaders.size() != 1 || shaders[0].variant != "cooperative")
      return fmt::format("no tile of matrices of {}x{}x{} fits the device", target.cooperative.m, target.cooperative.n,
                         target.cooperative.k);
    if (options.alter) options.alter(shaders[0]);
    Session session(device, {.target = target, .quiet = true});
    session.add_plan("product", plan, std::move(shaders));
    session.allocate();
    State state = operands(program);
    for (const auto& [name, value] : state) session.write(name, value);
    session.run("product");
    const std::vector<float> result = session.read_output_floats("product", "c");
    const std::vector<double> expected = interpret(program, state).at("c").values;
    for (size_t i = 0; i < expected.size(); ++i)
      if (!(std::abs(double(result[i]) - expected[i]) <= kTolerance))
        return fmt::format("a product ({}) has {} at element {} instead of {:.6f}", layout, result[i], i, expected[i]);
  }
  return {};
}

double median_ns(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

std::string slow_product(Device& device, const Target& cooperative) {
  constexpr int64_t kExtent = 1024;
  Target plain = cooperative;
  plain.matmul = MatmulVariant::shared_tile;
  const Program program = product(kExtent, kExtent, kExtent, false, true);
  const State state = operands(program);
  std::vector<std::unique_ptr<Session>> sessions;
  for (const Target& target : {cooperative, plain}) {
    sessions.push_back(std::make_unique<Session>(device, SessionOptions{.target = target, .quiet = true}));
    sessions.back()->add_program("product", program);
    sessions.back()->allocate();
    for (const auto& [name, value] : state) sessions.back()->write(name, value);
    sessions.back()->run("product");
  }
  std::vector<double> samples[2];
  for (int round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < 2; ++i) {
      const auto start = std::chrono::steady_clock::now();
      sessions[i]->run("product", 4);
      const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
      samples[i].push_back(spent.count());
    }
  const double ratio = median_ns(samples[0]) / median_ns(samples[1]);
  return ratio <= 1 ? "" : fmt::format("products take {:.2f} times as long with them", ratio);
}

}  // namespace

std::string cooperative_fault(Device& device, const Target& target, const CooperativeCheckOptions& options) {
  Target cooperative = target;
  cooperative.matmul = MatmulVariant::cooperative;
  try {
    const std::string wrong = wrong_product(device, cooperative, options);
    return !wrong.empty() || !options.compare_speed ? wrong : slow_product(device, cooperative);
  } catch (const DeviceError& error) {
    if (error.lost()) throw;
    return error.what();
  } catch (const InternalError& error) {
    // A compiler without the extension; its message goes on with the kernel's text.
    const std::string text = error.what();
    return text.substr(0, text.find('\n'));
  }
}

}  // namespace surtsey::engine
