// Ensembles of adaptations over one trained base: what studies of adapting train, and ask.
//
//   const TrainedBase base = train_base(device, config, task, {.optimizer = .., .batch_size = 128, .steps = 300});
//   AdaptedRun run(device, base, lesson, {.config = {.method = AdaptMethod::lora, .r = 8}, .train = train});
//   run.train();
//   run.evaluator().answer(task, 0, 500, seed);   // of every member
//
// Members share the frozen base, products with it have the rows of all (adapt/README.md). They differ in seed, learning
// rate, rank, and in where they start.
//
// Letters: E members, P parameters that train.
#pragma once

#include "experiments/adapt/adaptation.h"
#include "experiments/evaluate/evaluate.h"
#include "experiments/sweeps/pack.h"
#include "experiments/train/train.h"

#include <functional>
#include <optional>
#include <vector>

namespace surtsey::experiments {

// A model that others are adapted from.
struct TrainedBase {
  ModelConfig model;
  graph::State parameters;  // by name, f32
  double seconds = 0;       // of its training
  double flops = 0;
  int64_t tokens = 0;

  int64_t parameter_count() const;
};

// The first member of `train` learns the source. UserError as Trainer has it; one that diverges is a base all the same,
// and so are the models over it.
TrainedBase train_base(engine::Device& device, const ModelConfig& model, const tasks::DataSource& source,
                       TrainConfig train);

// The base as it is, to be asked.
class BaseRun {
 public:
  // Questions have `block` tokens with their answers, at most the model's; `rows` go through at once.
  BaseRun(engine::Device& device, const TrainedBase& base, int32_t rows, int32_t block);

  Evaluator& evaluator() { return *evaluator_; }

 private:
  Model model_;
  engine::Session session_;
  std::optional<Evaluator> evaluator_;
};

struct AdaptRequest {
  AdaptConfig config;
  // What all members share, and their seeds and rates. The block is that of what is learned; the base lies elsewhere.
  TrainConfig train;
  std::vector<int64_t> ranks = {};             // LoRA: of each member, up to config.r; empty: all have that
  std::vector<graph::HostTensor> starts = {};  // f32 [P] of each member; empty: Adaptation::start() by its seed
  int32_t rows = 256;                          // that are asked at once
  // Adds programs of the caller's own, before the session is allocated.
  std::function<void(engine::Session& session, const Model& model)> programs = {};
};

class AdaptedRun {
 public:
  // The base and what is learned must outlive it. UserError: what Adaptation and Trainer say; ranks or starts that are
  // not one a member; virtual tokens for which the base's block has no room.
  AdaptedRun(engine::Device& device, const TrainedBase& base, const tasks::DataSource& learned, AdaptRequest request);

  // All steps, from the start or from where the last call stopped. Throws what Driver::run() throws, but goes on with
  // models that all diverged: what they answer is a finding.
  void train(const RunOptions& options = {});
  // Back to where members start: with what changes nothing at first (LoRA, IA3, adapters) the base, as it is kept.
  void start_again();
  // From now on members start from these, f32 [P] each, and do so.
  void start_from(std::vector<graph::HostTensor> parameters);

  // Asks what the members are now; questions have the block of what is learned.
  Evaluator& evaluator() { return *evaluator_; }
  Trainer& trainer() { return *trainer_; }
  engine::Session& session() { return session_; }
  const Model& model() const { return model_; }
  const Adaptation& adaptation() const { return adaptation_; }
  const std::vector<Member>& members() const { return request_.train.members; }
  double seconds() const { return seconds_; }  // of training, questions left out, all members together

  int64_t trained_count() const;                // parameters that train, of one member
  int64_t task_bytes(size_t member) const;      // of what a task keeps beside the base: f32, a member's own rank
  std::vector<graph::HostTensor> parameters();  // f32 [P] of each member

  // The cells of the members with what training says of them: `parameters` are those that train.
  std::vector<Cell> cells(const Experiment& experiment) const;

 private:
  AdaptRequest request_;
  Model model_;
  Adaptation adaptation_;
  engine::Session session_;
  std::optional<Trainer> trainer_;
  std::optional<Evaluator> evaluator_;
  double seconds_ = 0;
};

// A start for method full that knows nothing: "from scratch". f32 [P] by each member's seed.
std::vector<graph::HostTensor> untrained_starts(const ModelConfig& model, const std::vector<Member>& members);

}  // namespace surtsey::experiments
