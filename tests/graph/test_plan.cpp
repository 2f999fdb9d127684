// Plans of real training steps, for devices that are not here: barriers, memory, and GLSL that a compiler accepts.
#include "experiments/train/train_program.h"
#include "graph/compile.h"
#include "shaders/emit.h"
#include "shaders/reflect.h"
#include "shaders/spirv.h"
#include "tests/support/plan_checks.h"

#include <catch2/catch_test_macros.hpp>

#include <set>

using namespace surtsey;
using namespace surtsey::graph;
using surtsey::tests::Memory;

namespace {

// A decoder's training step, as a real run has it: data ring, clipping, AdamW with warm-up, metrics.
Program decoder_step(bool modern, size_t members = 1) {
  experiments::ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 12;
  config.vocab_size = 11;
  if (modern) {
    config.position = experiments::Position::rotary;
    config.norm = experiments::Norm::rms_norm;
    config.activation = experiments::Activation::swiglu;
    config.n_kv_head = 1;
    config.n_head = 4;
    config.tied = true;
    config.dropout = 0.1;
  }
  experiments::TrainConfig train;
  train.optimizer = experiments::recipe_optimizer(100);
  train.batch_size = 3;
  train.members.clear();
  for (uint32_t e = 0; e < members; ++e) train.members.push_back({.seed = e, .learning_rate = 1e-3});
  return experiments::train_step(experiments::Model(config), train);
}

Program encoder_decoder_step() {
  experiments::ModelConfig config;
  config.architecture = experiments::Architecture::encoder_decoder;
  config.n_layer = 1;
  config.n_head = 2;
  config.n_embd = 8;
  config.block_size = 7;
  config.source_size = 5;
  config.vocab_size = 13;
  experiments::TrainConfig train;
  train.batch_size = 3;
  return experiments::train_step(experiments::Model(config), train);
}

struct PlanCase {
  std::string name;
  Program program;
};

std::vector<PlanCase> programs() {
  return {{"decoder", decoder_step(false)},
          {"modern decoder", decoder_step(true)},
          {"ensemble", decoder_step(false, 3)},
          {"encoder_decoder", encoder_decoder_step()}};
}

// Every preset, with and without fusion, and every choice of kernels that it can run.
std::vector<std::pair<std::string, Target>> targets() {
  std::vector<std::pair<std::string, Target>> list;
  for (const char* preset : target_preset_names()) {
    const Target base = target_preset(preset);
    const auto add = [&](const char* change, auto&& apply) {
      Target target = base;
      apply(target);
      list.emplace_back(fmt::format("{}{}", preset, change), target);
    };
    add("", [](Target&) {});
    add(" unfused", [](Target& t) { t.fusion = false; });
    if (base.buffer_address) add(" descriptor", [](Target& t) { t.addressing = Addressing::descriptor; });
    if (base.subgroup_ballot && base.subgroup_size >= 4) {
      add(base.cpu ? " shared_tile" : " lane_broadcast",
          [&](Target& t) { t.matmul = base.cpu ? MatmulVariant::shared_tile : MatmulVariant::lane_broadcast; });
    }
    add(" scatter_rows", [](Target& t) { t.scatter = ScatterVariant::rows; });
    add(base.cpu ? " workgroup_per_row" : " lane_per_row",
        [&](Target& t) { t.reduce = base.cpu ? ReduceVariant::workgroup_per_row : ReduceVariant::lane_per_row; });
  }
  return list;
}

}  // namespace

TEST_CASE("training plans: every barrier is needed and none is missing", "[plan]") {
  for (const PlanCase& c : programs()) {
    for (const auto& [name, target] : targets()) {
      INFO(c.name << " for " << name);
      const Plan plan = compile(c.program, target);
      CHECK(uncovered_hazards(plan) == std::vector<std::string>());
      REQUIRE(plan.barriers.size() > 10);
      size_t unnoticed = 0;
      for (size_t b = 0; b < plan.barriers.size(); ++b) {
        Plan broken = plan;
        broken.barriers.erase(broken.barriers.begin() + int64_t(b));
        unnoticed += uncovered_hazards(broken).empty();
      }
      CHECK(unnoticed == 0);
      // The optimizer's last kernels write what the next replay's first ones read, unless those only write the batch
      // down: then the first barrier stands between.
      if (plan.barriers.back() == plan.dispatches.size()) continue;
      for (uint32_t first = 0; first < plan.barriers.front(); ++first)
        for (size_t last = plan.barriers.back(); last < plan.dispatches.size(); ++last)
          for (const Access& read : plan.dispatches[first].accesses)
            for (const Access& written : plan.dispatches[last].accesses)
              CHECK((!written.write || read.buffer != written.buffer));
    }
  }
}

TEST_CASE("training plans: memory is written before it is read, and by one buffer at a time", "[plan]") {
  for (const PlanCase& c : programs()) {
    for (const auto& [name, target] : targets()) {
      INFO(c.name << " for " << name);
      const Plan plan = compile(c.program, target);
      CHECK_NOTHROW(verify(plan));
      CHECK(Memory(plan).run() == "");
      for (const Dispatch& dispatch : plan.dispatches) CHECK(dispatch.accesses.size() <= target.max_bindings());
    }
  }
  CompileOptions options;
  options.storage = DType::bf16;
  const Plan narrow = compile(decoder_step(false), target_preset("nvidia"), options);
  CHECK_NOTHROW(verify(narrow));
  CHECK(Memory(narrow).run() == "");
  CHECK(uncovered_hazards(narrow).empty());
}

TEST_CASE("memory checks notice plans that are wrong", "[plan]") {
  const auto is_wrong = [](const Plan& broken) {
    try {
      verify(broken);
      return false;
    } catch (const InternalError&) {
      return true;
    }
  };
  const Plan plan = compile(decoder_step(false), target_preset("lavapipe"));
  size_t noticed = 0, transients = 0;
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    if (plan.buffers[b].kind != BufferKind::transient || plan.buffers[b].bytes == 0) continue;
    // Every buffer in the same place.
    ++transients;
    Plan broken = plan;
    for (Buffer& buffer : broken.buffers)
      if (buffer.kind == BufferKind::transient && buffer.bytes <= broken.buffers[b].bytes)
        buffer.offset = broken.buffers[b].offset;
    noticed += is_wrong(broken) && !Memory(broken).run().empty();
  }
  CHECK(transients > 10);
  CHECK(noticed >= transients - 2);  // the smallest ones have no smaller neighbour
  Plan early = plan;
  std::swap(early.dispatches.front(), early.dispatches.back());
  CHECK(Memory(early).run() != "");
}

TEST_CASE("training plans: equal programs give equal plans", "[plan]") {
  // A cache of pipelines, a resume and a second machine depend on it.
  CHECK(print(compile(decoder_step(true), target_preset("lavapipe"))) ==
        print(compile(decoder_step(true), target_preset("lavapipe"))));
}

TEST_CASE("the GLSL of every kernel compiles, for every preset and variant", "[plan][shaders]") {
  std::set<std::string> seen;  // across targets: what differs only in name compiles once
  size_t kernels = 0;
  const auto check_all = [&](const Program& program, const Target& target, const CompileOptions& options) {
    const Plan plan = compile(program, target, options);
    std::vector<shaders::Shader> list;
    for (shaders::Shader& shader : shaders::emit(plan, target)) {
      ++kernels;
      CHECK(shader.local_size <= target.max_workgroup_invocations);
      CHECK(shader.workgroups > 0);
      if (seen.insert(shader.glsl).second) list.push_back(std::move(shader));
    }
    const std::vector<shaders::Spirv> modules = shaders::compile_spirv(list, "");
    REQUIRE(modules.size() == list.size());
    for (size_t i = 0; i < list.size(); ++i)
      CHECK_NOTHROW(
          shaders::check_reflection(list[i], shaders::reflect(modules[i]), target.addressing == Addressing::address));
  };
  const std::vector<Program> all = {decoder_step(false), decoder_step(true)};
  for (const auto& [name, target] : targets()) {
    INFO(name);
    // Without fusion kernels are many, and all of one kind.
    if (target.fusion) check_all(all[0], target, {});
    if (name == "minimal" || name == "lavapipe" || name == "swiftshader" || name == "amd" || name == "nvidia" ||
        name == "nvidia unfused")
      check_all(all[1], target, {});
  }
  for (const DType storage : {DType::f16, DType::bf16}) {
    CompileOptions options;
    options.storage = storage;
    check_all(all[0], target_preset("nvidia"), options);
  }
  CHECK(kernels > 1000);
  CHECK(seen.size() > 300);
}
