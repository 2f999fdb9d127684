// Questions of a study's own to the models of a pack, in place of those that every study asks
// (ensemble_run.h): while they train, or in other ways than one greedy answer.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "experiments/evaluate/answers.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

class Interview {
 public:
  virtual ~Interview() = default;

  // The steps after which the models are asked, rising; the last is that of the run.
  virtual std::vector<int64_t> steps(int64_t last) const { return {last}; }

  // Asks once: cells stand in the order of the models and keep their measures from one call to the
  // next, also over a resumed run; lines of samples belong to the last call. A cell's arms, and the
  // measures of its lines, follow from the lines.
  virtual void ask(Evaluator& evaluator, int64_t step, bool last, std::span<Cell> cells,
                   std::vector<SampleLine>& samples) const = 0;
};

// Questions about one task that a study's keys decide; the keys outlive them.
template <class Keys, class Task = tasks::Task>
struct InterviewOf : Interview {
  InterviewOf(const Keys& keys, std::shared_ptr<const Task> task) : k(keys), task(std::move(task)) {}

  const Keys& k;
  std::shared_ptr<const Task> task;
};

}  // namespace surtsey::experiments
