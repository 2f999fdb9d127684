// Task vectors: residual streams that are read in one prompt and put into another.
#include "experiments/evaluate/task_vectors.h"
#include "experiments/models/members.h"
#include "experiments/models/model.h"
#include "experiments/train/checkpoint.h"
#include "tests/support/support_device.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <map>
#include <set>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using graph::State;

namespace {

std::shared_ptr<const tasks::PermutationTask> permutations(const tasks::PermutationOptions& options) {
  return std::make_shared<tasks::PermutationTask>(options);
}

}  // namespace

TEST_CASE("task vectors are read from prompts of one task and put into others") {
  const auto task = permutations({.symbols = 6, .tasks = 3, .shots = 2});
  const TaskVectors vectors(task, 200, 2);
  const auto pairs = vectors.draw(4);
  REQUIRE(pairs.size() == 200);
  std::set<int32_t> drawn;
  for (const TaskVectors::Pair& pair : pairs) {
    drawn.insert(pair.permutation);
    const auto& image = task->permutations()[size_t(pair.permutation)];
    REQUIRE(pair.few_shot.size() == 8);
    for (size_t t = 0; t < 6; t += 3) {
      REQUIRE(pair.few_shot[t + 1] == 6);
      REQUIRE(pair.few_shot[t + 2] == image[size_t(pair.few_shot[t])]);
      REQUIRE(pair.few_shot[t] != pair.few_shot[6]);
    }
    REQUIRE(pair.few_shot_answer == image[size_t(pair.few_shot[6])]);
    REQUIRE(pair.zero_shot.size() == 2);
    REQUIRE(pair.zero_shot_answer == image[size_t(pair.zero_shot[0])]);
    REQUIRE(pairs[pair.other].permutation != pair.permutation);
  }
  REQUIRE(drawn.size() == 3);
  REQUIRE_THROWS_AS(TaskVectors(permutations({.symbols = 6, .tasks = 1, .shots = 2}), 10, 2), UserError);
}

TEST_CASE("a stream that is the same is patched without effect, another is not", "[device]") {
  engine::Device device = tests::open_test_device();
  // Without examples both prompts are "x >": only the streams behind the embeddings differ, by x.
  const auto task = permutations({.symbols = 10, .tasks = 6, .shots = 0});
  const TaskVectors vectors(task, 300, 2);
  const Model model(recipe_config(2, 16, task->vocab_size(), task->block_size()));
  engine::Session session(device, {.quiet = true});
  vectors.add_programs(session, model, 2);
  session.allocate();
  std::vector<State> members(2);
  for (uint32_t e = 0; e < 2; ++e) members[e][graph::kParameters] = model.store().initialise(e);
  session.write(graph::kParameters, ensemble_state(members, member_state_names()).at(graph::kParameters));
  const auto measures = vectors.measure(session, 2, 1);
  const auto pairs = vectors.draw(1);
  for (const auto& list : measures) {
    std::map<std::string, double> by_name;
    for (const Measure& one : list) by_name[one.name] = one.mean;
    REQUIRE(by_name.size() == 8);
    CHECK(by_name.at("patched.0") == by_name.at("zero_shot"));
    CHECK(by_name.at("control.0") == by_name.at("zero_shot"));
    CHECK(by_name.at("patched.2") != by_name.at("zero_shot"));
  }
  // After the last block the answer is that of the prompt the vector comes from: the model's answer
  // to x' where x was asked. It is right as often as that answer happens to be the image of x.
  const auto answers = session.program("task_vectors").read_words("answer");  // control.2 of all
  for (size_t e = 0; e < 2; ++e) {
    int64_t right = 0;
    for (size_t n = 0; n < pairs.size(); ++n) {
      right += answers[e * 300 + n] == uint32_t(pairs[n].zero_shot_answer) ? 1 : 0;
    }
    CHECK(measures[e].back().name == "control.2");
    CHECK(measures[e].back().mean == Approx(double(right) / 300));
    // Equal queries of the other prompt give equal answers.
    std::map<int32_t, uint32_t> by_query;
    for (size_t n = 0; n < pairs.size(); ++n) {
      const int32_t query = pairs[pairs[n].other].few_shot[0];
      CHECK(by_query.emplace(query, answers[e * 300 + n]).first->second == answers[e * 300 + n]);
    }
  }
}
