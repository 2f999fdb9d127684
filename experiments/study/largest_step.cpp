#include "experiments/study/largest_step.h"

#include "experiments/study/plan.h"
#include "experiments/train/train.h"
#include "experiments/train/train_session.h"

namespace surtsey::experiments {
namespace {

// Every member reads the batch of its seed in the only slot of the ring.
void fill_ring(engine::Session& session, const PackStep& step) {
  std::vector<uint32_t> tokens, targets;
  std::vector<float> weights, distributions;
  for (const tasks::Batch& batch : step.batches) {
    tokens.insert(tokens.end(), batch.tokens.begin(), batch.tokens.end());
    targets.insert(targets.end(), batch.targets.begin(), batch.targets.end());
    weights.insert(weights.end(), batch.weights.begin(), batch.weights.end());
    distributions.insert(distributions.end(), batch.distributions.begin(), batch.distributions.end());
  }
  session.write("data.tokens", tokens);
  if (session.has_state("data.targets")) session.write("data.targets", targets);
  session.write("data.weights", weights);
  if (!distributions.empty()) session.write("data.distributions", distributions);
}

}  // namespace

PackStep largest_step(engine::Device& device, const Study& study) {
  PackStep largest;
  double most = 0;
  for (const PlannedPack& pack : packs_of(study, device.info())) {
    if (!pack.counts()) continue;
    PackStep step = first_step(pack.experiment, pack.members);
    const auto tokens =
        static_cast<double>(step.train.tokens_per_step(step.model)) * static_cast<double>(step.train.members.size());
    const double flops = estimated_training_flops(Model(step.model).parameter_count(), tokens);
    if (flops <= most) continue;
    most = flops;
    largest = std::move(step);
  }
  check(most > 0, "{} would train nothing", study.name);
  return largest;
}

void profile_pack_step(engine::Device& device, const PackStep& step, const ProfileRequest& request) {
  const Model model(step.model);
  engine::Session session(device, {.driver_statistics = true});
  const engine::SessionProgram program =
      session.add_program("train", train_step(model, step.train, 1), compile_options(step.train, "train"));
  session.allocate();
  write_state(session, initial_train_state(model, step.train));
  if (!step.batches.empty()) fill_ring(session, step);
  run_profile(
      session, program,
      fmt::format("{}: {} models of width {}, {} parameters each, {} x {} tokens", step.name, step.train.members.size(),
                  step.model.n_embd, model.parameter_count(), step.train.batch_size, step.train.block(step.model)),
      json_text(step.model), request);
}

void analyze_pack_step(const PackStep& step, const AnalysisRequest& request) {
  const Model model(step.model);
  run_analysis(
      train_step(model, step.train), compile_options(step.train, "train"), request,
      fmt::format("{}: {} models of {} parameters", step.name, step.train.members.size(), model.parameter_count()));
}

}  // namespace surtsey::experiments
