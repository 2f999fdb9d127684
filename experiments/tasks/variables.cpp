#include "experiments/tasks/variables.h"

#include <fmt/format.h>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr int32_t kDigitTokens = 10;  // tokens of digits, then those of variables

PromptedTask::Layout variables_layout(int32_t assignments, const std::vector<std::string>& arms) {
  check(2 <= assignments && assignments <= 20, "[variables] {} assignments are not in [2, 20]", assignments);
  PromptedTask::Layout layout;
  layout.name = "variables";
  for (int32_t digit = 0; digit < kDigitTokens; ++digit) {
    layout.symbols.push_back(fmt::to_string(digit));
  }
  for (int32_t i = 0; i < assignments; ++i) layout.symbols.push_back(fmt::format("v{}", i + 1));
  layout.symbols.insert(layout.symbols.end(), {"?", "="});
  layout.arms = step_arms(layout.name, arms, assignments);
  layout.prompt_length = 3 * assignments + 3;
  layout.chance = 1.0 / kDigitTokens;
  return layout;
}

}  // namespace

Variables::Variables(int32_t assignments, std::vector<std::string> arms)
    : PromptedTask(variables_layout(assignments, arms)), assignments_(assignments) {}

void Variables::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const {
  std::vector<int32_t> values;
  size_t at = 0;
  for (int32_t i = 0; i < assignments_; ++i) {
    prompt[at++] = kDigitTokens + i;
    int32_t sum = 0;
    for (int32_t operand = 0; operand < 2; ++operand) {
      const bool digit = i == 0 || (operand == 1 && draws.below(2) == 0);
      const int32_t drawn = draws.below(digit ? kDigitTokens : i);
      prompt[at++] = digit ? drawn : kDigitTokens + drawn;
      sum += digit ? drawn : values[static_cast<size_t>(drawn)];
    }
    values.push_back(sum % kDigitTokens);
    if (answer.size() > 1) answer[static_cast<size_t>(i)] = values.back();
  }
  prompt[at++] = token("?");
  prompt[at++] = kDigitTokens + assignments_ - 1;
  prompt[at] = token("=");
  answer.back() = values.back();
}

}  // namespace surtsey::experiments::tasks
