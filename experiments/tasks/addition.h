// Addition (E03, E04) of numbers with the same count of digits, zero-padded, new ones at every
// step.
//
//   reversed    1 2 8 + 3 6 7 = 5 9 4 0     the sum with its last digit first, as carries run
//   plain       1 2 8 + 3 6 7 = 0 4 9 5
//   scratchpad  1 2 8 + 3 6 7 = A 5 C 1 A 9 C 0 A 4 C 0 = 0 4 9 5     digits and carries before it
//
// The final answer is the whole sum. addition_text.h has the finite data of Lee et al.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class Addition : public PromptedTask {
 public:
  enum class Format : uint8_t { plain, reversed, scratchpad };

  // `digits` in [1, 18].
  explicit Addition(int32_t digits = 3, Format format = Format::reversed);

  std::string value(std::span<const int32_t> answer) const override;

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;

 private:
  int32_t digits_;
  Format format_;
};

}  // namespace surtsey::experiments::tasks
