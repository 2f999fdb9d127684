// Whole models against PyTorch: through the double interpreter, where what is wrong is wrong in the
// graph, and on the device, in every variant of its kernels.
#include "tests/support/golden.h"

#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <memory>

using namespace surtsey;
using namespace surtsey::graph;

namespace {

// Runs on a device: a session per program, which keeps the state; the transient arena is poisoned
// before every step.
class DeviceRunner {
 public:
  DeviceRunner(engine::Device& device, const Target& target) : device_(device), target_(target) {}

  std::map<std::string, HostTensor> operator()(const Program& program, State& state) {
    if (program.graph != graph_) open(program, state);
    program_.run();
    std::map<std::string, HostTensor> outputs;
    for (const auto& [name, value] : program.outputs) {
      outputs[name] = program_.read(name);
    }
    for (const std::string& name : session_->state_names()) state[name] = session_->read(name);
    return outputs;
  }

 private:
  void open(const Program& program, const State& state) {
    engine::SessionOptions options = tests::quiet(target_);
    options.poison = true;
    session_ = std::make_unique<engine::Session>(device_, options);
    program_ = session_->add_program("program", program);
    session_->allocate();
    for (const std::string& name : session_->state_names()) session_->write(name, state.at(name));
    graph_ = program.graph;
  }

  engine::Device& device_;
  Target target_;
  std::shared_ptr<Graph> graph_;  // of the session's program; held, so that its address is not reused
  std::unique_ptr<engine::Session> session_;
  engine::SessionProgram program_;
};

void check_on_device(engine::Device& device, const Target& target, const std::string& name) {
  const auto runner = std::make_shared<DeviceRunner>(device, target);
  tests::check_golden(name, [runner](const Program& program, State& state) { return (*runner)(program, state); }, {});
}

}  // namespace

TEST_CASE("the interpreter agrees with PyTorch on whole models") {
  for (const char* name : tests::golden_names()) {
    // The references are stored in f32, and constants are f32 in the graph.
    tests::check_golden(name, interpret, {.tensor = 1e-6, .loss = 1e-6});
  }
}

TEST_CASE("the device agrees with PyTorch on a whole model", "[device][lane]") {
  engine::Device device = tests::open_test_device();
  check_on_device(device, device.target(), "decoder_learned");
  CHECK(device.validation_messages().empty());
}

// Not in every lane: with descriptors lavapipe takes a minute to compile each model's kernels.
TEST_CASE("the device agrees with PyTorch on the other models", "[device]") {
  engine::Device device = tests::open_test_device();
  for (const char* name : tests::golden_names().subspan(1)) {
    check_on_device(device, device.target(), name);
  }
}

TEST_CASE("every kernel variant trains a whole model as PyTorch does", "[device]") {
  engine::Device device = tests::open_test_device();
  const Target usual = device.target();
  const auto check_with = [&](const char* what, auto&& change) {
    INFO(what);
    Target target = usual;
    change(target);
    check_on_device(device, target, "decoder_rotary");
  };
  check_with("descriptors", [](Target& t) { t.addressing = Addressing::descriptor; });
  check_with("no fusion", [](Target& t) { t.fusion = false; });
  // The variants that the device would not choose by itself.
  for (const MatmulVariant variant : {MatmulVariant::shared_tile, MatmulVariant::lane_broadcast}) {
    const bool can = usual.subgroup_ballot && usual.subgroup_size >= 4;
    if (variant == usual.matmul_variant()) continue;
    if (variant == MatmulVariant::lane_broadcast && !can) continue;
    check_with("matmul", [&](Target& t) { t.matmul = variant; });
  }
  for (const ReduceVariant variant : {ReduceVariant::lane_per_row, ReduceVariant::workgroup_per_row}) {
    if (variant == usual.reduce_variant()) continue;
    check_with("reduce", [&](Target& t) { t.reduce = variant; });
  }
}
