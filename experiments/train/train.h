// Training on a device: an ensemble of models, a data ring ahead of it, a metrics ring behind it.
//
//   Model model(config);
//   engine::Session session(device);
//   Trainer trainer(session, model, train, source);  // adds its programs
//   Evaluator evaluator(session, model, ...);        // so may others
//   session.allocate();
//   trainer.initialise();                            // or Driver::resume()
//   trainer.run({.on_log = ...});
//
// Up to 16 steps go out in a submission; logs and checkpoints fall between submissions. The state
// of a run is a function of its configuration and step alone, so a resumed run ends with the bits
// of an uninterrupted one on the same device. The loop is driver.h's.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/session.h"
#include "experiments/train/checkpoint.h"
#include "experiments/train/data_ring.h"
#include "experiments/train/train_program.h"

namespace surtsey::experiments {

// What the device noted of one step of one member.
struct StepMetrics {
  float loss = 0;
  float gradient_norm = 0;  // before clipping; not finite where the step was skipped
  float learning_rate = 0;
};

// Of one member, over the steps since the last log.
struct MemberMetrics {
  double loss = 0;             // mean
  double gradient_norm = 0;    // mean over the steps that were not skipped, before clipping; NaN where all were
  double learning_rate = 0;    // of the last step
  int64_t skipped = 0;         // steps with a gradient that was not finite, since the start
  int64_t skipped_in_row = 0;  // the newest of them, since this process began
};

struct TrainLog {
  int64_t step = 0;    // steps done
  int64_t tokens = 0;  // of one member
  double seconds = 0;  // of training since run() began
  std::vector<MemberMetrics> members;
};

// What a run does beside its steps; TrainConfig says what is trained.
struct RunOptions {
  int64_t until = 0;          // stop after this step; 0: the end of the run
  int64_t log_interval = 50;  // steps
  int64_t submit_steps = 16;  // most steps in a submission
  // Steps in a row without a finite gradient, of every member, that end the run; 0: none do.
  int64_t divergence_patience = 100;

  std::string checkpoint_root;      // empty: no checkpoints
  int64_t checkpoint_interval = 0;  // steps; 0: only on an interrupt
  bool save_end = false;            // the last step too
  // What goes into config.json beside the model, asked for at each save; and that of the save that is gone on from.
  std::function<nlohmann::json()> describe;
  std::function<void(const nlohmann::json&)> restore;

  // The first step after `step` at which the models are asked; none where there is no function, or beyond the end. A
  // question is asked once, also over a resumed run.
  std::function<int64_t(int64_t step)> next_question;
  std::function<void(int64_t step)> ask;

  std::function<void(const TrainLog&)> on_log;  // every log_interval steps, before questions and at the end
  std::function<void(int64_t step)> on_step;    // after each submission; steps handed over
};

class Trainer {
 public:
  // Adds the training programs to a session that is not yet allocated. Model and source must
  // outlive the trainer. UserError: the source does not fit the model.
  Trainer(engine::Session& session, const Model& model, TrainConfig config, const tasks::DataSource& source);
  // On the generated data of the configuration.
  Trainer(engine::Session& session, const Model& model, TrainConfig config);
  ~Trainer();

  const TrainConfig& config() const { return config_; }
  const Model& model() const { return model_; }
  int64_t step() const { return step_; }  // optimizer steps done
  // Floating-point operations of one step of one member, from the plan.
  double flops_per_step() const;

  // Parameters by seed, optimizer at zero, step 0.
  void initialise();
  // The same, but every member starts with these weights (ParameterStore::to_state(), or the state of a checkpoint,
  // whose other tensors are not read): a fork.
  void initialise(const graph::State& weights);
  // Or each with weights of its own, f32 [P]; what is frozen is by seed, or elsewhere.
  void initialise_each(const std::vector<graph::HostTensor>& parameters);

  // Driver(*this, options).run(): see driver.h.
  void run(const RunOptions& options = {});

  // The parts of a run. Batches for the steps until `until` are made ahead from here on ..
  void start_data(int64_t until);
  void stop_data();
  // .. this many steps, at most most_steps(), are handed over; the ticket. Nothing when an interrupt came between two
  // micro-batches of a step: its state is then as if that step had never begun.
  std::optional<uint64_t> submit(int64_t steps);
  int64_t most_steps() const;
  void wait(uint64_t ticket) { session_.wait(ticket); }
  // .. and what the steps since the last call gave is read, [E][steps]; at least every metrics_rows steps. Waits.
  // NotComputing when the device's own count of steps is another.
  std::vector<std::vector<StepMetrics>> read_metrics();
  int64_t metrics_step() const { return metrics_step_; }                      // steps whose metrics were read
  std::vector<uint32_t> skipped() { return session_.read_words("skipped"); }  // [E], since step 0

  // One save a member, under ROOT/member-00i (ROOT itself when there is one member).
  void save(const std::string& root, const nlohmann::json& description);
  // The same, each under the root of its place.
  void save(const std::vector<std::string>& roots, const nlohmann::json& description);
  // Goes on from the newest saves; returns the step. UserError when seeds or learning rates differ,
  // a member's save is missing, or saves stand at different steps.
  int64_t load(const std::string& root);
  static bool has_save(const std::string& root, size_t members);
  // Directory of the save of one member that load() reads. Members are saved one after the other:
  // a process that is killed between two of them leaves them apart, and the newest step that all
  // of them have counts.
  static std::string newest_save(const std::string& root, size_t members, size_t member);

  // Of the newest batch of each member, [E], with TrainConfig::token_accuracy. Waits.
  std::vector<float> token_accuracy() const {
    return (config_.accumulates() ? accumulate_ : train_).read_floats("accuracy");
  }

  // Of an objective: the means of its measures over the batches since the last call, [E][TrainConfig::measures]; NaN
  // where there was none. Waits.
  std::vector<std::vector<double>> measures();

  // f32 [P] of one member.
  graph::HostTensor parameters(size_t member);
  // Every loss of this trainer so far, by member and step run, from the metrics ring.
  const std::vector<std::vector<float>>& losses() const { return losses_; }

 private:
  std::string member_root(const std::string& root, size_t member) const;
  std::optional<uint64_t> accumulate();
  void add_programs();
  void begin_at(int64_t step);

  engine::Session& session_;
  engine::SessionProgram train_, accumulate_, apply_;  // the first, or the other two
  const Model& model_;
  TrainConfig config_;
  std::optional<DataRing> ring_;  // of a source
  int64_t step_ = 0;
  int64_t metrics_step_ = 0;
  int64_t measured_step_ = 0;
  std::vector<std::vector<float>> losses_;
};

// The error of a device that failed a run, with what is left of the run: the newest save under
// `root`, its age, and how to go on.
engine::DeviceError with_checkpoint(const engine::DeviceError& error, const std::string& root);

// The kernel variants of a session, for a checkpoint; and the same choice for another session, so
// that a resumed run computes in the same order: with the device's matrices or without them, whatever has been found
// about their speed since. UserError when a name is not one, and for matrices that the target has not (or has wrong).
nlohmann::json kernel_variants(const graph::Target& target);
graph::Target with_variants(graph::Target target, const nlohmann::json& variants);

}  // namespace surtsey::experiments
