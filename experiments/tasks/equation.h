// Systems of n linear equations in n variables over a prime field (E05), solved by Gauss and
// Jordan:
//
//   cot     3 a + 2 b = 5 , 1 a + 4 b = 9 <sep> a + 8 b = 9 , 0 a + ... <sep> a = 4 , b = 2 <eos>
//   direct  3 a + 2 b = 5 , 1 a + 4 b = 9 <sep> a = 4 , b = 2 <eos>
//
// Step j makes the j-th variable's coefficient 1 in row j (the first row from j on where it is not
// 0 comes there) and 0 in all others. Of the j variables that are done, terms of coefficient 0 and
// coefficients of 1 are not written. Systems without a unique solution are drawn again.
#pragma once

#include "experiments/tasks/serial.h"

#include <optional>

namespace surtsey::experiments::tasks {

class Equation : public SerialTask {
 public:
  // `variables` in [2, 5]; `modulus` a prime in [3, 97].
  explicit Equation(int32_t variables, SerialOptions options = {}, int32_t modulus = 11);

  // The problem of a matrix [n][n + 1], the right-hand sides last; nothing for a singular one.
  using Matrix = std::vector<std::vector<int32_t>>;
  std::optional<Problem> solve(Matrix matrix) const;

 protected:
  Problem draw_problem(Split split, int32_t arm, Draws& draws) const override;

 private:
  // Rows as text, `done` variables of which are done, with the separator at the end.
  void write(const Matrix& matrix, int32_t done, std::vector<int32_t>& out) const;

  int32_t variables_;
  int32_t modulus_;
};

}  // namespace surtsey::experiments::tasks
