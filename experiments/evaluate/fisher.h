// The diagonal of the Fisher information of trained models: how much each parameter matters to what they answer.
//
//   F_i = E_prompt E_{answer ~ model} (d log p(answer | prompt) / d theta_i)^2
//
// with answers that the model draws itself, not those of the data (Kirkpatrick et al. 2017; Kunstner et al. 2019 on the
// difference), and a gradient for each answer alone, as the square of a mean is another thing.
//
//   fisher.{tokens,targets} u32 [N, T], fisher.weights f32 [N, T], fisher f32 [P]   a member's own
//   fisher.row u32 []                                                               the sequence that comes next
#pragma once

#include "experiments/evaluate/evaluate.h"

namespace surtsey::experiments {

class FisherDiagonal {
 public:
  // Adds its program to a session that is not yet allocated, for N = `answers` drawn answers and T = `block`.
  FisherDiagonal(engine::Session& session, const Model& model, size_t members, int32_t answers, int32_t block);

  // Of each member f32 [P], over N prompts of the task's test stream of this seed; `evaluator` of the same session
  // draws the answers, and is greedy again afterwards. UserError: the task has fewer prompts.
  std::vector<graph::HostTensor> of(Evaluator& evaluator, const tasks::Task& task, int32_t arm, uint32_t seed);

 private:
  engine::Session& session_;
  engine::SessionProgram program_;
  graph::Type type_;
  size_t members_;
  int32_t answers_;
  int32_t block_;
};

// The same of models that stand in no session, by their parameters f32 [P].
std::vector<graph::HostTensor> fisher_diagonals(engine::Device& device, const Model& model,
                                                const std::vector<graph::HostTensor>& parameters,
                                                const tasks::Task& task, int32_t arm, int32_t answers, uint32_t seed);

}  // namespace surtsey::experiments
