// Operations on digits, each behind a marker of its own: what a trained model is taught one more of.
//
//   A 3 1 4 1 = 4 8 9      marker, n digits x_1 .. x_n, the results s_2 .. s_n
//
// s_1 = x_1 and s_i = (a s_{i-1} + b x_i + c) mod m, with a, b and c of the operation. Arms are the operations, in
// their order; all markers are in the vocabulary, whichever are trained, and arms share their problems. Training
// samples are of arm i with probability shares[i] / sum: a task's own data, or with some of earlier ones replayed.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

struct Operation {
  std::string name;  // of its arm
  std::string marker;
  int32_t a = 1, b = 1, c = 0;
};

struct OperationsOptions {
  std::vector<Operation> operations;
  std::vector<double> shares = {};  // of each in training; empty: equal
  int32_t digits = 8;               // n, in [2, 100]
  int32_t modulus = 10;             // m, in [2, 100]
};

class OperationsTask : public PromptedTask {
 public:
  // UserError: an operation or marker that is there twice, b that shares a factor with m (results would not be
  // uniform), shares that are negative, all zero, or not one an operation.
  explicit OperationsTask(OperationsOptions options);

  const OperationsOptions& options() const { return options_; }

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;
  int32_t sampled_arm(uint32_t key, uint32_t index) const override;

 private:
  OperationsOptions options_;
  std::vector<double> up_to_;  // of the shares, the last 1
};

}  // namespace surtsey::experiments::tasks
