// Where a step's time goes: what every kernel was made from, timed replays, and what is written about them.
#include "experiments/commands/step_program.h"
#include "graph/compile.h"
#include "tests/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <map>
#include <set>

namespace surtsey::tests {
namespace {

using namespace graph;
using experiments::Model;
using experiments::ModelConfig;

ModelConfig small() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 8;
  config.vocab_size = 11;
  return config;
}

std::map<std::string, ModelConfig> configurations() {
  std::map<std::string, ModelConfig> result{{"default", small()}};
  const auto add = [&](const char* name, const auto& change) { change(result[name] = small()); };
  add("dropout", [](ModelConfig& c) { c.dropout = 0.1; });
  add("encoder", [](ModelConfig& c) { c.architecture = experiments::Architecture::encoder; });
  add("encoder_decoder",
      [](ModelConfig& c) { c.architecture = experiments::Architecture::encoder_decoder; });
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
        experiments::commands::StepConfig step;
        step.batch_size = 2;
        step.members = members;
        step.optimizer.clip_norm = 1;
        Target target = target_preset("lavapipe");
        target.fusion = fusion;
        const Plan plan =
            compile(experiments::commands::training_step(Model(config), step), target);
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
      session.add_plan("counting", made.plan, made.shaders);
      session.allocate();
      REQUIRE(session.builds("counting").size() == 4);
      for (const engine::KernelBuild& build : session.builds("counting")) {
        CHECK(build.spirv_bytes > 100);
        CHECK(build.pipeline_ms > 0);
        CHECK_FALSE(build.spirv_cached);  // the test has no cache
        CHECK_FALSE(build.shared);
      }
      float steps = 0;
      for (int repetition = 0; repetition < 2; ++repetition) {
        for (const TimingMode mode : {TimingMode::whole, TimingMode::grouped, TimingMode::isolated}) {
          CAPTURE(name(mode), repetition);
          const engine::TimedReplay replay = session.run_timed("counting", mode);
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

}  // namespace
}  // namespace surtsey::tests
