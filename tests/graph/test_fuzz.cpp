// Random programs: their plans for every kind of device, and their results on this one.
#include "tests/support/device_suite.h"
#include "tests/support/plan_checks.h"
#include "tests/support/random_program.h"

#include "graph/compile.h"
#include "graph/text.h"
#include "shaders/emit.h"
#include "shaders/spirv.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

constexpr uint32_t kFuzzSteps = 2;

// A copy of state that swaps places is the caller's mistake; random programs make it now and then.
bool refused(const std::string& message) { return message.find("[assign]") != std::string::npos; }

double largest_value(const HostTensor& tensor) {
  double most = 0;
  for (const double x : tensor.values)
    if (std::isfinite(x)) most = std::max(most, std::abs(x));
  return most;
}

// How the program's results on the device differ from the interpreter's; empty when they do not.
std::string difference(engine::Device& device, const Target& target, const RandomProgram& random) {
  std::map<std::string, HostTensor> results;
  try {
    results = run_on_device(device, target, random.program, random.state, kFuzzSteps);
  } catch (const std::exception& error) {
    return refused(error.what()) ? "" : error.what();
  }
  State state = random.state;
  std::map<std::string, HostTensor> reference;
  for (uint32_t step = 0; step < kFuzzSteps; ++step) reference = interpret(random.program, state);
  for (const auto& [name, tensor] : state)
    if (results.count("state " + name)) reference["state " + name] = tensor;
  for (const auto& [name, tensor] : reference) {
    const double slack = 2e-4 * (1 + largest_value(tensor));
    const std::string wrong = compare(results.at(name), tensor, {slack, 2e-4});
    if (!wrong.empty()) return name + ": " + wrong;
  }
  return {};
}

void check_seeds(engine::Device& device, const Target& target, uint32_t first, uint32_t count) {
  for (uint32_t seed = first; seed < first + count; ++seed) {
    const RandomProgram random = random_program(seed);
    const std::string wrong = difference(device, target, random);
    INFO("seed " << seed << "\n" << (wrong.empty() ? "" : print(random.program)));
    CHECK(wrong == "");
  }
}

std::vector<Target> plan_targets() {
  std::vector<Target> targets;
  for (const char* preset : {"minimal", "lavapipe", "nvidia"}) {
    targets.push_back(target_preset(preset));
    targets.push_back(target_preset(preset));
    targets.back().fusion = false;
  }
  return targets;
}

}  // namespace

TEST_CASE("random programs: plans for devices that are not here", "[plan][fuzz]") {
  size_t unplanned = 0;
  const uint32_t count = 1500;
  const auto targets = plan_targets();
  for (uint32_t seed = 0; seed < count; ++seed) {
    const RandomProgram random = random_program(seed);
    for (const Target& target : targets) {
      std::string wrong;
      try {
        const Plan plan = compile(random.program, target);
        wrong = Memory(plan).run();  // compile() has verified the rest
        for (const shaders::Shader& shader : shaders::emit(plan, target)) REQUIRE(!shader.glsl.empty());
      } catch (const std::exception& error) {
        if (refused(error.what())) {
          ++unplanned;
          continue;
        }
        wrong = error.what();
      }
      INFO("seed " << seed << " for " << target.name << (target.fusion ? "" : " unfused") << "\n"
                   << (wrong.empty() ? "" : print(random.program)));
      CHECK(wrong == "");
    }
  }
  CHECK(unplanned < count * targets.size() / 20);
}

TEST_CASE("random programs on the device", "[device][fuzz]") {
  SURTSEY_NEED_DEVICE();
  check_seeds(device, device.target(), 0, 200);
}

TEST_CASE("random programs in every other variant", "[device][fuzz]") {
  SURTSEY_NEED_DEVICE();
  const auto list = variants(device);
  for (size_t i = 1; i < list.size(); ++i) DYNAMIC_SECTION(list[i].name) {
      check_seeds(device, list[i].target, uint32_t(1000 * i), 25);
    }
  DYNAMIC_SECTION("four bindings") {
    Target target = device.target();
    target.addressing = Addressing::descriptor;
    target.max_storage_buffers = 4;
    check_seeds(device, target, 9000, 25);
  }
}
