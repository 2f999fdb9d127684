// A green run under validation proves nothing unless validation reports a defect that is planted.
#include "support_device.h"

using namespace surtsey;
using namespace surtsey::engine;
using namespace surtsey::tests;

namespace {

constexpr uint32_t kCount = 500;

std::optional<Device> open_validated() {
  try {
    return Device::open({.validation = true, .addressing = graph::Addressing::descriptor, .quiet = true});
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
    session.add_plan("counting", made.plan, made.shaders);
    session.allocate();
    session.run("counting", 20);
    session.profile("counting");
    (void)session.read_floats("total");
  }
  return device.validation_messages();
}

}  // namespace

TEST_CASE("validation reports a missing barrier and nothing else", "[engine][canary]") {
  std::optional<Device> device = open_validated();
  if (!device) SKIP("no device or no validation layer");
  HandMade made = counting_plan(device->target(), kCount);

  SECTION("a correct plan is silent") {
    CHECK(messages_of(*device, made) == std::vector<std::string>{});
    CHECK(messages_of(*device, made, 1) == std::vector<std::string>{});
  }
  SECTION("a planted read after write is reported") {
    made.plan.barriers = {2, 4};  // `twice` reads what `increment` writes
    std::vector<std::string> messages = messages_of(*device, made);
    REQUIRE(!messages.empty());
    CHECK(messages.front().find("SYNC-HAZARD-READ-AFTER-WRITE") != std::string::npos);
  }
  SECTION("a binding that is out of range is reported") {
    // Core validation: the device is told a feature-less lie about the offset alignment.
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
