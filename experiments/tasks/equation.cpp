#include "experiments/tasks/equation.h"

#include <fmt/format.h>

#include <cmath>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr const char* kVariables[] = {"a", "b", "c", "d", "e"};

// Tokens of n equations, `done` of whose variables are done, with what separates them.
int32_t system_length(int32_t n, int32_t done) {
  int32_t tokens = 0;
  for (int32_t row = 0; row < n; ++row) tokens += 3 * (n - done) + 2 + (row < done ? 2 : 0);
  return tokens;
}

int32_t elimination_length(int32_t n) {
  int32_t tokens = 0;
  for (int32_t done = 1; done <= n; ++done) tokens += system_length(n, done);
  return tokens;
}

int32_t inverse(int32_t number, int32_t modulus) {
  for (int32_t one = 1; one < modulus; ++one) {
    if (one * number % modulus == 1) return one;
  }
  throw UserError(fmt::format("[equation] the modulus {} is not a prime", modulus));
}

PromptedTask::Layout equation_layout(int32_t variables, int32_t modulus) {
  check(2 <= variables && variables <= 5, "[equation] {} variables are not in [2, 5]", variables);
  check(3 <= modulus && modulus <= 97, "[equation] the modulus {} is not in [3, 97]", modulus);
  for (int32_t number = 1; number < modulus; ++number) inverse(number, modulus);
  PromptedTask::Layout layout;
  layout.name = fmt::format("equation_{}", variables);
  for (int32_t number = 0; number < modulus; ++number) {
    layout.symbols.push_back(fmt::to_string(number));
  }
  layout.symbols.insert(layout.symbols.end(), kVariables, kVariables + variables);
  layout.symbols.insert(layout.symbols.end(), {"+", "=", ","});
  layout.prompt_length = system_length(variables, 0);
  layout.chance = std::pow(modulus, -variables);
  return layout;
}

}  // namespace

Equation::Equation(int32_t variables, SerialOptions options, int32_t modulus)
    : SerialTask(equation_layout(variables, modulus), options, elimination_length(variables),
                 system_length(variables, variables), "<sep>"),
      variables_(variables),
      modulus_(modulus) {}

void Equation::write(const Matrix& matrix, int32_t done, std::vector<int32_t>& out) const {
  const int32_t plus = token("+"), equals = token("="), comma = token(",");
  for (const std::vector<int32_t>& row : matrix) {
    for (int32_t j = 0; j < variables_; ++j) {
      const int32_t coefficient = row[static_cast<size_t>(j)];
      if (j < done && coefficient == 0) continue;
      if (j >= done || coefficient != 1) out.push_back(coefficient);
      out.push_back(modulus_ + j);
      out.push_back(plus);
    }
    out.back() = equals;
    out.push_back(row.back());
    out.push_back(comma);
  }
  out.back() = separator();
}

std::optional<Problem> Equation::solve(Matrix matrix) const {
  const auto n = static_cast<size_t>(variables_);
  Problem problem;
  write(matrix, 0, problem.prompt);
  for (size_t j = 0; j < n; ++j) {
    size_t pivot = j;
    while (pivot < n && matrix[pivot][j] == 0) ++pivot;
    if (pivot == n) return {};
    std::swap(matrix[pivot], matrix[j]);
    const int32_t factor = inverse(matrix[j][j], modulus_);
    for (int32_t& entry : matrix[j]) entry = entry * factor % modulus_;
    for (size_t row = 0; row < n; ++row) {
      const int32_t times = matrix[row][j];
      if (row == j || times == 0) continue;
      for (size_t k = 0; k <= n; ++k) {
        matrix[row][k] = (matrix[row][k] + (modulus_ - times) * matrix[j][k]) % modulus_;
      }
    }
    const auto done = static_cast<int32_t>(j) + 1;
    if (steps() || done == variables_) write(matrix, done, problem.answer);
  }
  problem.answer.back() = end_token();
  return problem;
}

Problem Equation::draw_problem(Split, int32_t, Draws& draws) const {
  const auto n = static_cast<size_t>(variables_);
  while (true) {
    Matrix matrix(n, std::vector<int32_t>(n + 1));
    for (auto& row : matrix) {
      for (int32_t& entry : row) entry = draws.below(modulus_);
    }
    if (auto problem = solve(std::move(matrix))) return *std::move(problem);
  }
}

}  // namespace surtsey::experiments::tasks
