// What drivers say of kernels, and null devices: GPUs that are not here, in a child process.
#include "engine/child.h"
#include "engine/offline.h"
#include "engine/offline_drivers.h"
#include "engine/offline_text.h"
#include "graph/debug.h"
#include "tests/support/folder.h"
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
       {12, 1, -1, -1, 400, 50, 8, 50}},
      // Moves to other registers are no spills.
      {"NVK",
       {{"Number of GPRs", "", 24},
        {"Spills to memory", "", 0},
        {"Spills to reg", "", 7},
        {"SLM size", "", 0},
        {"Code size", "", 288},
        {"Instruction count", "", 18},
        {"Max warps/SM", "", 48},
        {"Static cycle count", "", 132}},
       {24, 0, 0, -1, 288, 18, 48, 132}},
      {"Honeykrisp",
       {{"Instructions", "", 14},
        {"ALU", "", 9},
        {"Code size", "", 92},
        {"GPRs", "", 5},
        {"Scratch", "", 0},
        {"Threads", "", 1024},
        {"Spills", "", 0}},
       {2.5, 0, 0, -1, 92, 14, 32, 9}},
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

// 400 values of which each is needed again after all were made.
std::string spilling_statement() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("float v{0} = a0[i + {1}u]; ", i, 64 * i);
  text += "barrier(); float sum = 0.0; ";
  for (int i = 0; i < 400; ++i) text += fmt::format("sum = fma(sum, v{0}, v{1}); ", 399 - i, (i * 7) % 400);
  return text + "a1[i] = sum;";
}

TEST_CASE("a null device compiles kernels and says what became of them", "[offline]") {
  tests::need_offline_driver();
  for (const char* family : {"vega10", "navi21", "navi31"}) {
    INFO(family);
    const std::string answer = engine::with_offline_device(fmt::format("amd:{}", family), [](engine::OfflineDevice& d) {
      const graph::Target& target = d.info().target;
      check(!target.cpu && target.shared_memory_bytes >= 32768 && target.max_allocation > 0,
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

TEST_CASE("what crosses between the processes of an offline device arrives as it was", "[offline]") {
  engine::DeviceInfo info{
      .name = "gpu", .features = {"fusion", "tuning"}, .off = {"f16_storage (the device lacks it)"}};
  info.target = graph::target_preset("nvidia");
  info.target.addressing = graph::Addressing::descriptor;
  info.target.max_allocation = uint64_t(1) << 40;
  const engine::DeviceInfo got = engine::info_from_text(engine::to_text(info));
  CHECK(engine::to_text(got) == engine::to_text(info));
  CHECK(engine::print(got) == engine::print(info));
  CHECK(got.target.cooperative == info.target.cooperative);
  CHECK(got.target.max_allocation == info.target.max_allocation);

  const std::vector<shaders::Shader> list = {hand_shader("plain", info.target, 2, 64, "a1[i] = a0[i];")};
  const std::vector<shaders::Shader> same = engine::shaders_from_text(engine::to_text(list));
  REQUIRE(same.size() == 1);
  CHECK(same[0].glsl == list[0].glsl);
  CHECK(same[0].local_size == list[0].local_size);
  CHECK(same[0].bindings == 2);

  DriverStatistics statistics{.spills = 0, .latency = 12.5, .subgroup_size = 32};
  statistics.raw = {{"Code size", "in bytes", 400}};
  statistics.representations = {{"ISA", "final", std::string("not UTF-8: \xff\xfe")}};
  const DriverStatistics back = engine::statistics_from_text(engine::to_text(statistics));
  CHECK(back.spills == 0);
  CHECK(back.latency == 12.5);
  CHECK_FALSE(back.registers.has_value());
  CHECK(back.subgroup_size == 32);
  CHECK(back.raw.at(0).value == 400);
  CHECK(back.isa() == statistics.isa());
}

TEST_CASE("a driver's shim is looked for beside the driver", "[offline]") {
  const Folder folder;
  const engine::OfflineDriver& driver = engine::find_offline_driver("nvidia");
  const std::string manifest = (folder / "nouveau_icd.json").string();
  const std::string library = (folder / "libvulkan_nouveau.so").string();
  std::ofstream(manifest) << fmt::format("{{\"ICD\": {{\"library_path\": \"{}\"}}}}", library);
  CHECK(engine::find_shim(driver, manifest) == "");
  const std::string shim = (folder / driver.shim).string();
  std::ofstream(shim) << "a library";
  CHECK(engine::find_shim(driver, manifest) == shim);
  CHECK(engine::shim_name(driver, "ampere") == "0x172");
  CHECK(engine::shim_name(driver, "0x166") == "0x166");
  CHECK(engine::shim_name(engine::find_offline_driver("amd"), "navi21") == "navi21");
}

// A fake GPU of each vendor, where Mesa's drm-shim is installed.
TEST_CASE("a driver that believes in a GPU compiles kernels and says what became of them", "[offline]") {
  size_t tried = 0;
  for (const char* name : {"amd:navi31", "nvidia:turing", "nvidia:ampere", "adreno:740", "apple:m1", "intel:tgl"}) {
    INFO(name);
    const engine::OfflineDriver& driver =
        engine::find_offline_driver(std::string_view(name).substr(0, std::string_view(name).find(':')));
    const std::string manifests = engine::find_manifests(driver);
    if (manifests.empty() || engine::find_shim(driver, manifests).empty()) continue;
    ++tried;
    const std::string answer = engine::with_offline_device(name, [](engine::OfflineDevice& device) {
      const graph::Target& target = device.info().target;
      const shaders::Shader plain = hand_shader("plain", target, 2, 64, "a1[i] = a0[i] + 1.0;");
      const shaders::Shader greedy = hand_shader("greedy", target, 2, 64, spilling_statement());
      const std::vector<DriverStatistics> s = device.compile(std::vector{plain, greedy, plain}, "");
      check(s.size() == 3 && s[0].raw.size() > 3, "one for each shader, with the driver's list");
      check(s[0].code_bytes && s[0].instructions && *s[1].instructions > *s[0].instructions,
            "400 values take more code");
      check(s[0].registers && s[0].spills && *s[0].spills == 0, "the plain kernel is small: {} {}",
            s[0].registers.value_or(-1), s[0].spills.value_or(-1));
      // ANV says nothing of occupancy.
      const bool intel = device.info().driver.starts_with("Intel");
      check((s[0].occupancy || intel) && s[0].latency, "occupancy and latency: {} {}", s[0].occupancy.value_or(-1),
            s[0].latency.value_or(-1));
      check(s[0].raw.size() == s[2].raw.size() && s[0].isa() == s[2].isa(), "equal shaders, equal code");
      return std::string("compiled");
    });
    CHECK(answer == "compiled");
    CHECK_THROWS_MATCHES(
        engine::with_offline_device(name, [](auto&) -> std::string { throw UserError("an unlikely width"); }),
        UserError, MessageMatches(ContainsSubstring(std::string(name) + ": an unlikely width")));
  }
  if (tried == 0) SKIP("mesa-drm-shim is not installed");
}

TEST_CASE("what goes wrong with a null device is one message", "[offline]") {
  const auto nothing = [](engine::OfflineDevice&) { return std::string(); };
  const auto message = [&](const char* device, const char* text) {
    CHECK_THROWS_MATCHES(engine::with_offline_device(device, nothing), UserError,
                         MessageMatches(ContainsSubstring(text)));
  };
  message("acme:rocket", "the vendors are: amd");
  message("navi21", "VENDOR:FAMILY");
  tests::need_offline_driver();
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
  const engine::SessionProgram unasked = plain.add_plan("counting", made.plan, made.shaders);
  CHECK_THROWS_AS(unasked.driver_statistics(), UserError);

  options.driver_statistics = true;
  engine::Session session(device, options);
  const engine::SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
  const auto& features = device.info().features;
  const bool speaks = std::find(features.begin(), features.end(), "executable_properties") != features.end();
  CHECK(counting.driver_statistics().size() == (speaks ? made.shaders.size() : 0));
}

}  // namespace
}  // namespace surtsey::tests
