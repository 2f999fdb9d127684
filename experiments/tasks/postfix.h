// Programs (E04): an expression of three operations, written for a stack machine.
//
//   ( ( 3 + 4 ) * ( 2 - 5 ) ) = 3 4 + 2 5 - *
//
// The final answer is what the program computes modulo ten, so a program that differs from the
// expected one and computes the same number is right (functional correctness); a program that does
// not leave exactly one number on the stack computes "invalid". The whole answer is the exact
// program.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class Postfix : public PromptedTask {
 public:
  // `operations` in [1, 8]; operands are digits, operations + - *.
  explicit Postfix(int32_t operations = 3);

  // "0" .. "9", or "invalid".
  std::string value(std::span<const int32_t> program) const override;

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;

 private:
  int32_t operations_;
};

}  // namespace surtsey::experiments::tasks
