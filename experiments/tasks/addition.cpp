#include "experiments/tasks/addition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

PromptedTask::Layout layout(int32_t digits, bool reversed) {
  check(1 <= digits && digits <= 18, "[addition] {} digits are not in [1, 18]", digits);
  PromptedTask::Layout layout;
  layout.name = reversed ? "addition_reversed" : "addition";
  for (int32_t digit = 0; digit < 10; ++digit) layout.symbols.push_back(fmt::to_string(digit));
  layout.symbols.insert(layout.symbols.end(), {"+", "="});
  layout.arms = {{"direct", "", digits + 1}};
  layout.prompt_length = 2 * digits + 2;
  layout.chance = 1 / (2 * std::pow(10.0, digits) - 1);  // one of the sums
  return layout;
}

}  // namespace

Addition::Addition(int32_t digits, bool reversed)
    : PromptedTask(layout(digits, reversed)), digits_(digits), reversed_(reversed) {}

void Addition::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt,
                             std::span<int32_t> answer) const {
  const auto n = static_cast<size_t>(digits_);
  for (size_t i = 0; i < n; ++i) {
    prompt[i] = draws.below(10);
    prompt[n + 1 + i] = draws.below(10);
  }
  prompt[n] = token("+");
  prompt[2 * n + 1] = token("=");
  int32_t carry = 0;
  for (size_t i = 0; i < n; ++i) {
    const int32_t sum = prompt[n - 1 - i] + prompt[2 * n - i] + carry;
    answer[i] = sum % 10;
    carry = sum / 10;
  }
  answer[n] = carry;
  if (!reversed_) std::reverse(answer.begin(), answer.end());
}

}  // namespace surtsey::experiments::tasks
