// The diagonal of the Fisher information against its definition, answer by answer on the host.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "experiments/evaluate/fisher.h"
#include "experiments/train/train_session.h"
#include "graph/functions.h"
#include "tests/support/small_training.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using graph::DType;
using graph::HostTensor;

namespace {

// The squared gradient of the log probability of one answer, by the interpreter.
std::vector<double> squared_gradient(const Model& model, const HostTensor& parameters, const tasks::Batch& answer) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Parameters values(*program.graph, model.store());
  const auto rows = [&](const char* name, DType dtype) {
    return program.graph->parameter(name, {dtype, {1, answer.block_size}});
  };
  const graph::Value logits = model.logits(values, rows("tokens", DType::u32));
  const graph::CrossEntropy loss =
      graph::cross_entropy(logits, rows("targets", DType::u32), rows("weights", DType::f32));
  program.outputs = {{"gradient", values.flat_gradient(loss.mean * loss.weight_sum)}};
  graph::State state = model.constants();
  state[graph::kParameters] = parameters;
  const graph::Shape shape = {1, answer.block_size};
  state["tokens"] = HostTensor({DType::u32, shape}, {answer.tokens.begin(), answer.tokens.end()});
  state["targets"] = HostTensor({DType::u32, shape}, {answer.targets.begin(), answer.targets.end()});
  state["weights"] = HostTensor({DType::f32, shape}, {answer.weights.begin(), answer.weights.end()});
  std::vector<double> gradient = graph::interpret(program, state).at("gradient").values;
  for (double& one : gradient) one *= one;
  return gradient;
}

}  // namespace

TEST_CASE("the Fisher information is the mean squared gradient over answers that the models draw themselves",
          "[device][evaluate]") {
  constexpr int32_t kAnswers = 5;
  engine::Device device = tests::open_test_device();
  const auto task = tests::small_task();
  const Model model = tests::small_model(task);
  const std::vector<Member> members = {{1, 0}, {2, 0}};
  engine::Session session(device, {.quiet = true});
  Evaluator evaluator(session, model, 2, 8, task.block_size());
  FisherDiagonal fisher(session, model, 2, kAnswers, task.block_size());
  session.allocate();
  write_models(session, model, members);
  const std::vector<HostTensor> found = fisher.of(evaluator, task, 0, 7);
  REQUIRE(found.size() == 2);
  // Asked again it starts anew, and other prompts give another.
  CHECK(fisher.of(evaluator, task, 0, 7)[1].values == found[1].values);
  CHECK(fisher.of(evaluator, task, 0, 8)[1].values != found[1].values);

  const std::vector<tasks::Item> items = task.test_items(0, kAnswers, 7);
  evaluator.decoder().set_sampling(1, 7);
  const ArmAnswers drawn = evaluator.write(task, items);
  evaluator.decoder().set_sampling(0, 0);
  CHECK(drawn.responses[0] != evaluator.write(task, items).responses[0]);
  for (size_t e = 0; e < 2; ++e) {
    std::vector<double> mean(size_t(model.store().flat_size()), 0);
    const auto responses = responses_of(drawn, e);
    for (size_t i = 0; i < items.size(); ++i) {
      tasks::Item written = items[i];
      std::copy(responses[i].begin(), responses[i].end(), written.sequence.begin() + written.prompt_length);
      const std::vector<double> own =
          squared_gradient(model, model.store().initialise(members[e].seed), task.to_batch(std::vector{written}));
      for (size_t p = 0; p < mean.size(); ++p) mean[p] += own[p] / kAnswers;
    }
    double largest = 0, furthest = 0;
    for (size_t p = 0; p < mean.size(); ++p) {
      largest = std::max(largest, mean[p]);
      furthest = std::max(furthest, std::abs(mean[p] - found[e].values[p]));
    }
    CHECK(largest > 0);
    CHECK(furthest <= 1e-4 * largest);
  }
  CHECK_THROWS(FisherDiagonal(session, model, 2, 0, task.block_size()));
}
