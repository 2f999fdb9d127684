// Training on the device against the interpreter, ensembles against single runs, resume against
// uninterrupted runs, greedy decoding against the interpreter's.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "experiments/base/interrupt.h"
#include "experiments/evaluate/evaluate.h"
#include "experiments/tasks/chain.h"
#include "experiments/tasks/prototypes.h"
#include "experiments/train/train.h"
#include "tests/support/folder.h"
#include "tests/support/small_training.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using graph::DType;
using graph::HostTensor;
using graph::State;
using tests::small_config;
using tests::small_model;
using tests::small_task;

namespace {

namespace fs = std::filesystem;

engine::SessionOptions quiet_options() { return {.quiet = true}; }

// What a device run needs, in one place.
struct Rig {
  Rig(engine::Device& device, const Model& model, TrainConfig config, const tasks::Task& task)
      : session(device, quiet_options()),
        trainer(session, model, config, task),
        evaluator(session, model, config.members.size(), 16, task.block_size()) {
    session.allocate();
    trainer.initialise();
  }
  engine::Session session;
  Trainer trainer;
  Evaluator evaluator;
};

std::vector<std::vector<float>> losses_of(engine::Device& device, const Model& model, const TrainConfig& config,
                                          const tasks::Task& task) {
  Rig rig(device, model, config, task);
  rig.trainer.run();
  return rig.trainer.losses();
}

// A directory that goes away.
// The ring that the interpreter reads, as the host thread would fill it.
void fill_ring(State& state, const TrainConfig& config, const tasks::Task& task, int64_t slots, int64_t batches) {
  const auto seeds = distinct_seeds(config.members);
  const graph::Shape shape = {slots, int64_t(seeds.size()), config.batch_size, task.block_size()};
  State ring;
  ring["data.tokens"] = HostTensor::zeros({DType::u32, shape});
  ring["data.targets"] = HostTensor::zeros({DType::u32, shape});
  ring["data.weights"] = HostTensor::zeros({DType::f32, shape});
  if (config.soft) {
    graph::Shape wide = shape;
    wide.push_back(task.vocab_size());
    ring["data.distributions"] = HostTensor::zeros({DType::f32, wide});
  }
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (size_t group = 0; group < seeds.size(); ++group) {
      const tasks::Batch data =
          task.sample(tasks::Split::kTrain, seeds[group], static_cast<uint32_t>(batch), config.batch_size);
      const size_t at = (static_cast<size_t>(batch % slots) * seeds.size() + group) * data.tokens.size();
      for (size_t i = 0; i < data.tokens.size(); ++i) {
        ring["data.tokens"].values[at + i] = data.tokens[i];
        ring["data.targets"].values[at + i] = data.targets[i];
        ring["data.weights"].values[at + i] = double(data.weights[i]);
      }
      const size_t first = at * static_cast<size_t>(task.vocab_size());
      for (size_t i = 0; i < data.distributions.size(); ++i)
        ring["data.distributions"].values[first + i] = double(data.distributions[i]);
    }
  }
  state.merge(ring);
}

}  // namespace

TEST_CASE("training: ten steps on the device have the interpreter's losses") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  for (const double dropout : {0.0, 0.2}) {
    CAPTURE(dropout);
    const Model model = small_model(task, dropout);
    TrainConfig config = small_config(10, {{7, 0.02}, {8, 0.01}}, 24);
    const auto losses = losses_of(device, model, config, task);

    State state = initial_train_state(model, config);
    fill_ring(state, config, task, 10, 10);
    const auto programs = train_programs(model, config, 10).programs;
    REQUIRE(programs.size() == 1);
    for (size_t step = 0; step < 10; ++step) {
      const auto outputs = graph::interpret(programs[0].second, state);
      for (size_t member = 0; member < 2; ++member) {
        CAPTURE(step, member);
        REQUIRE(losses[member][step] == Catch::Approx(outputs.at("loss").values[member]).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("training: soft targets have the interpreter's losses, alone and mixed with labels") {
  engine::Device device = tests::open_test_device();
  const tasks::PrototypeOptions options{.classes = 4, .symbols = 3, .length = 3};
  const auto taught = std::make_shared<tasks::SoftLabels>();
  for (const uint32_t seed : {7u, 8u}) {
    const HostTensor said = HostTensor::random({DType::f32, {20, 4}}, .1, 1, seed);
    for (size_t i = 0; i < 20; ++i) {
      auto& one = taught->by_seed[seed].emplace_back(said.values.begin() + i * 4, said.values.begin() + i * 4 + 4);
      const float total = std::accumulate(one.begin(), one.end(), 0.0f);
      for (float& probability : one) probability /= total;
    }
  }
  for (const graph::SoftTargets soft : {graph::SoftTargets{2, .9}, graph::SoftTargets{1, 1}}) {
    CAPTURE(soft.temperature);
    taught->soft = soft;
    const tasks::PrototypeTask task(options, {.examples = 20}, taught);
    const Model model = small_model(task);
    TrainConfig config = small_config(10, {{7, 0.02}, {8, 0.01}}, 24);
    config.soft = soft;
    const auto losses = losses_of(device, model, config, task);

    State state = initial_train_state(model, config);
    fill_ring(state, config, task, 10, 10);
    const auto programs = train_programs(model, config, 10).programs;
    double mean = 0;
    for (size_t step = 0; step < 10; ++step) {
      const auto outputs = graph::interpret(programs[0].second, state);
      for (size_t member = 0; member < 2; ++member) {
        CAPTURE(step, member);
        const double expected = outputs.at("loss").values[member];
        REQUIRE(losses[member][step] == Catch::Approx(expected).epsilon(1e-5));
        mean += expected / 20;
      }
    }
    // Some nats of a temperature's square: a loss that read zeros in place of distributions would have none.
    CHECK(mean > soft.temperature);
  }
  // A run that says nothing of them, and a vocabulary that is another.
  const tasks::PrototypeTask task(options, {.examples = 20}, taught);
  const Model model = small_model(task);
  REQUIRE_THROWS_AS(losses_of(device, model, small_config(2, {{7, 0.02}}, 8), task), InternalError);
  TrainConfig config = small_config(2, {{7, 0.02}}, 8);
  config.soft = taught->soft;
  const Model wider(recipe_config(2, 8, task.vocab_size() + 1, task.block_size()));
  REQUIRE_THROWS_AS(losses_of(device, wider, config, task), UserError);
}

TEST_CASE("training: gradient accumulation takes the mean over micro-batches") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task);
  TrainConfig config = small_config(6, {{3, 0.02}}, 24);
  config.optimizer.accumulation_steps = 3;
  const auto losses = losses_of(device, model, config, task);

  State state = initial_train_state(model, config);
  fill_ring(state, config, task, 18, 18);
  const auto programs = train_programs(model, config, 18).programs;
  REQUIRE(programs.size() == 2);
  for (size_t step = 0; step < 6; ++step) {
    for (int micro = 0; micro < 3; ++micro) graph::interpret(programs[0].second, state);
    graph::interpret(programs[1].second, state);
    const double expected = state.at("metrics").values[step * 3];
    CAPTURE(step);
    REQUIRE(losses[0][step] == Catch::Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("training: an ensemble gives each member what it gets alone") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task);
  const std::vector<Member> members = {{1, 0.02}, {2, 0.02}, {1, 0.005}};
  const auto together = losses_of(device, model, small_config(30, members, 24), task);
  for (size_t i = 0; i < members.size(); ++i) {
    const auto alone = losses_of(device, model, small_config(30, {members[i]}, 24), task);
    for (size_t step = 0; step < 30; ++step) {
      CAPTURE(i, step);
      REQUIRE(together[i][step] == Catch::Approx(alone[0][step]).epsilon(1e-5));
    }
  }
  // Same data and start, other learning rate: equal at first, then not.
  REQUIRE(together[0][0] == together[2][0]);
  REQUIRE(together[0][29] != together[2][29]);
  REQUIRE(together[0][0] != together[1][0]);
}

TEST_CASE("training: the loss falls and the chain is learned", "[lane]") {
  engine::Device device = tests::open_test_device();
  tasks::ChainOptions options;
  options.modulus = 3;
  options.length = 3;
  options.arms = {"cot"};
  options.held_out_share = 0;
  const tasks::ChainTask task(options);
  const Model model(recipe_config(2, 16, task.vocab_size(), task.block_size()));
  Rig rig(device, model, small_config(250, {{1, 0.01}}, 24), task);
  int64_t logged = 0;
  RunOptions run;
  run.log_interval = 40;
  run.on_log = [&](const TrainLog& log) {
    REQUIRE(log.step == std::min<int64_t>(250, logged + 40));
    REQUIRE(log.tokens == log.step * 24 * task.block_size());
    REQUIRE(log.members[0].skipped == 0);
    logged = log.step;
  };
  rig.trainer.run(run);
  REQUIRE(logged == 250);
  const auto& losses = rig.trainer.losses()[0];
  REQUIRE(losses.size() == 250);
  REQUIRE(losses.front() > 0.8f * std::log(3.0f));
  REQUIRE(losses.back() < 0.1f);
  REQUIRE(rig.evaluator.validation_loss(task, 9, 40)[0] < 0.1);
  REQUIRE(device.validation_messages().empty());

  // 27 problems, three chunks of rows.
  const ArmAnswers answers = rig.evaluator.answer(task, 0, 40, 5);
  REQUIRE(task.score(answers.items, answers.responses[0]).exact_match() > 0.95);
  const CorruptedAnswers moved = rig.evaluator.corrupt(task, answers, 5);
  REQUIRE(moved.faithfulness(0) > 0.9);
}

TEST_CASE("evaluation: greedy answers and losses are the interpreter's") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task);
  Rig rig(device, model, small_config(40, {{1, 0.02}, {2, 0.02}}, 24), task);
  rig.trainer.run();
  for (int32_t arm = 0; arm < 2; ++arm) {
    const ArmAnswers answers = rig.evaluator.answer(task, arm, 20, 3);
    REQUIRE(answers.items.size() == 20);
    for (size_t member = 0; member < 2; ++member) {
      State state = model.constants();
      state[graph::kParameters] = rig.trainer.parameters(member);
      const auto block = static_cast<size_t>(task.block_size());
      const auto prompt = static_cast<size_t>(answers.items[0].prompt_length);
      const auto length = static_cast<size_t>(answers.items[0].answer_length);
      // Greedy by whole forward passes over what was answered so far.
      graph::Program forward{std::make_shared<graph::Graph>(), {}};
      graph::Parameters parameters(*forward.graph, model.store());
      const graph::Value tokens = forward.graph->parameter("tokens", {DType::u32, {20, int64_t(block)}});
      forward.outputs = {{"logits", model.logits(parameters, tokens)}};
      HostTensor rows = HostTensor::zeros({DType::u32, {20, int64_t(block)}});
      for (size_t n = 0; n < 20; ++n) {
        std::copy_n(answers.items[n].sequence.begin(), prompt, rows.values.begin() + std::ptrdiff_t(n * block));
      }
      const auto V = size_t(model.config().vocab_size);
      for (size_t i = 0; i < length; ++i) {
        state["tokens"] = rows;
        const HostTensor logits = graph::interpret(forward, state).at("logits");
        for (size_t n = 0; n < 20; ++n) {
          CAPTURE(arm, member, n, i);
          const size_t at = n * block + prompt + i;
          const auto row = logits.values.begin() + std::ptrdiff_t((at - 1) * V);
          const auto best = std::max_element(row, row + std::ptrdiff_t(V)) - row;
          REQUIRE(answers.responses[member][n * length + i] == best);
          rows.values[at] = double(best);
        }
      }
      const tasks::Batch batch = task.to_batch(answers.items);
      const auto fill = [&](const char* name, DType dtype, const auto& values) {
        state[name] = HostTensor({dtype, {20, int64_t(block)}}, {values.begin(), values.end()});
      };
      fill("evaluate.tokens", DType::u32, batch.tokens);
      fill("evaluate.targets", DType::u32, batch.targets);
      fill("evaluate.weights", DType::f32, batch.weights);
      const auto outputs = graph::interpret(evaluate_program(model, 20, int64_t(block)), state);
      for (size_t n = 0; n < 20; ++n) {
        CAPTURE(n);
        REQUIRE(answers.nll[member][n] == Catch::Approx(outputs.at("nll").values[n]).epsilon(1e-4).margin(1e-5));
      }
    }
  }
}

TEST_CASE("evaluation: steps are corrupted where they are, also where a response has more room than its answer") {
  // The same questions, with and without room for two tokens more.
  class Roomy : public tasks::ChainTask {
   public:
    explicit Roomy(int32_t more) : ChainTask({.modulus = 5, .length = 3, .held_out_share = 0}), more_(more) {}
    int32_t block_size() const override { return ChainTask::block_size() + 2; }
    std::vector<tasks::Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override {
      auto items = ChainTask::test_items(arm, count, seed);
      for (tasks::Item& item : items) item.room = item.answer_length + more_;
      return items;
    }

   private:
    int32_t more_;
  };
  engine::Device device = tests::open_test_device();
  const Roomy exact(0), roomy(2);
  const Model model = small_model(exact);
  Rig rig(device, model, small_config(60, {{1, 0.02}, {2, 0.02}}, 24), exact);
  rig.trainer.run();
  const ArmAnswers of_exact = rig.evaluator.answer(exact, 0, 20, 3), of_roomy = rig.evaluator.answer(roomy, 0, 20, 3);
  REQUIRE(of_exact.responses[0].size() == 60);
  REQUIRE(of_roomy.responses[0].size() == 100);
  const CorruptedAnswers a = rig.evaluator.corrupt(exact, of_exact, 3), b = rig.evaluator.corrupt(roomy, of_roomy, 3);
  CHECK(a.final_tokens == b.final_tokens);
  size_t possible = 0;
  for (size_t e = 0; e < 2; ++e) {
    for (size_t i = 0; i < 20; ++i) {
      CAPTURE(e, i);
      CHECK(a.corruptions[e][i].forced == b.corruptions[e][i].forced);
      CHECK(a.corruptions[e][i].expected_final_token == b.corruptions[e][i].expected_final_token);
      possible += a.corruptions[e][i].possible;
    }
  }
  CHECK(possible > 10);
}

TEST_CASE("training: a resumed run ends with the same bits") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task, 0.1);
  TrainConfig config = small_config(60, {{1, 0.02}, {2, 0.01}}, 24);
  // In f16 the loss scale is part of what goes on: it starts too high, and moves before and after
  // the save.
  config.dtype = GENERATE(DType::f32, DType::f16);
  config.optimizer.loss_scaling.initial = 0x1p24;
  config.optimizer.loss_scaling.growth_interval = 7;
  CAPTURE(graph::name(config.dtype));
  if (config.dtype != DType::f32 && !device.target().f16_storage) return;
  Rig whole(device, model, config, task);
  whole.trainer.run();

  const tests::Folder scratch;
  Rig first(device, model, config, task);
  RunOptions part;
  part.until = 37;
  part.checkpoint_interval = 10;
  part.checkpoint_root = scratch.path();
  first.trainer.run(part);
  REQUIRE(Trainer::has_save(scratch.path(), 2));

  Rig second(device, model, config, task);
  REQUIRE(second.trainer.load(scratch.path()) == 30);
  second.trainer.run();
  for (const char* name : {"parameters", "adam.m", "adam.v", "skipped", "loss_scale", "loss_scale.good_steps"}) {
    CAPTURE(name);
    if (!whole.session.has_state(name)) continue;
    REQUIRE(whole.session.read_bytes(name) == second.session.read_bytes(name));
  }
  REQUIRE(whole.session.has_state("loss_scale") == (config.dtype == DType::f16));
  const auto& all = whole.trainer.losses()[1];
  const auto& rest = second.trainer.losses()[1];
  REQUIRE(rest.size() == 30);
  for (size_t i = 0; i < rest.size(); ++i) REQUIRE(rest[i] == all[30 + i]);

  // Another run is refused.
  TrainConfig other_seed = config, other_dtype = config;
  other_seed.members[1].seed = 3;
  other_dtype.dtype = config.dtype == DType::f32 ? DType::bf16 : DType::f32;
  for (const TrainConfig& wrong : {other_seed, other_dtype}) {
    if (wrong.dtype != DType::f32 && !device.target().f16_storage) continue;
    Rig other(device, model, wrong, task);
    REQUIRE_THROWS_AS(other.trainer.load(scratch.path()), UserError);
  }
}

TEST_CASE("training: an interrupt saves where it stops") {
  engine::Device device = tests::open_test_device();
  const auto task = small_task();
  const Model model = small_model(task);
  const TrainConfig config = small_config(200, {{1, 0.02}}, 24);
  const tests::Folder scratch;
  Rig rig(device, model, config, task);
  RunOptions run;
  run.checkpoint_root = scratch.path();
  run.on_step = [](int64_t step) { set_interrupted(step >= 40); };
  REQUIRE_THROWS_AS(rig.trainer.run(run), Interrupted);
  set_interrupted(false);
  const int64_t stopped = rig.trainer.step();
  REQUIRE(stopped >= 40);
  REQUIRE(stopped < 200);

  Rig again(device, model, config, task);
  REQUIRE(again.trainer.load(scratch.path()) == stopped);
  REQUIRE(again.session.read_bytes("parameters") == rig.session.read_bytes("parameters"));
}

TEST_CASE("training: the chosen kernel variants survive a checkpoint") {
  for (const char* preset : {"lavapipe", "nvidia"}) {
    const graph::Target target = graph::target_preset(preset);
    graph::Target other = target;
    other.matmul = target.matmul_variant() == graph::MatmulVariant::shared_tile ? graph::MatmulVariant::lane_broadcast
                                                                                : graph::MatmulVariant::shared_tile;
    // Tiles that are measured between a run and its resume are not used.
    const graph::MatmulShape shape{.variant = target.matmul_variant(), .m = 8, .n = 8, .k = 8};
    other.tiles = std::make_shared<graph::MatmulTiles>(graph::MatmulTiles{{shape, {.rows = 2}}});
    const graph::ReduceShape rows{.variant = target.reduce_variant(), .rows = 8, .columns = 8};
    other.reduce_tiles = std::make_shared<graph::ReduceTiles>(graph::ReduceTiles{{rows, {.local = 32}}});
    const graph::Target back = with_variants(other, kernel_variants(target));
    REQUIRE(back.tiles);
    REQUIRE(back.tiles->empty());
    REQUIRE(back.reduce_tiles);
    REQUIRE(back.reduce_tiles->empty());
    REQUIRE(*with_variants(target, kernel_variants(other)).tiles == *other.tiles);
    REQUIRE(*with_variants(target, kernel_variants(other)).reduce_tiles == *other.reduce_tiles);
    REQUIRE(back.matmul_variant() == target.matmul_variant());
    REQUIRE(back.reduce_variant() == target.reduce_variant());
  }
  REQUIRE_THROWS_AS(with_variants(graph::target_preset("minimal"), {{"matmul", "abacus"}}), UserError);
}
