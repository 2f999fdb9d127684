// False belief (E04): where does somebody think the ball is?
//
//   2 x 3 y leave x 1 y enter .. ? y = 2 3 3 3 3 ..
//
// The ball starts in a box. Three agents are there; at each event one of them moves the ball to
// another box ("x 3"), leaves, or comes back. Who is there sees a move; boxes are closed, so who
// comes back sees nothing. The answer is where the asked agent believes the ball to be, at the
// start and after every event; the last one is the final answer.
//
// A belief is false when it is not where the ball is. That is rare, and a model that answers where
// the ball is looks good on the average: tests ask the two subsets as two arms. Training mixes them
// as they come, or half and half.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class FalseBelief : public PromptedTask {
 public:
  // `events` in [1, 100]. balanced: half of the training sequences hold a false belief.
  explicit FalseBelief(int32_t events = 6, bool balanced = false);

  // Where the ball is at the end, and where the asked agent thinks it is, as tokens.
  struct Ending {
    int32_t ball = 0, belief = 0;
  };
  Ending ending(std::span<const int32_t> prompt) const;

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;
  bool belongs(Split split, int32_t arm, std::span<const int32_t> prompt) const override;

 private:
  // Writes the belief at the start and after every event.
  Ending follow(std::span<const int32_t> prompt, std::span<int32_t> answer) const;

  int32_t events_;
  bool balanced_;
};

}  // namespace surtsey::experiments::tasks
