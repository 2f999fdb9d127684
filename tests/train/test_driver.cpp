// The loop of training: what ends it early, and what is saved then.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include <nlohmann/json.hpp>
#include "engine/cooperative_check.h"
#include "experiments/base/computing_device.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "experiments/tasks/chain.h"
#include "experiments/train/driver.h"
#include "experiments/train/options.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

namespace fs = std::filesystem;

// Interrupts when training batch `stop_at` is made.
class StoppingTask : public tasks::ChainTask {
 public:
  StoppingTask() : ChainTask({.modulus = 5, .length = 3, .held_out_share = 0}) {}
  int64_t stop_at = -1;

  void write_sample(tasks::Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override {
    if (split == tasks::Split::kTrain && int64_t(step) == stop_at) set_interrupted(true);
    ChainTask::write_sample(split, seed, step, index, tokens, targets, weights);
  }
};

struct DriverRig {
  DriverRig(engine::Device& device, const TrainConfig& config, const tasks::Task& task,
            const std::optional<graph::Target>& target = {}, int width = 8)
      : model(recipe_config(1, width, task.vocab_size(), task.block_size())),
        session(device, {.target = target, .quiet = true}),
        trainer(session, model, config, task) {
    session.allocate();
    trainer.initialise();
  }
  Model model;
  engine::Session session;
  Trainer trainer;
};

TrainConfig config_of(int64_t steps, std::vector<Member> members) {
  TrainConfig config;
  config.optimizer = recipe_optimizer(steps);
  config.members = std::move(members);
  config.batch_size = 8;
  config.steps = steps;
  return config;
}

// A rate at which the first step already takes every weight out of what f32 can square.
constexpr double kFarTooMuch = 1e30;

}  // namespace

TEST_CASE("driver: a device whose own counter stands still does not compute, and nothing is saved of it") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const StoppingTask task;
  DriverRig rig(device, config_of(40, {{1, 0.02}}), task);
  RunOptions run;
  run.log_interval = 10;
  run.checkpoint_interval = 10;
  run.save_end = true;
  run.checkpoint_root = (folder / "checkpoint").string();
  std::vector<int64_t> logged;
  run.on_log = [&](const TrainLog& line) { logged.push_back(line.step); };
  // Right for a block, then it lies.
  run.on_step = [&](int64_t step) {
    if (step == 20) rig.session.write("step", std::vector<uint32_t>{10});
  };
  CHECK_THROWS_MATCHES(rig.trainer.run(run), NotComputing,
                       MessageMatches(ContainsSubstring("does not compute") && ContainsSubstring("stands at 10") &&
                                      ContainsSubstring("surtsey selftest")));
  CHECK(logged == std::vector<int64_t>{10});
  CHECK(checkpoint_steps(run.checkpoint_root) == std::vector<int64_t>{10});
  CHECK(guarded("test", [&]() -> int { throw NotComputing("x"); }) == kNotComputingStatus);
}

TEST_CASE("driver: a device for asking and measuring has counted, or is refused") {
  (void)tests::open_test_device();
  CHECK_NOTHROW(open_computing_device({.quiet = true}));
  CHECK_NOTHROW(check_counted(3, 3));
  CHECK_NOTHROW(check_counted((int64_t{1} << 32) + 3, 3));
  for (const uint32_t counted : {0u, 2u, 4u}) CHECK_THROWS_AS(check_counted(3, counted), NotComputing);
}

TEST_CASE("driver: a run ends when every member diverged, and goes on while one is healthy") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const StoppingTask task;
  RunOptions run;
  run.log_interval = 10;
  run.divergence_patience = 25;
  run.checkpoint_root = (folder / "checkpoint").string();
  run.save_end = true;
  std::vector<MemberMetrics> last;
  run.on_log = [&](const TrainLog& line) { last = line.members; };

  DriverRig both(device, config_of(100, {{1, kFarTooMuch}, {1, 0.02}}), task);
  both.trainer.run(run);
  CHECK(both.trainer.step() == 100);
  REQUIRE(last.size() == 2);
  CHECK(last[0].skipped >= 98);
  CHECK(last[0].skipped_in_row >= 98);
  CHECK(std::isnan(last[0].gradient_norm));  // none is not nought
  CHECK(last[1].skipped == 0);
  CHECK(std::isfinite(last[1].gradient_norm));
  const std::vector<float> healthy = both.trainer.losses()[1];
  DriverRig alone(device, config_of(100, {{1, 0.02}}), task);
  alone.trainer.run();
  CHECK(std::abs(healthy.back() - alone.trainer.losses()[0].back()) < 1e-4f);

  run.checkpoint_root = (folder / "diverged").string();
  DriverRig none(device, config_of(1000, {{1, kFarTooMuch}, {2, kFarTooMuch}}), task);
  CHECK_THROWS_MATCHES(
      none.trainer.run(run), Diverged,
      MessageMatches(ContainsSubstring("all 2 models diverged") && ContainsSubstring("smaller learning_rate") &&
                     ContainsSubstring("divergence_patience")));
  CHECK(none.trainer.step() >= 25);
  CHECK(none.trainer.step() <= 40);
  CHECK(checkpoint_steps(run.checkpoint_root).empty());
  CHECK(guarded("test", [&]() -> int { throw Diverged("x"); }) == kDivergedStatus);

  // 0: as long as it takes.
  run.divergence_patience = 0;
  run.until = 60;
  none.trainer.initialise();
  none.trainer.run(run);
  CHECK(none.trainer.step() == 60);
}

TEST_CASE("driver: an interrupt is heard between the micro-batches of a step, which is then as if never begun") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  StoppingTask task;
  // One step is more micro-batches than the ring has slots.
  constexpr int64_t kMicro = 200;
  TrainConfig config = config_of(3, {{1, 0.02}, {2, 0.01}});
  config.optimizer.accumulation_steps = kMicro;
  DriverRig whole(device, config, task);
  whole.trainer.run();

  task.stop_at = kMicro + kMicro / 2;  // in the middle of the second step
  RunOptions run;
  run.checkpoint_root = (folder / "checkpoint").string();
  DriverRig first(device, config, task);
  CHECK_THROWS_MATCHES(first.trainer.run(run), Interrupted,
                       MessageMatches(ContainsSubstring("step 1 of 3") && ContainsSubstring("is saved")));
  set_interrupted(false);
  task.stop_at = -1;
  CHECK(first.trainer.step() == 1);
  CHECK(first.session.read_words("micro_step")[0] == kMicro);

  DriverRig second(device, config, task);
  Driver driver(second.trainer, run);
  REQUIRE(driver.resume());
  driver.run();
  for (const char* name : {"parameters", "adam.m", "adam.v", "micro_step", "step"}) {
    CAPTURE(name);
    CHECK(second.session.read_bytes(name) == whole.session.read_bytes(name));
  }
}

TEST_CASE("driver: a last step that cannot be saved is an error, one on the way a warning") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const StoppingTask task;
  std::ofstream(folder / "file") << "in the way";
  RunOptions run;
  run.checkpoint_interval = 10;
  run.checkpoint_root = (folder / "file").string();
  DriverRig rig(device, config_of(20, {{1, 0.02}}), task);
  CHECK_NOTHROW(rig.trainer.run(run));
  CHECK(rig.trainer.step() == 20);
  rig.trainer.initialise();
  run.save_end = true;
  CHECK_THROWS_MATCHES(rig.trainer.run(run), UserError,
                       MessageMatches(ContainsSubstring("all 20 steps are done") && ContainsSubstring("--resume")));
}

TEST_CASE("driver: a question is asked once, at its step, over interrupts and saves") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const StoppingTask task;
  std::vector<int64_t> asked;
  int64_t at = 0;
  bool stop = false;
  RunOptions run;
  run.checkpoint_interval = 6;
  run.checkpoint_root = (folder / "checkpoint").string();
  run.describe = [] { return nlohmann::json{{"own", "words"}}; };
  std::string restored;
  run.restore = [&](const nlohmann::json& saved) { restored = saved.at("own").get<std::string>(); };
  run.next_question = [](int64_t step) { return (step / 7 + 1) * 7; };
  DriverRig rig(device, config_of(30, {{1, 0.02}}), task);
  run.ask = [&](int64_t step) {
    CHECK(rig.session.read_words("step")[0] == step);
    asked.push_back(step);
    if (stop && step == 14) set_interrupted(true);
  };
  stop = true;
  CHECK_THROWS_AS(rig.trainer.run(run), Interrupted);
  set_interrupted(false);
  CHECK(asked == std::vector<int64_t>{7, 14});
  at = rig.trainer.step();
  CHECK(at == 14);

  rig.trainer.initialise();
  stop = false;
  Driver driver(rig.trainer, run);
  REQUIRE(driver.resume());
  CHECK(restored == "words");
  CHECK(rig.trainer.step() == 14);
  driver.run();
  CHECK(asked == std::vector<int64_t>{7, 14, 21, 28});
  CHECK(driver.seconds() > 0);
}

TEST_CASE("the keys of a run become its schedule in one place", "[config]") {
  TrainingKeys keys;
  keys.learning_rate = 1e-4;
  keys.min_lr = 1e-2;  // nanoGPT allows a rate that rises
  keys.warmup_iters = 0;
  keys.max_iters = keys.lr_decay_iters = 100;
  const TrainConfig config = train_config(keys, 3);
  CHECK(std::abs(keys.learning_rate * graph::schedule_factor(100, config.optimizer.schedule) - 1e-2) < 1e-12);
  CHECK(config.members == std::vector<Member>{{1337, 1e-4}, {1338, 1e-4}, {1339, 1e-4}});
  keys.learning_rate = 0;
  CHECK_THROWS_MATCHES(train_config(keys), UserError,
                       MessageMatches(ContainsSubstring("min_lr") && ContainsSubstring("learning_rate")));
  keys.min_lr = 0;
  CHECK_NOTHROW(train_config(keys));
  keys.max_iters = keys.gradient_accumulation_steps = 1 << 20;
  CHECK_THROWS_MATCHES(train_config(keys), UserError, MessageMatches(ContainsSubstring("gradient_accumulation_steps")));
}

TEST_CASE("driver: a resumed run keeps its kernels, whatever is said of the device's matrices by then") {
  engine::Device device = tests::open_test_device();
  if (!device.target().f16_storage || device.target().subgroup_size < 4) SKIP("no f16, or no known subgroup size");
  // A GPU with matrices, each of which a lane computes.
  graph::Target gpu = device.target();
  gpu.cpu = false;
  gpu.cooperative = {.m = 8, .n = 8, .k = 8, .emulated = true};
  const tests::Folder folder;
  const std::string cache = (folder / "cache").string(), who = "gpu\nuuid\ndriver 1.0";
  const auto opened = [&](const engine::MatrixVerdict& verdict) {
    engine::keep_verdict(cache, who, gpu, verdict);
    return engine::with_verdict(gpu, engine::kept_verdict(cache, who, gpu).value());
  };
  const engine::MatrixVerdict fast, slow{.against = engine::slow_products(1.2)}, wrong{false, "a product has 3"};
  const auto texts = [](DriverRig& rig) {
    std::vector<std::string> all;
    for (const shaders::Shader& shader : rig.session.program("train").shaders()) all.push_back(shader.glsl);
    return all;
  };

  const tasks::ChainTask task({.modulus = 5, .length = 3, .held_out_share = 0});
  TrainConfig config = config_of(4, {{1, 0.01}});
  config.dtype = graph::DType::f16;
  constexpr int kWidth = 16;
  const std::string root = (folder / "checkpoint").string();
  DriverRig whole(device, config, task, opened(fast), kWidth);
  whole.trainer.run({.until = 2, .checkpoint_root = root, .checkpoint_interval = 2});
  whole.trainer.run();
  REQUIRE(Trainer::has_save(root, 1));

  const graph::Target now = opened(slow);
  CHECK(now.matmul_variant() == graph::MatmulVariant::shared_tile);
  DriverRig resumed(device, config, task, resumed_target(now, root, 1), kWidth);
  CHECK(texts(resumed) == texts(whole));
  REQUIRE(resumed.trainer.load(root) == 2);
  resumed.trainer.run();
  CHECK(resumed.session.read_bytes("parameters") == whole.session.read_bytes("parameters"));
  CHECK_THROWS_MATCHES(resumed_target(opened(wrong), root, 1), UserError,
                       MessageMatches(ContainsSubstring("not used: a product has 3")));

  // And a run that began without them goes on without.
  const nlohmann::json without = kernel_variants(opened(slow));
  for (const engine::MatrixVerdict& later : {fast, wrong})
    CHECK(with_variants(opened(later), without).matmul_variant() == graph::MatmulVariant::shared_tile);
}
