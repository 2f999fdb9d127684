// Task vectors (E13, H3): does the residual stream at the arrow hold the task?
//
// A prompt with examples of task k and a query of its own, "e > b .. x' >", is read at its last
// arrow, at every depth; the vector is put in the place of the stream at the arrow of a prompt
// without examples, "x >", at the same depth. If the vector stands for the task, the answer becomes
// that of task k for x (Hendel et al. 2023, Todd et al. 2023). Control: the vector of a prompt of
// another task.
//
// Measures, shares of right answers over the prompts:
//   few_shot            to x' after the examples
//   zero_shot           to x without examples, nothing patched
//   patched.{depth}     to x with the vector; depth 0 are the embeddings, L what the last norm
//   reads control.{depth}     to x with another task's vector
#pragma once

#include <memory>

#include "experiments/models/probe.h"
#include "experiments/tasks/permutation.h"

namespace surtsey::experiments {

class TaskVectors : public Probe {
 public:
  // The task must know at least two permutations; `rows` prompts are measured.
  TaskVectors(std::shared_ptr<const tasks::PermutationTask> task, int32_t rows, int32_t layers);

  void add_programs(engine::Session& session, const Model& model, size_t members) const override;
  std::vector<std::vector<Measure>> measure(engine::Session& session, size_t members, uint32_t seed) const override;

  // One prompt with examples and one without, of the same task.
  struct Pair {
    int32_t permutation = 0;
    std::vector<int32_t> few_shot;   // examples, query, '>'
    std::vector<int32_t> zero_shot;  // another query, '>'
    int32_t few_shot_answer = 0, zero_shot_answer = 0;
    size_t other = 0;  // the nearest pair after this one of another task
  };
  std::vector<Pair> draw(uint32_t seed) const;

 private:
  std::shared_ptr<const tasks::PermutationTask> task_;
  int32_t rows_;
  int32_t layers_;
};

}  // namespace surtsey::experiments
