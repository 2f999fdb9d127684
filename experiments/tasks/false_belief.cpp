#include "experiments/tasks/false_belief.h"

#include <fmt/format.h>

#include <array>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr int32_t kBoxes = 4;   // tokens 0 .. 3
constexpr int32_t kAgents = 3;  // the next ones
constexpr int32_t kLeave = kBoxes + kAgents;
constexpr int32_t kEnter = kLeave + 1;
constexpr int32_t kAsk = kLeave + 2;
constexpr int32_t kAnswerSign = kLeave + 3;
constexpr int32_t kFalse = 1;  // arm

PromptedTask::Layout false_belief_layout(int32_t events) {
  check(1 <= events && events <= 100, "[false_belief] {} events are not in [1, 100]", events);
  PromptedTask::Layout layout;
  layout.name = "false_belief";
  for (int32_t box = 1; box <= kBoxes; ++box) layout.symbols.push_back(fmt::to_string(box));
  layout.symbols.insert(layout.symbols.end(), {"x", "y", "z", "leave", "enter", "?", "="});
  layout.arms = {{"true_belief", "", events + 1}, {"false_belief", "", events + 1}};
  layout.prompt_length = 2 * events + 4;
  layout.chance = 1.0 / kBoxes;
  return layout;
}

}  // namespace

FalseBelief::FalseBelief(int32_t events, bool balanced)
    : PromptedTask(false_belief_layout(events)), events_(events), balanced_(balanced) {}

FalseBelief::Ending FalseBelief::follow(std::span<const int32_t> prompt, std::span<int32_t> answer) const {
  const int32_t asked = prompt[prompt.size() - 2];
  Ending now{prompt[0], prompt[0]};
  bool present = true;
  for (int32_t event = 0; event <= events_; ++event) {
    if (event > 0) {
      const auto at = static_cast<size_t>(2 * event - 1);
      const int32_t agent = prompt[at], act = prompt[at + 1];
      if (act < kBoxes) {
        now.ball = act;
        if (present) now.belief = act;
      } else if (agent == asked) {
        present = act == kEnter;
      }
    }
    if (!answer.empty()) answer[static_cast<size_t>(event)] = now.belief;
  }
  return now;
}

FalseBelief::Ending FalseBelief::ending(std::span<const int32_t> prompt) const { return follow(prompt, {}); }

void FalseBelief::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const {
  std::array<bool, kAgents> present{};
  present.fill(true);
  int32_t ball = prompt[0] = draws.below(kBoxes);
  size_t at = 1;
  for (int32_t event = 0; event < events_; ++event) {
    const int32_t agent = draws.below(kAgents);
    bool& here = present[static_cast<size_t>(agent)];
    prompt[at++] = kBoxes + agent;
    if (!here) {
      prompt[at++] = kEnter;
      here = true;
    } else if (draws.below(2) == 0) {
      prompt[at++] = kLeave;
      here = false;
    } else {
      prompt[at++] = ball = (ball + 1 + draws.below(kBoxes - 1)) % kBoxes;
    }
  }
  prompt[at++] = kAsk;
  prompt[at++] = kBoxes + draws.below(kAgents);
  prompt[at] = kAnswerSign;
  follow(prompt, answer);
}

bool FalseBelief::belongs(Split split, int32_t arm, std::span<const int32_t> prompt) const {
  if (split != Split::kTest && !balanced_) return true;
  const Ending end = ending(prompt);
  return (end.ball != end.belief) == (arm == kFalse);
}

}  // namespace surtsey::experiments::tasks
