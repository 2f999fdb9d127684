// Training on a device: an ensemble of models, a data ring ahead of it, a metrics ring behind it.
//
//   Model model(config);
//   engine::Session session(device);
//   Trainer trainer(session, model, train, source);  // adds its programs
//   Evaluator evaluator(session, model, ...);        // so may others
//   session.allocate();
//   trainer.initialise();                            // or trainer.load(root)
//   trainer.run({.on_log = ...});
//
// Up to 16 steps go out in a submission; logs and checkpoints fall between submissions. The state
// of a run is a function of its configuration and step alone, so a resumed run ends with the bits
// of an uninterrupted one on the same device.
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

struct MemberMetrics {
  double loss = 0;           // mean over the steps since the last log
  double gradient_norm = 0;  // mean over the steps that were not skipped, before clipping
  int64_t norms = 0;         // how many those are
  double learning_rate = 0;  // of the last step
  int64_t skipped = 0;       // steps with a gradient that was not finite, since the start
};

struct TrainLog {
  int64_t step = 0;    // steps done
  int64_t tokens = 0;  // of one member
  double seconds = 0;  // since run() began
  std::vector<MemberMetrics> members;
};

struct RunOptions {
  int64_t until = 0;                         // stop after this step; 0: the end of the run
  int64_t log_interval = 50;                 // steps
  int64_t submit_steps = 16;                 // most steps in a submission
  int64_t checkpoint_interval = 0;           // steps; 0: only on an interrupt
  std::string checkpoint_root;               // empty: no checkpoints
  HeldJson description;                      // goes into config.json beside the model
  std::function<nlohmann::json()> describe;  // more of the same, asked for at each save
  std::function<void(const TrainLog&)> on_log;
  std::function<void(int64_t step)> on_step;  // after each submission; steps handed over
  std::function<void(int64_t step)> on_checkpoint;
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
  // The same, but every member starts with these f32 [P]: the fork of a checkpoint.
  void initialise(const graph::HostTensor& parameters);

  // Trains to `until`. Throws Interrupted after SIGINT or SIGTERM, when everything handed over is
  // done and saved (if there is a checkpoint root).
  void run(const RunOptions& options = {});

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

  // f32 [P] of one member.
  graph::HostTensor parameters(size_t member);
  // Every loss of this trainer so far, by member and step run, from the metrics ring.
  const std::vector<std::vector<float>>& losses() const { return losses_; }

 private:
  std::string member_root(const std::string& root, size_t member) const;
  void add_programs();
  uint64_t submit(int64_t steps);
  void read_metrics(std::vector<MemberMetrics>& sums);
  void save_if_asked(const RunOptions& options);

  engine::Session& session_;
  const Model& model_;
  TrainConfig config_;
  std::optional<DataRing> ring_;          // of a source
  std::vector<std::string> saved_names_;  // the state tensors of a checkpoint
  int64_t step_ = 0;
  int64_t metrics_step_ = 0;  // steps whose metrics were read
  int64_t saved_step_ = -1;
  std::vector<std::vector<float>> losses_;
};

// The programs that a Trainer adds, for plans without a device.
TrainPrograms trainer_programs(const Model& model, TrainConfig config);
// And how the trainer compiles one of them.
graph::CompileOptions compile_options(const TrainConfig& config, const std::string& program);

// The error of a device that failed a run, with what is left of the run: the newest save under
// `root`, its age, and how to go on.
engine::DeviceError with_checkpoint(const engine::DeviceError& error, const std::string& root);

// The kernel variants of a session, for a checkpoint; and the same choice for another session, so
// that a resumed run computes in the same order. UserError when a name is not one.
nlohmann::json kernel_variants(const graph::Target& target);
graph::Target with_variants(graph::Target target, const nlohmann::json& variants);

}  // namespace surtsey::experiments
