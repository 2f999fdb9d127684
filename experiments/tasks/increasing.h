// The longest increasing subsequence (E05):
//
//   cot     7 3 9 8 <sep> 1 1 2 2 <sep> 2 <eos>     the longest that ends at each number, the
//   longest direct  7 3 9 8 <sep> 2 <eos>
//
// Numbers lie above all lengths. Random numbers alone would have short subsequences: one, two or
// three sorted runs of random sizes, together at least three numbers, are laid over random places.
#pragma once

#include "experiments/tasks/serial.h"

namespace surtsey::experiments::tasks {

class IncreasingSubsequence : public SerialTask {
 public:
  // `length` in [3, 100]; `numbers` in [2 length + 1, 1000]: 0 .. numbers - 1 are tokens.
  explicit IncreasingSubsequence(int32_t length, SerialOptions options = {}, int32_t numbers = 250);

  // The problem of these numbers.
  Problem solve(const std::vector<int32_t>& sequence) const;

 protected:
  Problem draw_problem(Split split, int32_t arm, Draws& draws) const override;

 private:
  int32_t length_;
  int32_t numbers_;
};

}  // namespace surtsey::experiments::tasks
