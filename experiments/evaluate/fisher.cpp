#include "experiments/evaluate/fisher.h"

#include "experiments/models/members.h"
#include "experiments/train/train_session.h"
#include "graph/functions.h"

#include <algorithm>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Value;

// Adds the squared gradient of one answer's log probability to "fisher".
graph::Program fisher_program(const Model& model, int64_t answers, int64_t block) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const Value row = graph.parameter("fisher.row", {DType::u32, {}});
  const auto read = [&](const char* name, DType dtype) {
    return graph::reshape(graph::gather(graph.parameter(name, {dtype, {answers, block}}), row, 0), {1, block});
  };
  const Value logits = model.logits(parameters, read("fisher.tokens", DType::u32));
  const Value weights = read("fisher.weights", DType::f32);
  const Value loss =
      graph::sum(graph::cross_entropy(logits, read("fisher.targets", DType::u32)).per_token * weights, {0, 1}, false);
  const Value gradient = parameters.flat_gradient(loss);
  const Value sum = graph.parameter("fisher", model.store().flat_type());
  graph.assign(sum, sum + gradient * gradient);
  graph.assign(row, row + graph::scalar(graph, 1, DType::u32));
  return program;
}

}  // namespace

FisherDiagonal::FisherDiagonal(engine::Session& session, const Model& model, size_t members, int32_t answers,
                               int32_t block)
    : session_(session), type_(model.store().flat_type()), members_(members), answers_(answers), block_(block) {
  check(answers > 0, "[fisher] {} answers", answers);
  program_ =
      session.add_program("fisher", for_members(fisher_program(model, answers, block), members,
                                                {"fisher", "fisher.tokens", "fisher.targets", "fisher.weights"}));
}

std::vector<HostTensor> FisherDiagonal::of(Evaluator& evaluator, const tasks::Task& task, int32_t arm, uint32_t seed) {
  check(task.block_size() == block_, "[fisher] sequences of {} tokens where the program has {}", task.block_size(),
        block_);
  const std::vector<tasks::Item> items = task.test_items(arm, answers_, seed);
  check(std::ssize(items) == answers_, "[fisher] {} has {} prompts, not {}", task.name(), items.size(), answers_);
  evaluator.decoder().set_sampling(1, seed);
  const ArmAnswers drawn = evaluator.write(task, items);
  evaluator.decoder().set_sampling(0, 0);
  std::vector<uint32_t> tokens, targets;
  std::vector<float> weights;
  for (size_t e = 0; e < members_; ++e) {
    std::vector<tasks::Item> written = items;
    const auto responses = responses_of(drawn, e);
    for (size_t i = 0; i < written.size(); ++i) {
      check(is_written(responses[i]), "[fisher] model {} puts out what is no number", e);
      std::copy_n(responses[i].begin(), written[i].answer_length,
                  written[i].sequence.begin() + written[i].prompt_length);
    }
    const tasks::Batch batch = task.to_batch(written);
    tokens.insert(tokens.end(), batch.tokens.begin(), batch.tokens.end());
    targets.insert(targets.end(), batch.targets.begin(), batch.targets.end());
    weights.insert(weights.end(), batch.weights.begin(), batch.weights.end());
  }
  session_.write("fisher.tokens", tokens);
  session_.write("fisher.targets", targets);
  session_.write("fisher.weights", weights);
  session_.write("fisher.row", std::vector<uint32_t>{0});
  session_.write("fisher", HostTensor::zeros(session_.state_type("fisher")));
  program_.run(static_cast<uint32_t>(answers_));
  const std::vector<float> sums = session_.read_floats("fisher");
  const auto size = static_cast<size_t>(type_.shape[0]);
  std::vector<HostTensor> result;
  for (size_t e = 0; e < members_; ++e) {
    HostTensor& one = result.emplace_back(HostTensor::zeros(type_));
    for (size_t i = 0; i < size; ++i) one.values[i] = double(sums[e * size + i]) / answers_;
    one.round_to_storage();
  }
  return result;
}

std::vector<HostTensor> fisher_diagonals(engine::Device& device, const Model& model,
                                         const std::vector<HostTensor>& parameters, const tasks::Task& task,
                                         int32_t arm, int32_t answers, uint32_t seed) {
  engine::Session session(device, {.quiet = true});
  Evaluator evaluator(session, model, parameters.size(), answers, task.block_size());
  FisherDiagonal fisher(session, model, parameters.size(), answers, task.block_size());
  session.allocate();
  write_state(session, model.constants());
  std::vector<float> all;
  for (const HostTensor& one : parameters) all.insert(all.end(), one.values.begin(), one.values.end());
  session.write(graph::kParameters, all);
  return fisher.of(evaluator, task, arm, seed);
}

}  // namespace surtsey::experiments
