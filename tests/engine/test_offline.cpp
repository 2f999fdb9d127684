// What drivers say of kernels, and null devices: GPUs that are not here, in a child process.
#include "engine/child.h"
#include "engine/offline.h"
#include "graph/debug.h"
#include "tests/support/support_device.h"

#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cstdlib>

#include <unistd.h>

namespace surtsey::tests {
namespace {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using engine::DriverStatistics;

struct Spelling {
  const char* driver;
  std::vector<engine::DriverStatistic> raw;
  // registers, spills, scratch, shared, code, instructions, occupancy, latency; -1 for absent
  std::vector<double> expected;
};

TEST_CASE("every driver's statistics come under one set of names", "[offline]") {
  const Spelling spellings[] = {
      {"radv",
       {{"SGPRs", "", 16},
        {"VGPRs", "", 24},
        {"Spilled SGPRs", "", 2},
        {"Spilled VGPRs", "", 3},
        {"LDS size", "", 4096},
        {"Scratch size", "", 0},
        {"Code size", "", 400},
        {"Instructions", "", 90},
        {"Subgroups per SIMD", "", 10},
        {"Latency", "", 700}},
       {24, 5, 0, 4096, 400, 90, 10, 700}},
      {"NVIDIA",
       {{"Register Count", "", 40}, {"Binary Size", "", 800}, {"Stack Size", "", 16}},
       {40, -1, 16, -1, 800, -1, -1, -1}},
      {"Intel open-source Mesa driver",
       {{"Instruction Count", "", 70},
        {"SEND Count", "", 9},
        {"Spill Count", "", 4},
        {"Scratch Memory Size", "", 64},
        {"Workgroup Memory Size", "", 128},
        {"Cycle Count", "", 1000}},
       {-1, 4, 64, 128, -1, 70, -1, 1000}},
      // The same driver in later versions.
      {"Intel open-source Mesa driver",
       {{"Instructions", "", 70}, {"Spills", "", 4}, {"Cycles", "", 5}, {"Code size", "", 8}},
       {-1, 4, -1, -1, 8, 70, -1, 5}},
      {"turnip Mesa driver",
       {{"Registers used", "", 12},
        {"STP Count", "", 1},
        {"LDP Count", "", 1},
        {"Code size", "", 100},
        {"Instruction Count", "", 50},
        {"Max Waves Per Core", "", 8}},
       {12, 1, -1, -1, 400, 50, 8, -1}},
      // A driver that is not in the table keeps its list and nothing else.
      {"a new driver", {{"VGPRs", "", 24}}, {-1, -1, -1, -1, -1, -1, -1, -1}},
  };
  for (const Spelling& spelling : spellings) {
    DriverStatistics statistics{.raw = spelling.raw};
    engine::normalise(statistics, spelling.driver);
    for (size_t f = 0; f < spelling.expected.size(); ++f) {
      const engine::StatisticField& field = engine::statistic_fields()[f];
      INFO(spelling.driver << " " << field.name);
      CHECK((statistics.*field.value).value_or(-1) == spelling.expected[f]);
    }
  }
}

TEST_CASE("a child process returns, throws or dies, and the parent learns which", "[offline]") {
  const auto returned = engine::run_in_child({{"SURTSEY_DEVICE", "child"}},
                                             [](auto&) { return "device " + environment("SURTSEY_DEVICE"); });
  CHECK(returned.finished);
  CHECK(returned.output == "device child");
  CHECK(environment("SURTSEY_DEVICE") != "child");

  const auto threw = engine::run_in_child({}, [](auto&) -> std::string { throw UserError("wrong key"); });
  CHECK_FALSE(threw.finished);
  CHECK(threw.user_error);
  CHECK(threw.output == "wrong key");

  const auto died = engine::run_in_child({}, [](engine::Progress& progress) -> std::string {
    progress.set("compiling matmul");
    fmt::print(stderr, "no such opcode\n");
    std::abort();
  });
  CHECK_FALSE(died.finished);
  CHECK(died.death.find("signal 6") != std::string::npos);
  CHECK(died.progress == "compiling matmul");
  CHECK(died.errors == "no such opcode\n");

  const auto left = engine::run_in_child({}, [](auto&) -> std::string { _exit(3); });
  CHECK(left.death == "exit status 3");
}

// Whether this machine has the driver that compiles for AMD's GPUs.
void need_offline_driver() {
  try {
    engine::with_offline_device("amd:navi21", [](auto&) { return std::string(); });
  } catch (const UserError& error) {
    fmt::print(stderr, "SKIPPED for want of a null device: {}\n", error.what());
    SKIP(error.what());
  }
}

// 400 values of which each is needed again after all were made.
std::string spilling_statement() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("float v{0} = a0[i + {1}u]; ", i, 64 * i);
  text += "barrier(); float sum = 0.0; ";
  for (int i = 0; i < 400; ++i) text += fmt::format("sum = fma(sum, v{0}, v{1}); ", 399 - i, (i * 7) % 400);
  return text + "a1[i] = sum;";
}

TEST_CASE("a null device compiles kernels and says what became of them", "[offline]") {
  need_offline_driver();
  for (const char* family : {"vega10", "navi21", "navi31"}) {
    INFO(family);
    const std::string answer = engine::with_offline_device(fmt::format("amd:{}", family), [](engine::OfflineDevice& d) {
      const graph::Target& target = d.info().target;
      check(!d.info().usable && !target.cpu && target.shared_memory_bytes >= 32768 && target.max_allocation > 0,
            "limits are those of a GPU: {}", engine::print(d.info()));
      const shaders::Shader plain = hand_shader("plain", target, 2, 64, "a1[i] = a0[i] + 1.0;");
      const shaders::Shader greedy = hand_shader("greedy", target, 2, 64, spilling_statement());
      const std::vector<shaders::Shader> list = {plain, greedy, plain};
      const std::vector<DriverStatistics> s = d.compile(list, "");
      check(s.size() == 3, "one for each shader, not {}", s.size());
      for (const DriverStatistics& one : s)
        for (const engine::StatisticField& field : engine::statistic_fields())
          check((one.*field.value).has_value(), "{} is missing", field.name);
      check(*s[0].registers > 0 && *s[0].registers < 64 && *s[0].code_bytes > 0 && *s[0].occupancy > 1 &&
                *s[0].latency > 0 && *s[0].shared_bytes == 0,
            "the plain kernel is small");
      check(*s[0].spills == 0 && *s[1].spills > 0, "400 live values spill, one does not: {} {}", *s[1].spills,
            *s[0].spills);
      check(s[0].isa() == s[2].isa() && s[0].isa() != s[1].isa(), "equal shaders, equal code");
      check(s[0].isa().find("s_endpgm") != std::string_view::npos, "not ISA: {}", s[0].isa());
      check(s[0].representations.size() > 1 && s[0].raw.size() > 8 && s[0].subgroup_size >= 32,
            "all that the driver says is kept");
      return std::string("compiled");
    });
    CHECK(answer == "compiled");
  }
}

TEST_CASE("what goes wrong with a null device is one message", "[offline]") {
  const auto nothing = [](engine::OfflineDevice&) { return std::string(); };
  const auto message = [&](const char* device, const char* text) {
    CHECK_THROWS_MATCHES(engine::with_offline_device(device, nothing), UserError,
                         MessageMatches(ContainsSubstring(text)));
  };
  message("acme:rocket", "the vendors are: amd");
  message("navi21", "VENDOR:FAMILY");
  need_offline_driver();
  message("amd:", "names no GPU family");
  message("amd:navi99", "It knows: ");
  message("amd:navi99", "amd:navi21, ");
  // The two names that versions of the driver have for one family.
  const auto name = [](engine::OfflineDevice& device) { return device.info().name; };
  CHECK(engine::with_offline_device("amd:gfx1100", name) == engine::with_offline_device("amd:navi31", name));

  // A driver that does not survive a kernel: the message names the kernel.
  const auto crash = [](engine::OfflineDevice& device) {
    shaders::Shader odd = hand_shader("odd", device.info().target, 1, 64, "a0[i] = gl_SMIDNV;");
    odd.glsl.insert(odd.glsl.find('\n') + 1, "#extension GL_NV_shader_sm_builtins : require\n");
    device.compile({&odd, 1}, "");
    return std::string();
  };
  CHECK_THROWS_MATCHES(engine::with_offline_device("amd:navi21", crash), engine::DeviceError,
                       MessageMatches(ContainsSubstring("amd:navi21") && ContainsSubstring("odd")));
  CHECK_THROWS_MATCHES(
      engine::with_offline_device("amd:navi21", [](auto&) -> std::string { throw UserError("an unlikely width"); }),
      UserError, MessageMatches(ContainsSubstring("amd:navi21: an unlikely width")));
}

TEST_CASE("a session keeps what its driver says of kernels", "[device][offline]") {
  engine::Device device = open_test_device();
  engine::SessionOptions options = quiet(device.target());
  const HandMade made = counting_plan(device.target(), 64);
  engine::Session plain(device, options);
  plain.add_plan("counting", made.plan, made.shaders);
  CHECK_THROWS_AS(plain.driver_statistics("counting"), UserError);

  options.driver_statistics = true;
  engine::Session session(device, options);
  session.add_plan("counting", made.plan, made.shaders);
  const auto& features = device.info().features;
  const bool speaks = std::find(features.begin(), features.end(), "executable_properties") != features.end();
  CHECK(session.driver_statistics("counting").size() == (speaks ? made.shaders.size() : 0));
}

}  // namespace
}  // namespace surtsey::tests
