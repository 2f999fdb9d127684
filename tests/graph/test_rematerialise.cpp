// Plans within a memory budget: kernels emitted again, proven like any other plan, with the same bits.
#include "tests/support/device_suite.h"

#include "experiments/train/options.h"
#include "experiments/train/train_session.h"
#include "graph/compile.h"
#include "tests/support/plan_checks.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

struct RematerialiseCase {
  std::string name;
  experiments::ModelConfig config;
  int64_t members = 1;
  DType dtype = DType::f32;
  double share = 0.7;
};

std::vector<RematerialiseCase> models_and_shapes() {
  experiments::ModelConfig plain;
  plain.n_layer = 3;
  plain.n_head = 2;
  plain.n_embd = 16;
  plain.block_size = 16;
  plain.vocab_size = 11;
  experiments::ModelConfig modern = plain;
  modern.position = experiments::Position::rotary;
  modern.norm = experiments::Norm::rms_norm;
  modern.activation = experiments::Activation::swiglu;
  modern.n_kv_head = 1;
  modern.dropout = 0.1;
  return {{"plain", plain}, {"modern, with dropout", modern}, {"2 members", plain, 2}, {"bf16", plain, 1, DType::bf16}};
}

experiments::TrainConfig train_config(const RematerialiseCase& c) {
  experiments::TrainConfig train;
  train.batch_size = 6;
  train.members.clear();
  for (uint32_t e = 0; e < c.members; ++e) train.members.push_back({.seed = 5 + e, .learning_rate = 1e-2});
  train.optimizer = experiments::recipe_optimizer(100);
  return train;
}

Program program_of(const RematerialiseCase& c) {
  return experiments::train_step(experiments::Model(c.config), train_config(c));
}

bool is_again(const Plan& plan, const Dispatch& dispatch) {
  return plan.kernels[dispatch.kernel].name.ends_with("_again");
}

}  // namespace

TEST_CASE("a memory budget is met by computing again, in plans that stand every check", "[plan][rematerialise]") {
  for (const RematerialiseCase& c : models_and_shapes()) {
    for (const char* preset : {"lavapipe", "nvidia", "minimal"}) {
      const Target target = target_preset(preset);
      if (c.dtype != DType::f32 && !target.f16_storage) continue;
      INFO(c.name << " for " << preset);
      const Program program = program_of(c);
      const Plan whole = compile(program, target, {.storage = c.dtype});
      const Plan plan = compile(program, target, {.storage = c.dtype, .memory = {.share = c.share}});
      CHECK(double(planned_bytes(plan)) <= c.share * double(planned_bytes(whole)));
      CHECK(uncovered_hazards(plan).empty());
      CHECK_NOTHROW(verify(plan));
      CHECK(Memory(plan).run() == "");
      // Kernels only: the graph has no node more.
      CHECK(plan.program.graph->size() == whole.program.graph->size());
      const auto again = size_t(std::count_if(plan.dispatches.begin(), plan.dispatches.end(),
                                              [&](const Dispatch& d) { return is_again(plan, d); }));
      CHECK(again > 0);
      CHECK(plan.dispatches.size() == whole.dispatches.size() + again);
      CHECK(plan.flops > whole.flops);
      // Without any one of the copies something would be read that is not there.
      size_t noticed = 0;
      for (size_t d = 0; d < plan.dispatches.size(); ++d) {
        if (!is_again(plan, plan.dispatches[d])) continue;
        Plan broken = plan;
        broken.dispatches.erase(broken.dispatches.begin() + int64_t(d));
        noticed += Memory(broken).run() != "";
      }
      CHECK(noticed == again);
      CHECK(print(plan) == print(compile(program, target, {.storage = c.dtype, .memory = {.share = c.share}})));
    }
  }
}

TEST_CASE("a memory budget that is enough changes nothing, one that is too little says what could be",
          "[plan][rematerialise]") {
  const RematerialiseCase c = models_and_shapes()[0];
  const Target target = target_preset("lavapipe");
  const Program program = program_of(c);
  const Plan whole = compile(program, target);
  CHECK(print(compile(program, target, {.memory = {.bytes = planned_bytes(whole)}})) == print(whole));
  CHECK(print(compile(program, target, {.memory = {.share = 1}})) == print(whole));
  for (const MemoryLimit& limit : {MemoryLimit{.bytes = 1000}, MemoryLimit{.share = 0.1}})
    CHECK_THROWS_MATCHES(
        compile(program, target, {.memory = limit}), UserError,
        MessageMatches(ContainsSubstring("is too little for program") && ContainsSubstring("the least found is")));
  // The least that is told can be had.
  uint64_t fixed = 0;
  for (const Buffer& buffer : whole.buffers) fixed += buffer.kind == BufferKind::transient ? 0 : buffer.bytes;
  CHECK(planned_bytes(whole) == fixed + whole.transient_bytes);
}

TEST_CASE("memory budgets are bytes or a share", "[config][rematerialise]") {
  const auto bytes = [](const char* text) { return experiments::parse_memory_budget(text).bytes; };
  CHECK(!experiments::parse_memory_budget(""));
  CHECK(bytes("1000000") == 1000000);
  CHECK(bytes("512MiB") == 512u << 20);
  CHECK(bytes("2.5GiB") == uint64_t(5) << 29);
  CHECK(bytes("1e3MB") == 1000000000);
  CHECK(experiments::parse_memory_budget("0.5x").share == 0.5);
  for (const char* wrong : {"x", "-1", "0", "12 MiB", "1MiBx", "nan", "0.1", "1e99GiB", "half"})
    CHECK_THROWS_MATCHES(experiments::parse_memory_budget(wrong), UserError, MessageMatches(ContainsSubstring("0.5x")));
}

TEST_CASE("within a memory budget training gives the same bits", "[device][rematerialise]") {
  SURTSEY_NEED_DEVICE();
  for (const RematerialiseCase& c : models_and_shapes()) {
    if (c.dtype != DType::f32 && !device.target().f16_storage) continue;
    if (c.name == "plain") continue;  // what the others are, and more
    const experiments::Model model(c.config);
    const auto train = [&](MemoryLimit memory) {
      engine::Session session(device, {.poison = true, .quiet = true});
      const engine::SessionProgram step =
          session.add_program("train", program_of(c), {.storage = c.dtype, .memory = memory});
      session.allocate();
      experiments::write_uniform_start(session, model, train_config(c));
      std::vector<std::vector<float>> losses;
      for (int i = 0; i < 6; ++i) {
        step.run();
        losses.push_back(step.read_floats("loss"));
      }
      return std::tuple(losses, session.read_bytes(kParameters), step.plan().dispatches.size());
    };
    INFO(c.name);
    const auto [losses, parameters, dispatches] = train({});
    const auto [again_losses, again_parameters, more_dispatches] = train({.share = c.share});
    CHECK(more_dispatches > dispatches);
    CHECK(again_losses == losses);
    CHECK(again_parameters == parameters);
    CHECK(losses.front() != losses.back());
  }
}
