#include "experiments/tasks/arithmetic.h"

#include <fmt/format.h>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr const char* kSigns[] = {"+", "-", "*", "/"};

// Tokens of the longest expression: every operation but the outermost in parentheses.
int32_t longest(int32_t operators) { return operators == 0 ? 1 : 4 * operators - 1; }

// Of the longest chain: an expression for each count of operators below n, "=" between them, the
// end.
int32_t longest_chain(int32_t operators) {
  int32_t tokens = operators;
  for (int32_t k = 0; k < operators; ++k) tokens += longest(k);
  return tokens;
}

bool is_prime(int32_t number) {
  for (int32_t factor = 2; factor * factor <= number; ++factor) {
    if (number % factor == 0) return false;
  }
  return number > 1;
}

PromptedTask::Layout arithmetic_layout(int32_t operators, int32_t modulus) {
  check(1 <= operators && operators <= 18, "[arithmetic] {} operators are not in [1, 18]", operators);
  check(3 <= modulus && modulus <= 97 && is_prime(modulus), "[arithmetic] the modulus {} is not a prime in [3, 97]",
        modulus);
  PromptedTask::Layout layout;
  layout.name = fmt::format("arithmetic_{}", operators);
  for (int32_t number = 0; number < modulus; ++number) {
    layout.symbols.push_back(fmt::to_string(number));
  }
  layout.symbols.insert(layout.symbols.end(), std::begin(kSigns), std::end(kSigns));
  layout.symbols.insert(layout.symbols.end(), {"(", ")"});
  layout.prompt_length = longest(operators) + 1;
  layout.chance = 1.0 / modulus;
  return layout;
}

}  // namespace

Arithmetic::Arithmetic(int32_t operators, SerialOptions options, bool shorter, int32_t modulus)
    : SerialTask(arithmetic_layout(operators, modulus), options, longest_chain(operators), 1, "="),
      operators_(operators),
      modulus_(modulus),
      shorter_(shorter) {}

int32_t Arithmetic::divide(int32_t number, int32_t by) const {
  for (int32_t quotient = 0; quotient < modulus_; ++quotient) {
    if (quotient * by % modulus_ == number) return quotient;
  }
  ensure(false, "[arithmetic] {} / {} modulo {}", number, by, modulus_);
  return 0;
}

void Arithmetic::expand(std::vector<int32_t>& expression, size_t place, int32_t left, std::string_view operation,
                        int32_t right) const {
  const auto is = [&](size_t at, std::string_view symbol) { return expression[at] == token(symbol); };
  const bool sum = operation == "+" || operation == "-";
  const bool after = place > 0, before = place + 1 < expression.size();
  const bool enclosed =
      (after && is(place - 1, "/")) || (sum && ((after && (is(place - 1, "*") || is(place - 1, "-"))) ||
                                                (before && (is(place + 1, "*") || is(place + 1, "/")))));
  std::vector<int32_t> part = {left, token(operation), right};
  if (enclosed) {
    part.insert(part.begin(), token("("));
    part.push_back(token(")"));
  }
  const auto at = expression.begin() + static_cast<std::ptrdiff_t>(place);
  expression.insert(expression.erase(at), part.begin(), part.end());
}

void Arithmetic::grow(std::vector<int32_t>& expression, Draws& draws) const {
  size_t place = 0;
  do {
    place = static_cast<size_t>(draws.below(static_cast<int32_t>(expression.size())));
  } while (expression[place] >= modulus_);
  const int32_t value = expression[place];
  while (true) {
    const int32_t left = draws.below(modulus_);
    const int32_t operation = draws.below(4);
    int32_t right = 0;
    if (operation == 0) {
      right = (value - left + modulus_) % modulus_;
    } else if (operation == 1) {
      right = (left - value + modulus_) % modulus_;
    } else if (left == 0) {  // 0 * r = 0 for every r, 0 / r = 0 for every r but 0
      if (value != 0) continue;
      right = draws.below(modulus_);
      if (operation == 3 && right == 0) continue;
    } else if (operation == 2) {
      right = divide(value, left);
    } else {
      if (value == 0) continue;
      right = divide(left, value);
    }
    return expand(expression, place, left, kSigns[operation], right);
  }
}

int32_t Arithmetic::draw_operators(Split split, Draws& draws) const {
  if (split != Split::kTrain || !shorter_) return operators_;
  const double place = draws.quantile() * operators_ * (operators_ + 1) / 2;
  int32_t count = 1;
  while (count < operators_ && place >= count * (count + 1) / 2) ++count;
  return count;
}

Problem Arithmetic::draw_problem(Split split, int32_t, Draws& draws) const {
  const int32_t operators = draw_operators(split, draws);
  const int32_t equals = token("=");
  std::vector<int32_t> expression = {draws.below(modulus_)};
  Problem problem;
  problem.answer = {expression[0]};
  if (steps()) problem.answer.push_back(end_token());
  for (int32_t k = 0; k < operators; ++k) {
    if (k > 0 && steps()) {
      problem.answer.insert(problem.answer.begin(), equals);
      problem.answer.insert(problem.answer.begin(), expression.begin(), expression.end());
    }
    grow(expression, draws);
  }
  problem.prompt = std::move(expression);
  problem.prompt.push_back(equals);
  return problem;
}

}  // namespace surtsey::experiments::tasks
