#include "experiments/study/attempt.h"

#include <chrono>
#include <cmath>
#include <set>

#include "experiments/base/join.h"
#include "experiments/study/plan.h"

namespace surtsey::experiments {
namespace {

ModelTry try_model(engine::Device& device, const Experiment& experiment, const Member& member) {
  const std::vector<Member> members = {member};
  const Model model(model_config(experiment));
  engine::Session session(device, {.quiet = true});
  const std::unique_ptr<Trainer> trainer = make_trainer(session, model, experiment, members);
  const PackCost cost = session_cost(session, *trainer);
  ModelTry result{cell_name(experiment, member), cost.parameters, cost.bytes};
  session.allocate();
  trainer->initialise();
  const auto start = std::chrono::steady_clock::now();
  trainer->run();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const float loss : trainer->losses()[0]) {
    check(std::isfinite(loss), "{}: the loss is {} after {} of {} steps", result.cell, loss, result.losses.size(),
          kTrySteps);
    result.losses.push_back(loss);
  }
  return result;
}

}  // namespace

std::vector<ModelTry> try_study(const Study& study, engine::Device& device) {
  std::vector<ModelTry> models;
  std::set<std::string> seen;
  for (const PlannedPack& pack : packs_of(study, device.info())) {
    if (!pack.counts()) continue;
    Experiment one = pack.experiment;
    one.steps = kTrySteps;
    one.batch_size = 1;
    // Budgets, seeds and rates make no other model.
    const std::string kind = one.task + "\n" + json_text(model_config(one));
    if (!seen.insert(kind).second) continue;
    models.push_back(try_model(device, one, pack.members.front()));
  }
  return models;
}

std::string try_text(const std::vector<ModelTry>& models) {
  std::string text =
      fmt::format("{:>10}  {:>9}  {:>9}  {:<26}  {}\n", "parameters", "MiB", "seconds", "losses", "first cell");
  for (const ModelTry& one : models) {
    std::vector<std::string> losses;
    for (const double loss : one.losses) losses.push_back(fmt::format("{:.4g}", loss));
    text += fmt::format("{:10}  {:9.1f}  {:9.2f}  {:<26}  {}\n", one.parameters,
                        static_cast<double>(one.bytes) / (1 << 20), one.seconds, join(losses, ", "), one.cell);
  }
  return text + fmt::format("{} models took {} steps of one sequence\n", models.size(), kTrySteps);
}

}  // namespace surtsey::experiments
