// Ensembles of adaptations over one base: off is the base, members are what their seed, rate and rank say, what is
// learned is there to be asked and to go on from.
#include "tests/support/device_suite.h"

#include "experiments/study/lesson_run.h"
#include "graph/error.h"

#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

namespace {

tasks::LessonOptions tiny_lesson(tasks::LessonShares shares, int32_t block) {
  tasks::LessonOptions options;
  options.digits = 2;
  options.keys = 8;
  options.table = std::make_shared<tasks::FactTable>(tasks::ChangingFactOptions{.facts = 8, .values = 4});
  options.shares = shares;
  options.block = block;
  return options;
}

TrainConfig tiny_training(std::vector<Member> members, int64_t steps) {
  return {.optimizer = recipe_optimizer(steps, 0), .members = std::move(members), .batch_size = 8, .steps = steps};
}

ModelConfig tiny_model(const tasks::LessonTask& task) {
  ModelConfig model = recipe_config(1, 16, task.vocab_size(), task.block_size());
  model.n_head = 2;
  model.position = Position::rotary;
  return model;
}

std::vector<std::vector<int32_t>> answers(Evaluator& evaluator, const tasks::Task& task) {
  return evaluator.answer(task, 1, 16, 1).responses;
}

}  // namespace

TEST_CASE("adapted: a lesson over a base, member by member", "[device][study]") {
  SURTSEY_NEED_DEVICE();
  const tasks::LessonTask old(tiny_lesson({.old = 1}, 12));
  const TrainedBase base = train_base(device, tiny_model(old), old, tiny_training({{0, 1e-2}}, 40));
  CHECK(base.parameter_count() == Model(base.model).parameter_count());
  const tasks::LessonTask lesson(tiny_lesson({.fresh = 1}, 12));
  BaseRun plain(device, base, 16, 12);
  const auto of_base = answers(plain.evaluator(), lesson)[0];

  const AdaptConfig config{
      .method = AdaptMethod::lora, .weights = "f32", .target_modules = {"all-linear"}, .r = 4, .lora_alpha = 8};
  const std::vector<Member> members = {{1, 1e-2}, {2, 1e-2}, {1, 2e-2}};
  AdaptedRun run(device, base, lesson,
                 {.config = config, .train = tiny_training(members, 12), .ranks = {1, 4, 4}, .rows = 16});
  // Nothing is learned yet: the base answers, three times.
  for (const auto& one : answers(run.evaluator(), lesson)) CHECK(one == of_base);
  run.train();
  CHECK(run.trainer().losses()[0].size() == 12);
  CHECK(run.trainer().losses()[0][0] == run.trainer().losses()[2][0]);  // the same data
  CHECK(run.trainer().losses()[0][0] != run.trainer().losses()[1][0]);
  CHECK(run.task_bytes(0) * 4 == run.task_bytes(1));
  CHECK(run.task_bytes(1) == 4 * run.trained_count());

  const auto learned = run.parameters();
  CHECK(learned[0].values != learned[2].values);
  const auto after = run.evaluator().answer(lesson, 0, 16, 1).nll;
  run.start_again();
  for (const auto& one : answers(run.evaluator(), lesson)) CHECK(one == of_base);
  run.start_from(learned);
  CHECK(run.evaluator().answer(lesson, 0, 16, 1).nll == after);

  CHECK_THROWS_WITH(
      AdaptedRun(device, base, lesson, {.config = config, .train = tiny_training(members, 1), .ranks = {1}}),
      ContainsSubstring("1 ranks for 3 members"));
  const AdaptConfig prompt{.method = AdaptMethod::prompt, .weights = "f32", .num_virtual_tokens = 4};
  CHECK_THROWS_WITH(AdaptedRun(device, base, lesson, {.config = prompt, .train = tiny_training(members, 1)}),
                    ContainsSubstring("4 virtual tokens before 12 tokens"));
}

TEST_CASE("adapted: what is taught and what is told, as cells", "[device][study]") {
  SURTSEY_NEED_DEVICE();
  const tasks::LessonTask old(tiny_lesson({.old = 1, .reading = 1}, 20));
  const TrainedBase base = train_base(device, tiny_model(old), old, tiny_training({{0, 1e-2}}, 20));
  LessonPlan plan{.lesson = tiny_lesson({.fresh = 1, .facts = 1}, 6), .test_items = 8, .rows = 8, .changes = true};
  plan.validation_items = 16;
  plan.ask_every = 2;
  plan.target_arm = "facts";
  plan.target = 0;
  Experiment experiment;
  experiment.variant = "ia3";
  experiment.width = 16;
  experiment.steps = 4;
  experiment.batch_size = 8;
  const PackResult taught = teach(device, base, plan, teaching("ia3"), experiment, {{0, 1e-2}, {1, 1e-2}});
  REQUIRE(taught.cells.size() == 2);
  for (const Cell& cell : taught.cells) {
    for (const char* arm : {"new", "old", "facts", kChanged, kStale, kUpdated, kOff})
      CHECK(cell.find_arm(arm) != nullptr);
    CHECK(cell.find_measure(kTaskBytes)->mean == 4.0 * double(cell.parameters));
    // The least target is reached when it is first asked, after half of the steps.
    CHECK(cell.find_measure(kTargetSeconds)->mean == cell.find_measure(kUpdateSeconds)->mean / 2);
    CHECK(cell.validation_loss.has_value());
    CHECK(!cell.validation_only);
  }
  const PackResult choosing = teach(device, base, plan, teaching("ia3"), experiment, {{1000, 1e-2}});
  CHECK(choosing.cells.front().validation_only);
  CHECK(choosing.samples.empty());

  experiment.variant = "told";
  const PackResult told = tell(device, base, plan, {.examples = {1}, .passages = {1, 4}}, experiment, {{0, 0}, {1, 0}});
  REQUIRE(told.cells.size() == 2);
  for (const char* arm : {"new", "new, 1 examples", "facts, 1 passages", "facts, 4 passages", "facts, 1 separated",
                          "facts, 1 questions", "facts, retrieved", "changed, retrieved", "stale, 4 passages"}) {
    CAPTURE(arm);
    CHECK(told.cells[0].find_arm(arm) != nullptr);
    CHECK(told.cells[0].find_measure(std::string(kQueryMilliseconds) + ", " + arm) != nullptr);
  }
  // A retrieved passage, the question and its answer.
  CHECK(told.cells[0].find_measure(std::string(kQueryTokens) + ", facts, retrieved")->mean == 5);
  CHECK_THROWS_WITH(teaching("lora"), ContainsSubstring("lora r8"));
}
