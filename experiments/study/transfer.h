// What learning one task after the other leaves: the accuracies of a sequence, and its three numbers (Lopez-Paz and
// Ranzato 2017, "Gradient Episodic Memory for Continual Learning", section 2).
//
// With R[i][j] the exact match of task j after the i-th was learned, T tasks, and b[j] that of an untrained model:
//   ACC  mean over j of R[T][j]
//   BWT  mean over j < T of R[T][j] - R[j][j]: what later tasks did to earlier ones
//   FWT  mean over j > 1 of R[j-1][j] - b[j]: what earlier tasks did for later ones
// and, as nothing is lost where nothing is learned,
//   learned  mean over j > 1 of R[j][j]
#pragma once

#include "experiments/study/teaching.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments {

using ArmRow = std::vector<double>;  // exact match of each arm of a task

// Of each member, over `count` questions an arm of the test stream of `seed`.
std::vector<ArmRow> exact_matches(Evaluator& evaluator, const tasks::Task& task, size_t members, int32_t count,
                                  uint32_t seed);

struct TransferTable {
  std::vector<std::string> names;  // of the tasks, in the order in which they are learned
  int64_t items = 0;               // questions behind each number
  ArmRow untrained;                // b
  std::vector<ArmRow> learned;     // R
};
// Those with the standard errors of their questions, and R: "first after second". InternalError: a table that
// is not square.
std::vector<Measure> transfer_measures(const TransferTable& table);

// Where sequences begin: bases that have learned the first task, one a width and seed, and the tables that they begin.
class SequenceStarts {
 public:
  // The arms of `task` are the tasks in their order; the options say how they are asked. Both outlive this.
  SequenceStarts(Bases::Train train, const tasks::Task& task, const SweepOptions& options)
      : task_(task), options_(options), bases_(std::move(train)) {}

  struct Start {
    const TrainedBase& base;
    TransferTable table;  // with its first row
  };
  const Start& of(engine::Device& device, int32_t width, uint32_t seed);

 private:
  ArmRow answers(engine::Device& device, const TrainedBase& base) const;

  const tasks::Task& task_;
  const SweepOptions& options_;
  Bases bases_;
  std::map<std::pair<int32_t, uint32_t>, Start> starts_;
};

}  // namespace surtsey::experiments
