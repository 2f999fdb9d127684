#include "experiments/tasks/postfix.h"

#include <fmt/format.h>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr int32_t kDigits = 10;
constexpr int32_t kOperations = 3;  // + - *, the tokens after the digits
constexpr int32_t kOpen = kDigits + kOperations;
constexpr int32_t kClose = kOpen + 1;
constexpr int32_t kEquals = kOpen + 2;

PromptedTask::Layout postfix_layout(int32_t operations) {
  check(1 <= operations && operations <= 8, "[postfix] {} operations are not in [1, 8]", operations);
  PromptedTask::Layout layout;
  layout.name = "postfix";
  for (int32_t digit = 0; digit < kDigits; ++digit) {
    layout.symbols.push_back(fmt::to_string(digit));
  }
  layout.symbols.insert(layout.symbols.end(), {"+", "-", "*", "(", ")", "="});
  layout.arms = {{"direct", "", 2 * operations + 1}};
  layout.prompt_length = 4 * operations + 2;  // a digit each and one more, a pair of parentheses
  layout.chance = 1.0 / kDigits;              // of a valid program's number
  return layout;
}

// Writes an expression of `operations` in both notations.
struct Writer {
  Draws& draws;
  int32_t* infix;
  int32_t* postfix;

  void expression(int32_t operations) {
    if (operations == 0) {
      *infix++ = *postfix++ = draws.below(kDigits);
      return;
    }
    const int32_t left = draws.below(operations);
    *infix++ = kOpen;
    expression(left);
    const int32_t operation = kDigits + draws.below(kOperations);
    *infix++ = operation;
    expression(operations - 1 - left);
    *infix++ = kClose;
    *postfix++ = operation;
  }
};

}  // namespace

Postfix::Postfix(int32_t operations) : PromptedTask(postfix_layout(operations)), operations_(operations) {}

void Postfix::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const {
  Writer writer{draws, prompt.data(), answer.data()};
  writer.expression(operations_);
  prompt.back() = kEquals;
}

std::string Postfix::value(std::span<const int32_t> program) const {
  std::vector<int32_t> stack;
  for (const int32_t one : program) {
    if (0 <= one && one < kDigits) {
      stack.push_back(one);
      continue;
    }
    if (one < kDigits || one >= kOpen || stack.size() < 2) return "invalid";
    const int32_t right = stack.back();
    stack.pop_back();
    const int32_t left = stack.back();
    const int32_t result = one == kDigits ? left + right : one == kDigits + 1 ? left - right + kDigits : left * right;
    stack.back() = result % kDigits;
  }
  return stack.size() == 1 ? fmt::to_string(stack.back()) : "invalid";
}

}  // namespace surtsey::experiments::tasks
