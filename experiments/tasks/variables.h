// Multi-step variables (E04, E10): what is the last variable?
//
//   cot     C v1 3 6 v2 v1 4 v3 v2 v1 v4 v3 5 ? v4 = 9 3 2 7     the value of each, modulo ten
//   direct  D v1 3 6 v2 v1 4 v3 v2 v1 v4 v3 5 ? v4 = 7
//
// "v2 v1 4" says v2 = v1 + 4. The first variable is the sum of two digits; every other one of a
// variable before it and, with equal chance, a digit or a variable before it.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class Variables : public PromptedTask {
 public:
  // `assignments` in [2, 20], arms out of cot and direct.
  explicit Variables(int32_t assignments = 4, std::vector<std::string> arms = {"cot"});

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;

 private:
  int32_t assignments_;
};

}  // namespace surtsey::experiments::tasks
