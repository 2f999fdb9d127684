// The engine on whatever device there is, with plans that are written by hand: no compiler in the
// way.
#include "tests/support/support_device.h"

#include "engine/error.h"
#include "engine/executable.h"
#include "shaders/reflect.h"

#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

using namespace surtsey;
using namespace surtsey::engine;
using namespace surtsey::tests;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

constexpr uint32_t kCount = 1000;  // no multiple of the workgroup size

DeviceInfo made_up(uint32_t index, const std::string& name, DeviceType type, int preference = 0, bool usable = true) {
  DeviceInfo info{.index = index,
                  .name = name,
                  .uuid = fmt::format("{:032x}", index + 1),
                  .type = type,
                  .driver = "driver of " + name};
  info.usable = usable;
  info.reason = usable ? "" : "it only compiles";
  info.preference = preference;
  return info;
}

// The value of all elements, or NaN when they differ.
float one_value(const std::vector<float>& values) {
  bool same = std::all_of(values.begin(), values.end(), [&](float v) { return v == values[0]; });
  return same ? values[0] : std::numeric_limits<float>::quiet_NaN();
}

void check_counting(Session& session, float steps) {
  // counter = n; total = sum of 2k for k in 1..n; out = 2n - 1
  CHECK(one_value(session.read_floats("counter")) == steps);
  CHECK(one_value(session.read_floats("total")) == steps * (steps + 1));
  CHECK(one_value(session.program("counting").read_floats("out")) == 2 * steps - 1);
}

}  // namespace

TEST_CASE("the best device that can run is chosen", "[engine]") {
  std::vector<DeviceInfo> devices = {
      made_up(0, "SwiftShader", DeviceType::cpu, -2), made_up(1, "llvmpipe", DeviceType::cpu, 1),
      made_up(2, "Iris", DeviceType::integrated),     made_up(3, "Null card", DeviceType::discrete, 0, false),
      made_up(4, "Big card", DeviceType::discrete),   made_up(5, "Cloud card", DeviceType::virtual_gpu)};
  std::string why;
  CHECK(choose_device(devices, "", why).index == 4);
  CHECK_THAT(why, ContainsSubstring("best of 5"));
  devices.erase(devices.begin() + 4);
  CHECK(choose_device(devices, "", why).index == 2);
  CHECK(choose_device(std::span(devices).first(2), "", why).index == 1);

  CHECK(choose_device(devices, "0", why).index == 0);
  CHECK(choose_device(devices, "swift", why).index == 0);
  CHECK(choose_device(devices, "00000000-0000-0000-0000-000000000002", why).index == 1);
  CHECK_THAT(why, ContainsSubstring("asked for"));
  CHECK_THROWS_MATCHES(choose_device(devices, "radeon", why), UserError,
                       MessageMatches(ContainsSubstring("1 = llvmpipe")));
  CHECK_THROWS_MATCHES(choose_device(devices, "null", why), UserError,
                       MessageMatches(ContainsSubstring("it only compiles")));
  CHECK_THROWS_MATCHES(choose_device({}, "", why), DeviceError,
                       MessageMatches(ContainsSubstring("mesa-vulkan-drivers")));
  std::vector<DeviceInfo> none = {made_up(0, "Null card", DeviceType::discrete, 0, false)};
  CHECK_THROWS_AS(choose_device(none, "", why), DeviceError);
}

TEST_CASE("devices are listed with what decides", "[engine][device]") {
  Device device = open_test_device();
  std::vector<DeviceInfo> devices = list_devices();
  REQUIRE(devices.size() > device.info().index);
  CHECK(devices[device.info().index].uuid == device.info().uuid);
  CHECK_THAT(to_json(devices), ContainsSubstring(device.info().uuid));
  CHECK_THAT(print(device.info()), ContainsSubstring(device.info().name));
  CHECK_THAT(print_paths(device.info()), ContainsSubstring("fusion"));
  for (const char* key : {"subgroup_size", "max_storage_buffers", "heaps", "extensions", "pipeline_cache_uuid",
                          "timestamp_bits", "quirks", "off"})
    CHECK_THAT(to_json(devices), ContainsSubstring(fmt::format("\"{}\":", key)));
  const graph::Target& target = device.target();
  CHECK(target.max_workgroup_invocations >= 128);
  CHECK(target.max_workgroups >= 65535);
  CHECK(target.threads >= 1);
  CHECK(target.max_allocation >= (1u << 28));
  CHECK_THROWS_MATCHES(Device::open({.without = {"colour"}, .quiet = true}), UserError,
                       MessageMatches(ContainsSubstring("f16_storage")));
}

TEST_CASE("every optional path has an off switch", "[engine][device]") {
  const Device whole = open_test_device();
  std::vector<std::string> optional = {"buffer_address", "subgroup_ballot", "f16_storage", "fusion"};
  for (const std::string& name : whole.info().features)
    if (name != "synchronization2" && name != "timeline_semaphore") optional.push_back(name);
  for (const std::string& name : optional) {
    CAPTURE(name);
    const Device device = open_test_device({.without = {name}});
    const auto& on = device.info().features;
    CHECK(std::find(on.begin(), on.end(), name) == on.end());
    CHECK_THAT(print_paths(device.info()), ContainsSubstring(name + " (switched off)"));
    CHECK(device.target().fusion == (name != "fusion"));
  }
  setenv("SURTSEY_WITHOUT", "fusion,f16_storage", 1);
  const Device device = open_test_device({.without = {"subgroup_ballot"}});
  setenv("SURTSEY_WITHOUT", "colour", 1);
  CHECK_THROWS_MATCHES(Device::open({.quiet = true}), UserError, MessageMatches(ContainsSubstring("subgroup_ballot")));
  unsetenv("SURTSEY_WITHOUT");
  CHECK(!device.target().fusion);
  CHECK(!device.target().f16_storage);
  CHECK(!device.target().subgroup_ballot);
  CHECK(whole.target().fusion);
}

TEST_CASE("an optional feature can be switched off", "[engine][device]") {
  Device device = open_test_device({.without = {"buffer_address", "f16_storage", "subgroup_ballot"}});
  CHECK(!device.target().buffer_address);
  CHECK(!device.target().f16_storage);
  CHECK(device.target().subgroup_size == 0);
  CHECK(device.target().addressing == graph::Addressing::descriptor);
  graph::Target wrong = device.target();
  wrong.addressing = graph::Addressing::address;
  CHECK_THROWS_AS(Session(device, quiet(wrong)), UserError);
}

// Runs in a child of its own, with an environment that hides all drivers.
TEST_CASE("child: open a device", "[.no_driver_child]") {
  try {
    Device::open({.quiet = true});
  } catch (const DeviceError& error) {
    std::string message = error.what();
    bool helpful = message.find("apt-get install mesa-vulkan-drivers") != std::string::npos;
    std::_Exit(helpful ? 42 : 43);
  }
  std::_Exit(44);
}

TEST_CASE("no Vulkan driver at all is one clear error", "[engine]") {
  std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const char* files : {"/nonexistent/icd.json", ""}) {
    int status = std::system(fmt::format("VK_DRIVER_FILES='{0}' VK_ICD_FILENAMES='{0}' '{1}' "
                                         "'[.no_driver_child]' >/dev/null 2>&1",
                                         *files ? files : "/dev/null", self)
                                 .c_str());
    CHECK(WEXITSTATUS(status) == 42);
  }
}

TEST_CASE("a recording is replayed in either addressing mode", "[engine][device]") {
  Device device = open_test_device();
  for (graph::Addressing mode : addressing_modes(device)) {
    graph::Target target = device.target();
    target.addressing = mode;
    DYNAMIC_SECTION((mode == graph::Addressing::address ? "address" : "descriptor")) {
      HandMade made = counting_plan(target, kCount);
      Session session(device, quiet(target));
      const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
      session.allocate();
      CHECK(one_value(session.read_floats("counter")) == 0);
      counting.run();
      check_counting(session, 1);
      counting.run(40);
      check_counting(session, 41);
      session.write("counter", std::vector<float>(kCount, 7));
      session.write("total", std::vector<float>(kCount, 56));
      const std::vector<KernelTime> times =
          by_kernel(counting.plan(), counting.run_timed(TimingMode::isolated));  // a step like any other
      check_counting(session, 8);
      REQUIRE(times.size() == 4);
      uint64_t total = 0;
      for (const KernelTime& time : times) total += time.ns;
      CHECK(total > 0);
      CHECK_THAT(print(times), ContainsSubstring("accumulate"));
      CHECK(counting.host_ns_per_submission() > 0);
      if (target.cpu) CHECK(counting.submissions() == 1 + 3);  // up to 16 steps each
    }
  }
}

TEST_CASE("large grids, forced segments and poison do not change results", "[engine][device]") {
  Device device = open_test_device();
  for (graph::Addressing mode : addressing_modes(device)) {
    graph::Target target = device.target();
    target.addressing = mode;
    target.max_workgroups = 3;  // 32 workgroups go out in 11 dispatches
    SessionOptions options = quiet(target);
    HandMade made = counting_plan(target, kCount);
    for (uint32_t segment : {0u, 1u, 3u}) {
      options.segment_dispatches = segment;
      options.poison = segment == 3;
      Session session(device, options);
      const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
      session.allocate();
      counting.run(5);
      check_counting(session, 5);
      if (segment != 0) {
        CHECK(counting.segments() == (4 + segment - 1) / segment);
        CHECK(counting.submissions() == 5 * counting.segments());
      }
    }
  }
}

TEST_CASE("memory that the host cannot map goes through staging", "[engine][device]") {
  Device device = open_test_device({.staging = true});
  const graph::Target& target = device.target();
  constexpr uint32_t kLarge = (5u << 20) + 3;  // 20 MiB: two pieces of the staging buffer
  graph::Plan plan;
  plan.buffers = {float_buffer(graph::BufferKind::state, "x", kLarge),
                  float_buffer(graph::BufferKind::state, "y", kLarge)};
  plan.kernels.resize(1);
  plan.kernels[0].name = "negate";
  plan.dispatches = {
      {.kernel = 0, .accesses = {access(0, 0, kLarge, true, false), access(1, 0, kLarge, false, true)}, .scope = ""}};
  plan.barriers = {1};
  Session session(device, quiet(target));
  const SessionProgram negate =
      session.add_plan("negate", plan, {hand_shader("negate", target, 2, kLarge, "a1[i] = -a0[i];")});
  session.allocate();
  CHECK(one_value(session.read_floats("y")) == 0);
  std::vector<float> x(kLarge);
  for (uint32_t i = 0; i < kLarge; ++i) x[i] = float(i);
  session.write("x", x);
  negate.run();
  CHECK(session.read_floats("x") == x);
  for (float& value : x) value = -value;
  CHECK(session.read_floats("y") == x);
}

TEST_CASE("a recording is cut where the budget is spent", "[engine]") {
  struct Case {
    std::vector<uint64_t> ns;
    uint64_t budget;
    std::vector<uint32_t> cuts;
    uint32_t steps;
  };
  const Case cases[] = {
      {{}, 100, {}, 16},
      {{10, 20, 30}, 100, {}, 1},
      {{10, 20, 30}, 60, {}, 1},
      {{10, 20, 30}, 59, {2}, 1},
      {{10, 20, 30}, 1, {1, 2}, 1},
      {{0, 0, 50, 60, 0, 0}, 50, {3, 4}, 1},  // one that is too long goes alone
      {{500, 1, 1, 500}, 100, {1, 3}, 1},
      {{1, 2}, 10, {}, 3},
      {{0, 0}, 10, {}, 10},  // a clock that does not move counts as a nanosecond
      {{1}, 1000, {}, 16},
  };
  for (const Case& expected : cases) {
    INFO(fmt::format("{} dispatches, budget {}", expected.ns.size(), expected.budget));
    const Cutting cutting = cut_by_time(expected.ns, expected.budget);
    CHECK(cutting.cuts == expected.cuts);
    CHECK(cutting.steps_per_submission == expected.steps);
  }
}

TEST_CASE("a GPU's recording is cut by the time that its first step took", "[engine][device]") {
  Device device = open_test_device();
  graph::Target target = device.target();
  target.cpu = false;
  for (const uint64_t budget : {uint64_t(1), ~uint64_t(0) / 2}) {
    HandMade made = counting_plan(target, kCount);
    SessionOptions options = quiet(target);
    options.submission_budget_ns = budget;
    Session session(device, options);
    const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
    session.allocate();
    CHECK(counting.segments() == 0);
    counting.run(9);
    check_counting(session, 9);
    // The first step is timed and is no replay: eight are left.
    const bool cut = budget == 1;
    CHECK(counting.segments() == (cut ? 4 : 1));
    CHECK(counting.submissions() == (cut ? 8 * 4 : 1));
  }
  // A CPU has no watchdog: its recording stays whole, however short the budget.
  target.cpu = true;
  HandMade made = counting_plan(target, kCount);
  SessionOptions options = quiet(target);
  options.submission_budget_ns = 1;
  Session session(device, options);
  const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
  session.allocate();
  CHECK(counting.segments() == 1);
}

TEST_CASE("poison shows a value that is read before it is written", "[engine][device]") {
  Device device = open_test_device();
  HandMade made = counting_plan(device.target(), kCount);
  std::swap(made.plan.dispatches[1],
            made.plan.dispatches[2]);  // accumulates before there is anything
  SessionOptions options = quiet(device.target());
  options.poison = true;
  Session session(device, options);
  const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
  session.allocate();
  counting.run(2);
  CHECK(std::isnan(session.read_floats("total")[0]));
}

TEST_CASE("programs share state tensors, and one that does not fit is refused", "[engine][device]") {
  Device device = open_test_device();
  const graph::Target& target = device.target();
  HandMade made = counting_plan(target, kCount);
  Session session(device, quiet(target));
  const SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
  const SessionProgram again = session.add_plan("again", made.plan, made.shaders);
  CHECK_THROWS_AS(session.add_plan("again", made.plan, made.shaders), UserError);
  HandMade other = made;
  other.plan.buffers[0].type.shape = {kCount / 2, 2};
  CHECK_THROWS_MATCHES(session.add_plan("other", other.plan, other.shaders), UserError,
                       MessageMatches(ContainsSubstring("'counter' is f32[500,2] in program 'other'")));
  CHECK_THROWS_AS(counting.run(), UserError);
  session.allocate();
  CHECK(session.state_names() == std::vector<std::string>{"counter", "total"});
  counting.run(2);
  again.run();
  CHECK(one_value(session.read_floats("counter")) == 3);
  CHECK(one_value(session.read_floats("total")) == 12);
  CHECK(one_value(counting.read_floats("out")) == 3);  // an output belongs to its program
  CHECK(one_value(again.read_floats("out")) == 5);
}

TEST_CASE("what is asked of a session wrongly is an error that says so", "[engine][device]") {
  Device device = open_test_device();
  const graph::Target& target = device.target();
  HandMade made = counting_plan(target, kCount);
  Session session(device, quiet(target));
  session.add_plan("counting", made.plan, made.shaders);
  CHECK_THROWS_AS(session.write("counter", std::vector<float>(kCount)),
                  UserError);  // not allocated
  session.allocate();
  CHECK_THROWS_MATCHES(session.program("dancing"), UserError, MessageMatches(ContainsSubstring("there are: counting")));
  CHECK_THROWS_MATCHES(session.program("counting").read("in"), UserError,
                       MessageMatches(ContainsSubstring("it has: out")));
  CHECK_THROWS_AS(session.write("counter", std::vector<float>(kCount - 1)), UserError);
  CHECK_THROWS_AS(session.write("counter", std::vector<uint32_t>(kCount)), UserError);
  CHECK_THROWS_AS(session.write("scratch", std::vector<float>(kCount)), UserError);
  CHECK_THROWS_AS(session.allocate(), UserError);
  CHECK_THROWS_MATCHES(SessionProgram().run(), UserError, MessageMatches(ContainsSubstring("no program yet")));
}

TEST_CASE("a plan that does not fit is refused before anything is allocated", "[engine][device]") {
  Device device = open_test_device();
  const graph::Target& target = device.target();
  HandMade made = counting_plan(target, kCount);
  made.plan.transient_bytes = uint64_t(1) << 50;
  Session session(device, quiet(target));
  session.add_plan("counting", made.plan, made.shaders);
  CHECK(session.budget().transient >= made.plan.transient_bytes);
  CHECK(session.budget().largest == "counting");
  CHECK_THROWS_MATCHES(session.allocate(), UserError, MessageMatches(ContainsSubstring("are available of a heap of")));

  HandMade wide = counting_plan(target, kCount);
  wide.plan.buffers[1].bytes = target.max_allocation + 1;
  Session second(device, quiet(target));
  second.add_plan("counting", wide.plan, wide.shaders);
  CHECK_THROWS_MATCHES(second.allocate(), UserError, MessageMatches(ContainsSubstring("state tensor 'total' needs")));
}

TEST_CASE("slots are written and read while programs run", "[engine][device]") {
  Device device = open_test_device();
  const graph::Target& target = device.target();
  // total[i] += ring[slot, i]; two plans, one per slot.
  constexpr uint32_t kSlot = 100;
  Session session(device, quiet(target));
  SessionProgram programs[2];
  for (uint32_t slot : {0u, 1u}) {
    graph::Plan plan;
    plan.buffers = {float_buffer(graph::BufferKind::state, "ring", 2 * kSlot),
                    float_buffer(graph::BufferKind::state, "sum", kSlot)};
    plan.buffers[0].type.shape = {2, kSlot};
    plan.kernels.resize(1);
    plan.kernels[0].name = "add_slot";
    plan.dispatches = {{.kernel = 0,
                        .accesses = {access(0, slot * kSlot, kSlot, true, false), access(1, 0, kSlot, true, true)},
                        .scope = ""}};
    plan.barriers = {1};
    programs[slot] = session.add_plan(fmt::format("slot{}", slot), plan,
                                      {hand_shader("add_slot", target, 2, kSlot, "a1[i] = a1[i] + a0[i];")});
  }
  CHECK_THROWS_AS(session.share_with_host("rings"), UserError);
  session.share_with_host("ring");
  session.allocate();
  CHECK_THROWS_AS(session.share_with_host("sum"), UserError);
  uint64_t last_reader[2] = {0, 0};
  float expected = 0;
  for (uint32_t step = 0; step < 20; ++step) {
    uint32_t slot = step % 2;
    session.wait(last_reader[slot]);
    CHECK(session.completed() >= last_reader[slot]);
    std::vector<float> values(kSlot, float(step));
    session.write_slot("ring", slot, std::as_bytes(std::span(values)));
    last_reader[slot] = programs[slot].submit();
    expected += float(step);
  }
  session.wait(last_reader[1]);
  CHECK(one_value(session.read_floats("sum")) == expected);
  std::vector<float> back(kSlot);
  session.read_slot("ring", 1, std::as_writable_bytes(std::span(back)));
  CHECK(one_value(back) == 19);
  CHECK_THROWS_AS(session.write_slot("ring", 2, std::as_bytes(std::span(back))), UserError);
  CHECK_THROWS_AS(session.write_slot("ring", 0, std::as_bytes(std::span(back).first(3))), UserError);
  CHECK_THROWS_AS(session.write_slot("sum", 0, std::as_bytes(std::span(back).first(1))), UserError);
}

TEST_CASE("accesses may begin anywhere in a buffer", "[engine][device]") {
  Device device = open_test_device();
  for (graph::Addressing mode : addressing_modes(device)) {
    graph::Target target = device.target();
    target.addressing = mode;
    constexpr uint32_t kPart = 37;
    graph::Plan plan;
    plan.buffers = {float_buffer(graph::BufferKind::state, "x", 200)};
    plan.kernels.resize(1);
    plan.kernels[0].name = "copy";
    plan.dispatches = {
        {.kernel = 0, .accesses = {access(0, 3, kPart, true, false), access(0, 101, kPart, false, true)}, .scope = ""}};
    Session session(device, quiet(target));
    const SessionProgram copy =
        session.add_plan("copy", plan, {hand_shader("copy", target, 2, kPart, "a1[i] = a0[i];")});
    session.allocate();
    std::vector<float> x(200);
    for (size_t i = 0; i < x.size(); ++i) x[i] = float(i);
    session.write("x", x);
    copy.run();
    std::copy_n(x.begin() + 3, kPart, x.begin() + 101);
    CHECK(session.read_floats("x") == x);
  }
}

TEST_CASE("a kernel that does not compile shows the line", "[shaders]") {
  graph::Target target = graph::Target{};
  shaders::Shader bad = hand_shader("bad_kernel", target, 1, 10, "a0[i] = nonsense;");
  CHECK_THROWS_MATCHES(shaders::compile_spirv({&bad, 1}, ""), InternalError,
                       MessageMatches(ContainsSubstring("kernel bad_kernel") && ContainsSubstring("> ") &&
                                      ContainsSubstring("= nonsense;") && ContainsSubstring("undeclared")));
}

TEST_CASE("a module that disagrees with its shader is refused", "[shaders]") {
  for (graph::Addressing mode : {graph::Addressing::address, graph::Addressing::descriptor}) {
    graph::Target target = graph::Target{};
    target.addressing = mode;
    bool address = mode == graph::Addressing::address;
    shaders::Shader shader = hand_shader("copy", target, 2, 10, "a1[i] = a0[i];");
    shaders::Reflection reflection = shaders::reflect(shaders::compile_spirv({&shader, 1}, "")[0]);
    CHECK(reflection.local_size == 32);
    CHECK(reflection.push_constant_bytes == (address ? 120 : 64));
    CHECK(reflection.physical_addresses == address);
    CHECK(reflection.storage_bindings == (address ? std::vector<uint32_t>{} : std::vector<uint32_t>{0, 1}));
    CHECK_NOTHROW(shaders::check_reflection(shader, reflection, address));
    CHECK_THROWS_AS(shaders::check_reflection(shader, reflection, !address), InternalError);
    shaders::Shader wrong = shader;
    wrong.local_size = 64;
    CHECK_THROWS_AS(shaders::check_reflection(wrong, reflection, address), InternalError);
    wrong = shader;
    wrong.bindings = 1;
    if (!address) CHECK_THROWS_AS(shaders::check_reflection(wrong, reflection, address), InternalError);
    wrong.bindings = 15;
    CHECK_THROWS_AS(shaders::check_reflection(wrong, reflection, address), InternalError);
  }
  CHECK_THROWS_AS(shaders::reflect({1, 2, 3}), InternalError);
}

TEST_CASE("a write past the end of a tensor is found by its sentinel", "[engine][device]") {
  engine::Device device = open_test_device();
  if (!device.target().buffer_address) SKIP("descriptors keep a write inside its range");
  graph::Target target = device.target();
  target.addressing = graph::Addressing::address;
  for (const uint32_t written : {10u, 11u}) {
    graph::Plan plan;
    plan.name = "fill";
    plan.buffers = {float_buffer(graph::BufferKind::state, "a", 10)};
    plan.kernels.resize(1);
    plan.kernels[0].name = "fill";
    plan.dispatches = {{.kernel = 0, .accesses = {access(0, 0, 10, false, true)}, .scope = ""}};
    plan.barriers = {1};
    engine::SessionOptions options = quiet(target);
    options.poison = true;
    engine::Session session(device, options);
    const SessionProgram fill =
        session.add_plan("fill", plan, {hand_shader("fill", target, 1, written, "a0[i] = 1.0;")});
    session.allocate();
    fill.run();
    const std::vector<std::string> found = session.overruns();
    CHECK(found.size() == (written == 10 ? 0 : 1));
    if (written == 11 && !found.empty()) CHECK(found[0] == "past the end of state tensor 'a'");
  }
}
