// The shell game (E04, E06): under which cup is the ball after these swaps?
//
//   cot     C 2 13 25 .. = 2 2 5 ..     the cup at the start, then after every swap
//   direct  D 2 13 25 .. = 5            the cup at the end
//
// A swap "13" exchanges what is under cups 1 and 3. As in the chain task the first state only
// copies the start, so that every step is the same lookup.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class ShellGame : public PromptedTask {
 public:
  // cups in [2, 9], swaps in [1, 1000], arms out of cot and direct.
  explicit ShellGame(int32_t cups = 5, int32_t swaps = 12, std::vector<std::string> arms = {"cot"});

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;

 private:
  int32_t cups_;
  std::vector<std::pair<int32_t, int32_t>> pairs_;  // cups of each swap token, from token `cups` on
};

}  // namespace surtsey::experiments::tasks
