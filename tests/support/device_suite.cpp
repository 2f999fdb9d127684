#include "tests/support/device_suite.h"

#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

#include "graph/rewrite.h"

#include <memory>

namespace surtsey::tests {

using namespace graph;

namespace {

std::unique_ptr<engine::Device>& device_slot() {
  static std::unique_ptr<engine::Device> device;
  return device;
}

// Closes the device when the last test has run: at exit the driver may be gone already (SwiftShader crashes then). Not
// after a fatal signal: Catch2 reports that from inside the handler, where the driver's locks may be held and closing
// would hang.
class CloseDevice : public Catch::EventListenerBase {
 public:
  using Catch::EventListenerBase::EventListenerBase;
  void fatalErrorEncountered(Catch::StringRef) override { static_cast<void>(device_slot().release()); }
  void testRunEnded(const Catch::TestRunStats&) override { device_slot().reset(); }
};

}  // namespace

CATCH_REGISTER_LISTENER(CloseDevice)

engine::Device* suite_device() {
  static bool tried = false;
  if (!tried) {
    tried = true;
    try {
      device_slot() = std::make_unique<engine::Device>(engine::Device::open());
    } catch (const engine::DeviceError& error) {
      fmt::print(stderr, "no device: {}\n", error.what());
    }
  }
  return device_slot().get();
}

std::string compare(const HostTensor& device, const HostTensor& reference, Tolerance tolerance) {
  return experiments::deviation(device, reference, tolerance).text;
}

std::map<std::string, HostTensor> run_compiled(engine::Device& device, const Target& target, const Program& program,
                                               const State& state, const CompileOptions& compile) {
  engine::Session session(device, {.target = target, .poison = true, .quiet = true});
  const engine::SessionProgram test = session.add_program("test", program, compile);
  session.allocate();
  for (const auto& [name, value] : state)
    if (session.has_state(name)) session.write(name, value);
  test.run();
  for (const std::string& place : session.overruns()) throw InternalError("the device wrote " + place);
  std::map<std::string, HostTensor> results;
  for (const auto& [name, value] : program.outputs) results[name] = test.read(name);
  return results;
}

Program as_stored(const Plan& plan) {
  const Graph& graph = *plan.program.graph;
  const auto narrow = [](const View& view) { return view.dtype == DType::f16 || view.dtype == DType::bf16; };
  const auto is_weight = [&](Value value) {
    while (definition(graph.node(value).op).family == Family::movement && graph.node(value).op != Op::concat)
      value = graph.node(value).inputs[0];
    return graph.node(value).op == Op::parameter;
  };
  std::map<uint32_t, DType> stored;
  std::map<std::pair<uint32_t, size_t>, DType> operands;  // of matmuls: weights that are copies
  for (const Kernel& kernel : plan.kernels) {
    for (const KernelOperand& output : kernel.outputs)
      if (narrow(output.view) && !is_weight(output.value)) stored[output.value.node] = output.view.dtype;
    for (const KernelOperand& input : kernel.inputs) {
      if (narrow(input.view) && !is_weight(input.value) && graph.node(input.value).op == Op::concat)
        stored[input.value.node] = input.view.dtype;
      if (!kernel.anchor || !narrow(input.view) || !is_weight(input.value)) continue;
      const auto& inputs = graph.node(kernel.anchor).inputs;
      for (size_t i = 0; i < inputs.size(); ++i)
        if (input.value == inputs[i]) operands[{kernel.anchor.node, i}] = input.view.dtype;
    }
  }
  const auto round = [](Value value, DType dtype) { return cast(cast(value, dtype), DType::f32); };
  return rewrite(plan.program, [&](Graph& to, const Node& node, std::span<const Value> inputs) -> std::vector<Value> {
    const auto n = uint32_t(&node - &graph.node(0));
    std::vector<Value> read(inputs.begin(), inputs.end());
    for (size_t i = 0; i < read.size(); ++i)
      if (const auto found = operands.find({n, i}); found != operands.end()) read[i] = round(read[i], found->second);
    const Value value = to.add(node.op, std::move(read), node.attr);
    const auto found = stored.find(n);
    return {found != stored.end() && value.dtype() == DType::f32 ? round(value, found->second) : value};
  });
}

double relative_error(const HostTensor& a, const HostTensor& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.values.size(); ++i) {
    difference += (a.values[i] - b.values[i]) * (a.values[i] - b.values[i]);
    norm += b.values[i] * b.values[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace surtsey::tests
