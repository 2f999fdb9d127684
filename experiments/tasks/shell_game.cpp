#include "experiments/tasks/shell_game.h"

#include <fmt/format.h>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

PromptedTask::Layout shell_game_layout(int32_t cups, int32_t swaps, const std::vector<std::string>& arms) {
  check(2 <= cups && cups <= 9, "[shell_game] {} cups are not in [2, 9]", cups);
  check(1 <= swaps && swaps <= 1000, "[shell_game] {} swaps are not in [1, 1000]", swaps);
  PromptedTask::Layout layout;
  layout.name = "shell_game";
  for (int32_t cup = 1; cup <= cups; ++cup) layout.symbols.push_back(fmt::to_string(cup));
  for (int32_t a = 1; a <= cups; ++a) {
    for (int32_t b = a + 1; b <= cups; ++b) layout.symbols.push_back(fmt::format("{}{}", a, b));
  }
  layout.symbols.push_back("=");
  layout.arms = step_arms(layout.name, arms, swaps + 1);
  layout.prompt_length = swaps + 2;
  layout.chance = 1.0 / cups;
  return layout;
}

}  // namespace

ShellGame::ShellGame(int32_t cups, int32_t swaps, std::vector<std::string> arms)
    : PromptedTask(shell_game_layout(cups, swaps, arms)), cups_(cups) {
  for (int32_t a = 0; a < cups; ++a) {
    for (int32_t b = a + 1; b < cups; ++b) pairs_.emplace_back(a, b);
  }
}

void ShellGame::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const {
  int32_t cup = prompt[0] = draws.below(cups_);
  const bool steps = answer.size() > 1;
  if (steps) answer[0] = cup;
  for (size_t i = 1; i + 1 < prompt.size(); ++i) {
    const int32_t swap = draws.below(static_cast<int32_t>(pairs_.size()));
    const auto [a, b] = pairs_[static_cast<size_t>(swap)];
    prompt[i] = cups_ + swap;
    cup = cup == a ? b : cup == b ? a : cup;
    if (steps) answer[i] = cup;
  }
  prompt.back() = token("=");
  answer.back() = cup;
}

}  // namespace surtsey::experiments::tasks
