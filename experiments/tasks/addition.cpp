#include "experiments/tasks/addition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

using Format = Addition::Format;

PromptedTask::Layout addition_layout(int32_t digits, Format format) {
  check(1 <= digits && digits <= 18, "[addition] {} digits are not in [1, 18]", digits);
  PromptedTask::Layout layout;
  const bool scratchpad = format == Format::scratchpad;
  layout.name = format == Format::reversed ? "addition_reversed" : scratchpad ? "addition_scratchpad" : "addition";
  for (int32_t digit = 0; digit < 10; ++digit) layout.symbols.push_back(fmt::to_string(digit));
  layout.symbols.insert(layout.symbols.end(), {"+", "="});
  if (scratchpad) layout.symbols.insert(layout.symbols.end(), {"A", "C"});
  layout.arms = {{"direct", "", digits + 1 + (scratchpad ? 4 * digits + 1 : 0)}};
  layout.prompt_length = 2 * digits + 2;
  layout.chance = 1 / (2 * std::pow(10.0, digits) - 1);  // one of the sums
  return layout;
}

}  // namespace

Addition::Addition(int32_t digits, Format format)
    : PromptedTask(addition_layout(digits, format)), digits_(digits), format_(format) {}

std::string Addition::value(std::span<const int32_t> answer) const {
  return decode(answer.last(static_cast<size_t>(digits_) + 1));
}

void Addition::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const {
  const auto n = static_cast<size_t>(digits_);
  for (size_t i = 0; i < n; ++i) {
    prompt[i] = draws.below(10);
    prompt[n + 1 + i] = draws.below(10);
  }
  prompt[n] = token("+");
  prompt[2 * n + 1] = token("=");
  size_t step = 0;
  const auto write_step = [&](std::string_view symbol, int32_t digit) {
    answer[step++] = token(symbol);
    answer[step++] = digit;
  };
  const auto sum_digits = answer.last(n + 1);
  int32_t carry = 0;
  for (size_t i = 0; i < n; ++i) {
    const int32_t sum = prompt[n - 1 - i] + prompt[2 * n - i] + carry;
    sum_digits[i] = sum % 10;
    carry = sum / 10;
    if (format_ != Format::scratchpad) continue;
    write_step("A", sum % 10);
    write_step("C", carry);
  }
  if (format_ == Format::scratchpad) answer[step] = token("=");
  sum_digits[n] = carry;
  if (format_ != Format::reversed) std::reverse(sum_digits.begin(), sum_digits.end());
}

}  // namespace surtsey::experiments::tasks
