// Addition (E03, E04) of numbers with the same count of digits, zero-padded.
//
//   reversed  1 2 8 + 3 6 7 = 5 9 4 0     the sum with its last digit first, as carries run
//   plain     1 2 8 + 3 6 7 = 0 4 9 5
//
// The final answer is the whole sum.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class Addition : public PromptedTask {
 public:
  // `digits` in [1, 18].
  explicit Addition(int32_t digits = 3, bool reversed = true);

  std::string value(std::span<const int32_t> answer) const override { return decode(answer); }

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt,
                     std::span<int32_t> answer) const override;

 private:
  int32_t digits_;
  bool reversed_;
};

}  // namespace surtsey::experiments::tasks
