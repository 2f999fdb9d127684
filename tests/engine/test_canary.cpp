// A green run under validation proves nothing unless validation reports a defect that is planted.
#include "experiments/train/train_program.h"
#include "graph/compile.h"
#include "tests/support/layered.h"
#include "tests/support/support_device.h"

#include <algorithm>
#include <cctype>
#include <cmath>

using namespace surtsey;
using namespace surtsey::engine;
using namespace surtsey::tests;

namespace {

constexpr uint32_t kCanaryCount = 500;

std::optional<Device> open_validated(graph::Addressing addressing) {
  try {
    return Device::open({.validation = Validation::synchronization, .addressing = addressing, .quiet = true});
  } catch (const std::runtime_error& error) {
    fmt::print(stderr, "SKIPPED for want of validation: {}\n", error.what());
  }
  return std::nullopt;
}

std::vector<std::string> messages_of(Device& device, const HandMade& made, uint32_t segment_dispatches = 0) {
  device.clear_validation_messages();
  SessionOptions options = quiet(device.target());
  options.segment_dispatches = segment_dispatches;
  {
    Session session(device, options);
    const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
    session.allocate();
    counting.run(20);
    counting.run_timed(TimingMode::isolated);
    (void)session.read_floats("total");
  }
  return device.validation_messages();
}

// In the words of layers of 1.3.239 ("access out of bounds", "Index 0x1.") and of 1.4 ("Out of bounds", "Index 1").
bool is_overrun_of_second_dispatch(const std::string& message) {
  const bool out = message.find("ut of bounds") != std::string::npos;
  const size_t at = message.find("Compute Dispatch Index ");
  if (!out || at == std::string::npos) return false;
  const std::string_view index =
      std::string_view(message).substr(at + std::string_view("Compute Dispatch Index ").size());
  return index.starts_with("0x1.") ||
         (index.starts_with("1") && index.size() > 1 && !std::isdigit(static_cast<unsigned char>(index[1])));
}

}  // namespace

TEST_CASE("validation reports a missing barrier and nothing else", "[engine][canary]") {
  std::optional<Device> device = open_validated(graph::Addressing::descriptor);
  if (!device) SKIP("no device or no validation layer");
  HandMade made = counting_plan(device->target(), kCanaryCount);

  SECTION("a correct plan is silent") {
    CHECK(messages_of(*device, made) == std::vector<std::string>{});
    CHECK(messages_of(*device, made, 1) == std::vector<std::string>{});
  }
  SECTION("a planted read after write is reported") {
    made.plan.barriers = {2, 4};  // `twice` reads what `increment` writes
    std::vector<std::string> messages = messages_of(*device, made);
    REQUIRE(!messages.empty());
    CHECK(messages.front().find("SYNC-HAZARD-READ-AFTER-WRITE") != std::string::npos);
    // In our names: the kernel that reads too early, the tensor's memory, the recording.
    for (const char* name : {"[twice]", "[state]", "[counting [0, 4)]"}) {
      CAPTURE(name, messages.front());
      CHECK(messages.front().find(name) != std::string::npos);
    }
  }
  SECTION("a binding at an unaligned offset is reported") {
    // Core validation: the engine is told that offsets need no alignment.
    graph::Target lying = device->target();
    if (lying.storage_offset_alignment <= 4) return;
    lying.storage_offset_alignment = 4;
    made.plan.buffers[0].bytes += 4;
    made.plan.dispatches[0].accesses[0].offset = 4;
    device->clear_validation_messages();
    Session session(*device, quiet(lying));
    session.add_plan("counting", made.plan, made.shaders);
    session.allocate();
    CHECK(!device->validation_messages().empty());
  }
}

// Kernels are checked against whole buffers, which are our arenas: an access that leaves a tensor
// and stays in its arena is for sentinels to find (SessionOptions::poison).
TEST_CASE("GPU-assisted validation reports an overrun and nothing else", "[engine][canary]") {
  const Layered layered("wait_idle=1", kGpuAssisted);
  for (const graph::Addressing addressing : {graph::Addressing::address, graph::Addressing::descriptor}) {
    const bool by_address = addressing == graph::Addressing::address;
    DYNAMIC_SECTION((by_address ? "by address" : "by descriptor")) {
      std::optional<Device> device = open_validated(addressing);
      if (!device) SKIP("no device or no validation layer");
      // Without 64-bit integers the layer checks no addresses: SwiftShader.
      const std::vector<std::string>& on = device->info().features;
      if (by_address && std::find(on.begin(), on.end(), "int64_words") == on.end()) return;
      HandMade made = counting_plan(device->target(), kCanaryCount);
      CHECK(messages_of(*device, made) == std::vector<std::string>{});

      // `twice` reads and writes past the end of the arena.
      constexpr uint32_t kBeyond = 1u << 16;
      for (const char* statement :
           {"i += {0}u; float far = a0[i]; i -= {0}u; a1[i] = far;", "i += {0}u; a1[i] = 2.0; i -= {0}u;"}) {
        CAPTURE(statement);
        HandMade planted = counting_plan(device->target(), kCanaryCount);
        planted.shaders[1] =
            hand_shader("twice", device->target(), 2, kCanaryCount, fmt::format(fmt::runtime(statement), kBeyond));
        const std::vector<std::string> messages = messages_of(*device, planted);
        REQUIRE(!messages.empty());
        for (const std::string& message : messages) {
          CAPTURE(message);
          CHECK(is_overrun_of_second_dispatch(message));
        }
      }
    }
  }
}

namespace {

// A one-layer decoder with its loss, gradient, clipping and AdamW: every kind of kernel of a
// training step.
struct SmallTraining {
  experiments::Model model{experiments::recipe_config(1, 16, 12, 8)};
  experiments::TrainConfig config{.optimizer = experiments::recipe_optimizer(20), .batch_size = 3, .steps = 20};
  graph::Program program = experiments::train_step(model, config, 2);

  void initialise(Session& session) const {
    for (const auto& [name, value] : experiments::initial_train_state(model, config))
      if (session.has_state(name)) session.write(name, value);
    for (const auto& [name, value] : model.constants())
      if (session.has_state(name)) session.write(name, value);
    for (const char* name : {"data.tokens", "data.targets"})
      session.write(name, graph::HostTensor::random(session.state_type(name), 0, 12, 3));
    session.write("data.weights", graph::HostTensor::random(session.state_type("data.weights"), 0, 1, 4));
  }
};

}  // namespace

TEST_CASE("a training run is silent under validation", "[engine][canary]") {
  std::optional<Device> device = open_validated(graph::Addressing::descriptor);
  if (!device) SKIP("no device or no validation layer");
  SmallTraining training;
  {
    Session session(*device, quiet(device->target()));
    const SessionProgram train = session.add_program("train", training.program);
    session.allocate();
    training.initialise(session);
    train.run(3);
    train.run_timed(TimingMode::isolated);
    CHECK(std::isfinite(train.read_floats("loss").at(0)));
    CHECK(session.read_words("step").at(0) == 4);
  }
  CHECK(device->validation_messages() == std::vector<std::string>{});
}

TEST_CASE("without any one of its barriers a training plan is unproven", "[graph][canary]") {
  SmallTraining training;
  for (const char* preset : {"lavapipe", "nvidia", "mobile"}) {
    graph::Plan plan = graph::compile(training.program, graph::target_preset(preset), {.name = "train"});
    REQUIRE(graph::uncovered_hazards(plan).empty());
    REQUIRE(plan.barriers.size() > 10);
    CHECK(plan.barriers.back() == plan.dispatches.size());  // what no validation layer sees: the next replay
    for (size_t i = 0; i < plan.barriers.size(); ++i) {
      graph::Plan planted = plan;
      planted.barriers.erase(planted.barriers.begin() + ptrdiff_t(i));
      INFO(preset << ", barrier before dispatch " << plan.barriers[i]);
      CHECK(!graph::uncovered_hazards(planted).empty());
    }
  }
}
