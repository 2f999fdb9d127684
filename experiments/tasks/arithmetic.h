// Expressions in a prime field (E05):
//
//   cot     7 * ( 3 - 8 ) / 2 = 7 * 6 / 2 = 9 / 2 = 10 <eos>     an operation a step
//   direct  7 * ( 3 - 8 ) / 2 = 10
//
// An expression grows from its value: again and again a random number in it is replaced by an
// operation that gives that number, with parentheses where precedence asks for them; read
// backwards this is the chain. `shorter`: training mixes expressions of 1 to n operators, k of them
// in proportion to k; tests ask for n.
#pragma once

#include "experiments/tasks/serial.h"

namespace surtsey::experiments::tasks {

class Arithmetic : public SerialTask {
 public:
  // `operators` in [1, 18]; `modulus` a prime in [3, 97].
  explicit Arithmetic(int32_t operators, SerialOptions options = {}, bool shorter = true, int32_t modulus = 11);

  // Replaces the number at `place` by the operation ("+", "-", "*" or "/") on two numbers.
  void expand(std::vector<int32_t>& expression, size_t place, int32_t left, std::string_view operation,
              int32_t right) const;

 protected:
  Problem draw_problem(Split split, int32_t arm, Draws& draws) const override;

 private:
  int32_t divide(int32_t number, int32_t by) const;
  void grow(std::vector<int32_t>& expression, Draws& draws) const;
  int32_t draw_operators(Split split, Draws& draws) const;

  int32_t operators_;
  int32_t modulus_;
  bool shorter_;
};

}  // namespace surtsey::experiments::tasks
