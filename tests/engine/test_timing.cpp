// How kernels are timed and what they are held against: what each was made from, timed replays,
// ceilings, and the pieces of a profile that need no device.
#include "experiments/profile/ceilings.h"
#include "experiments/profile/figures.h"
#include "experiments/train/train_program.h"
#include "graph/compile.h"
#include "shaders/emit.h"
#include "shaders/reflect.h"
#include "tests/support/support_device.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <unistd.h>

namespace surtsey::tests {
namespace {

using namespace graph;
using Catch::Approx;
using experiments::Model;
using experiments::ModelConfig;

ModelConfig timed_config() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 8;
  config.vocab_size = 11;
  return config;
}

std::map<std::string, ModelConfig> configurations() {
  std::map<std::string, ModelConfig> result{{"default", timed_config()}};
  const auto add = [&](const char* name, const auto& change) { change(result[name] = timed_config()); };
  add("dropout", [](ModelConfig& c) { c.dropout = 0.1; });
  add("encoder", [](ModelConfig& c) { c.architecture = experiments::Architecture::encoder; });
  add("encoder_decoder", [](ModelConfig& c) { c.architecture = experiments::Architecture::encoder_decoder; });
  add("llama", [](ModelConfig& c) {
    c.norm = experiments::Norm::rms_norm;
    c.position = experiments::Position::rotary;
    c.activation = experiments::Activation::swiglu;
    c.tied = true;
    c.bias = false;
  });
  return result;
}

TEST_CASE("profile: every kernel of a training step knows its scope, line and phase") {
  for (const auto& [name, config] : configurations()) {
    for (const int64_t members : {1, 2}) {
      for (const bool fusion : {true, false}) {
        CAPTURE(name, members, fusion);
        experiments::TrainConfig train;
        train.batch_size = 2;
        if (members == 2) train.members.push_back({.seed = 1});
        Target target = target_preset("lavapipe");
        target.fusion = fusion;
        const Plan plan = compile(experiments::train_step(Model(config), train), target);
        std::set<Phase> phases;
        std::set<std::string> scopes;
        bool forward_is_over = false;
        for (const Dispatch& dispatch : plan.dispatches) {
          const Kernel& kernel = plan.kernels[dispatch.kernel];
          CAPTURE(kernel.name);
          const std::vector<uint32_t> nodes = origins(kernel);
          CHECK_FALSE(nodes.empty());
          CHECK(std::is_sorted(nodes.begin(), nodes.end()));
          CHECK_FALSE(dispatch.scope.empty());
          bool named = false;
          for (const uint32_t n : nodes) {
            const Scope& scope = plan.program.graph->scope(n);
            named |= scope.path == dispatch.scope && scope.line > 0 && scope.phase == dispatch.phase;
          }
          CHECK(named);
          phases.insert(dispatch.phase);
          scopes.insert(dispatch.scope);
          forward_is_over |= dispatch.phase == Phase::optimizer;
          if (dispatch.phase == Phase::backward) CHECK_FALSE(forward_is_over);
        }
        CHECK(phases.size() == 3);
        const std::string block =
            config.architecture == experiments::Architecture::encoder_decoder ? "decoder.blocks.1" : "blocks.1";
        CHECK(scopes.contains(block + ".attention.q_k_v"));
        CHECK(scopes.contains(block + ".attention.mix"));
        CHECK(scopes.contains("optimizer.gradient_norm"));
      }
    }
  }
}

TEST_CASE("profile: a timed replay is a step like any other, and its intervals follow each other",
          "[engine][device][lane]") {
  using engine::TimingMode;
  constexpr uint32_t kCount = 100;
  engine::Device device = open_test_device();
  for (const graph::Addressing addressing : addressing_modes(device)) {
    for (const uint32_t segment : {0u, 1u, 3u}) {
      CAPTURE(segment);
      Target target = device.target();
      target.addressing = addressing;
      engine::SessionOptions options = quiet(target);
      options.segment_dispatches = segment;
      const HandMade made = counting_plan(target, kCount);
      engine::Session session(device, options);
      const engine::SessionProgram counting = session.add_plan("counting", made.plan, made.shaders);
      session.allocate();
      REQUIRE(counting.builds().size() == 4);
      for (const engine::KernelBuild& build : counting.builds()) {
        CHECK(build.spirv_bytes > 100);
        CHECK(build.pipeline_ms > 0);
        CHECK_FALSE(build.spirv_cached);  // the test has no cache
        CHECK_FALSE(build.shared);
      }
      float steps = 0;
      for (int repetition = 0; repetition < 2; ++repetition) {
        for (const TimingMode mode : {TimingMode::whole, TimingMode::grouped, TimingMode::isolated}) {
          CAPTURE(name(mode), repetition);
          const engine::TimedReplay replay = counting.run_timed(mode);
          if (++steps == 1 && !target.cpu && segment == 0) ++steps;  // the one that finds the segments
          CHECK(session.read_floats("counter")[kCount - 1] == steps);
          CHECK(replay.busy_ns > 0);
          CHECK(replay.host_ns > 0);
          if (mode == TimingMode::whole) {
            CHECK(replay.dispatches.empty());
            continue;
          }
          REQUIRE(replay.dispatches.size() == 4);
          uint64_t sum = 0, end = 0;
          for (const engine::Interval& interval : replay.dispatches) {
            CHECK(interval.begin_ns <= interval.end_ns);
            CHECK(interval.begin_ns >= end);
            end = interval.end_ns;
            sum += interval.ns();
          }
          // Inside a submission there is no gap; ticks are rounded to nanoseconds.
          CHECK(sum <= replay.busy_ns + 4);
          CHECK(sum + 4 >= replay.busy_ns);
        }
      }
    }
  }
}

TEST_CASE("profile: ceilings are measured once and believed only when they are whole", "[device]") {
  namespace fs = std::filesystem;
  engine::Device device = open_test_device();
  const fs::path folder = fs::temp_directory_path() / fmt::format("surtsey-ceilings-{}", getpid());
  fs::create_directories(folder);
  const std::string file = experiments::ceilings_file(device.info(), folder.string());
  const experiments::Ceilings first = experiments::measure_ceilings(device, folder.string());
  CHECK_FALSE(first.from_cache);
  for (const double value : {first.f32_gflops, first.read_gbs, first.broadcast_gbs, first.shared_gbs, first.dispatch_us,
                             first.copy_gbs(), first.copy_gbs(1000)})
    CHECK(value > 0);
  CHECK((first.f16_gflops > 0) == device.target().f16_storage);
  CHECK(first.copy_gbs(1) == first.copies.front().gbs);
  CHECK(first.copy_gbs(1e12) == first.copies.back().gbs);
  CHECK(experiments::describe(first).size() >= 6);
  const experiments::Ceilings second = experiments::measure_ceilings(device, folder.string());
  CHECK(second.from_cache);
  CHECK(second.f32_gflops == first.f32_gflops);
  CHECK(second.copies.size() == first.copies.size());
  // Cut short, it is measured again and replaced.
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  std::ofstream(file) << text.str().substr(0, text.str().size() / 2);
  CHECK_FALSE(experiments::measure_ceilings(device, folder.string()).from_cache);
  CHECK(experiments::measure_ceilings(device, folder.string()).from_cache);
  fs::remove_all(folder);
}

TEST_CASE("profile: squarified rectangles fill their frame in proportion") {
  using experiments::Rectangle;
  for (const std::vector<double>& areas :
       {std::vector<double>{100}, {60, 40}, {50, 20, 10, 8, 6, 4, 2}, std::vector<double>(64, 100.0 / 64)}) {
    const Rectangle all{3, 5, 20, 5};
    const std::vector<Rectangle> places = experiments::squarify(areas, all);
    REQUIRE(places.size() == areas.size());
    for (size_t i = 0; i < places.size(); ++i) {
      const Rectangle& a = places[i];
      CHECK(a.width * a.height == Approx(areas[i]));
      CHECK(a.x >= all.x - 1e-9);
      CHECK(a.y >= all.y - 1e-9);
      CHECK(a.x + a.width <= all.x + all.width + 1e-9);
      CHECK(a.y + a.height <= all.y + all.height + 1e-9);
      for (size_t j = 0; j < i; ++j) {
        const Rectangle& b = places[j];
        const double wide = std::min(a.x + a.width, b.x + b.width) - std::max(a.x, b.x);
        const double high = std::min(a.y + a.height, b.y + b.height) - std::max(a.y, b.y);
        CHECK((wide < 1e-9 || high < 1e-9));
      }
    }
  }
}

TEST_CASE("profile: SPIR-V shown with lines has the instructions of the module that runs", "[shaders]") {
  experiments::TrainConfig train;
  train.batch_size = 2;
  const Target target = target_preset("nvidia");
  const Plan plan = compile(experiments::train_step(Model(timed_config()), train), target);
  const std::vector<shaders::Shader> all = shaders::emit(plan, target);
  const std::vector<shaders::Spirv> modules = shaders::compile_spirv(all, "");
  const std::set<uint32_t> about = {3, 4, 5, 6, 7, 8, 317, 330};  // names, sources and lines
  const std::regex instruction(R"(^\s*(%\w+ = )?(Op\w+))");
  const std::set<std::string> words = {"OpSource", "OpSourceExtension", "OpName",           "OpMemberName", "OpString",
                                       "OpLine",   "OpNoLine",          "OpModuleProcessed"};
  bool shared = false;
  for (size_t i = 0; i < all.size(); i += 5) {
    CAPTURE(all[i].name);
    size_t in_module = 0, in_text = 0;
    for (size_t at = 5; at < modules[i].size(); at += modules[i][at] >> 16)
      in_module += !about.contains(modules[i][at] & 0xffff);
    std::istringstream text(shaders::spirv_text(all[i]));
    std::string line;
    while (std::getline(text, line)) {
      std::smatch match;
      in_text += std::regex_search(line, match, instruction) && !words.contains(match[2].str());
    }
    CHECK(in_text == in_module);
    const uint32_t bytes = shaders::reflect(modules[i]).shared_bytes;
    CHECK(bytes <= target.shared_memory_bytes);
    CHECK((bytes > 0) == (all[i].glsl.find("shared ") != std::string::npos));
    shared |= bytes > 0;
  }
  CHECK(shared);
}

}  // namespace
}  // namespace surtsey::tests
