#include "experiments/align/preference_training.h"

#include "graph/error.h"
#include "graph/functions.h"
#include "graph/interpret.h"

namespace surtsey::experiments::align {
namespace {

struct PairOf {
  Value chosen, rejected;  // f32 [P]
};

PairOf pairs_of(Value rows) {
  const int64_t count = graph::element_count(rows.shape());
  ensure(count % 2 == 0, "[align] pairs of {} rows", count);
  const std::vector<Value> parts = graph::split(graph::reshape(rows, {count / 2, 2}), 1, {1, 1});
  return {graph::reshape(parts[0], {count / 2}), graph::reshape(parts[1], {count / 2})};
}

Value mean_of(Value rows) { return graph::mean(graph::stop_gradient(rows), {0}, false); }

Objective objective_of(const Preferences& made, const std::vector<Value>& more = {}) {
  Objective objective{made.loss, {mean_of(made.chosen), mean_of(made.rejected), made.margin, made.accuracy}};
  for (const Value one : more) objective.measures.push_back(mean_of(one));
  return objective;
}

const std::vector<std::string> kRewards = {"rewards/chosen", "rewards/rejected", kPreferenceMargin,
                                           kPreferenceAccuracy};

}  // namespace

PreferenceObjective dpo_objective(const DpoOptions& options) {
  PreferenceObjective objective{.measures = kRewards};
  objective.measures.insert(objective.measures.end(), {"logps/chosen", "logps/rejected"});
  objective.function = [options](const Sequences& batch) {
    Value policy = batch.log_probs, reference = graph::reshape(batch.numbers, policy.shape());
    if (options.loss_type == DpoLoss::ipo) {
      policy = policy / batch.learned;
      reference = reference / batch.learned;
    }
    const PairOf now = pairs_of(policy), before = pairs_of(reference), sums = pairs_of(batch.log_probs);
    const Preferences made = dpo_loss({now.chosen, now.rejected}, {before.chosen, before.rejected}, options);
    return objective_of(made, {sums.chosen, sums.rejected});
  };
  return objective;
}

PreferenceObjective reward_objective(const RewardOptions& options) {
  PreferenceObjective objective{.measures = kRewards};
  objective.function = [options](const Sequences& batch) {
    const PairOf rewards = pairs_of(batch.scores);
    return objective_of(reward_loss(rewards.chosen, rewards.rejected, options, pairs_of(batch.labels).chosen));
  };
  return objective;
}

MeasuredObjective measured(const PreferenceObjective& objective, const SequenceNumbers& rows) {
  graph::Graph graph;
  graph::State state;
  const auto value = [&](const char* name, const std::vector<double>& numbers, bool column) -> Value {
    if (numbers.empty()) return {};
    graph::Shape shape = {int64_t(numbers.size())};
    if (column) shape.push_back(1);
    const graph::Type type = {graph::DType::f32, shape};
    state[name] = {type, numbers};
    return graph.parameter(name, type);
  };
  const Objective made = objective.function({.log_probs = value("log_probs", rows.log_probs, false),
                                             .learned = value("learned", rows.learned, false),
                                             .scores = value("scores", rows.scores, true),
                                             .labels = value("labels", rows.labels, true),
                                             .numbers = value("numbers", rows.numbers, true)});
  std::vector<Value> outputs = {made.loss};
  outputs.insert(outputs.end(), made.measures.begin(), made.measures.end());
  MeasuredObjective result;
  for (const graph::HostTensor& tensor : graph::evaluate(graph, outputs, state))
    result.measures.push_back(tensor.values.at(0));
  result.loss = result.measures.front();
  result.measures.erase(result.measures.begin());
  return result;
}

}  // namespace surtsey::experiments::align
