// The one loop of training: submissions, lines of metrics, saves, resume, interrupts, questions on the way.
//
//   Driver driver(trainer, {.checkpoint_root = root, .ask = ...});
//   if (!driver.resume()) trainer.initialise();
//   driver.run();
//
// A save's config.json says beside the model and RunOptions::describe:
//   "seconds"   of training so far, in all processes that had a part in it
//   "asked"     the step of the last question
#pragma once

#include <chrono>
#include <deque>

#include "experiments/train/train.h"

namespace surtsey::experiments {

class Driver {
 public:
  Driver(Trainer& trainer, RunOptions options);

  // Goes on from the newest save under the checkpoint root; false, and nothing done, where there is none. UserError
  // when a save there cannot be read or is of another run.
  bool resume();

  // Trains to the end. Throws
  //   Interrupted    after a signal, when everything handed over is done and saved, or the message says why it is not
  //   Diverged       when no member took a step for divergence_patience steps; no save is made of that
  //   NotComputing   see Trainer::read_metrics(); nor of that
  //   UserError      when the end could not be saved
  void run();

  // A save of the present step, unless there is one; a warning where it cannot be made: a full disk must not end a run
  // that is hours old, the older save is whole.
  void save_or_warn();

  double seconds() const;                   // of training, questions left out
  int64_t asked() const { return asked_; }  // the step of the last question

 private:
  int64_t question() const;
  void advance(int64_t stop);
  void read_metrics();
  void log();
  void check_divergence();
  int64_t lost_steps() const;  // the newest that no member took
  void save();
  [[noreturn]] void stop_interrupted();

  Trainer& trainer_;
  RunOptions options_;
  int64_t until_;
  std::deque<uint64_t> tickets_;
  std::vector<MemberMetrics> sums_;       // [E], since the last log
  std::vector<int64_t> applied_;          // [E], steps that were not skipped, since the last log
  std::vector<bool> told_of_divergence_;  // [E]
  int64_t logged_ = 0;
  int64_t asked_ = 0;
  int64_t saved_ = -1;                                          // the step of the newest save
  double earlier_seconds_ = 0;                                  // of other processes
  double run_seconds_ = 0;                                      // of this one, up to the last question
  std::optional<std::chrono::steady_clock::time_point> since_;  // while steps are taken
};

// The kernel choices of the save that a Driver would go on from, for the session that is to go on with it to the same
// bits; `target` itself where there is no save.
graph::Target resumed_target(const graph::Target& target, const std::string& checkpoint_root, size_t members);

}  // namespace surtsey::experiments
