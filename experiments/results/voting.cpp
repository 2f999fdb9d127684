#include "experiments/results/voting.h"

#include <algorithm>

#include "graph/error.h"

namespace surtsey::experiments {

int32_t majority(std::span<const int32_t> answers) {
  check(!answers.empty(), "[voting] a vote without answers");
  int32_t winner = answers.front();
  int64_t most = 0;
  for (const int32_t answer : answers) {
    const int64_t votes = std::count(answers.begin(), answers.end(), answer);
    if (votes > most) winner = answer, most = votes;
  }
  return winner;
}

double majority_at_k(std::span<const int32_t> answers, int32_t right, int32_t k) {
  const auto size = static_cast<int64_t>(answers.size());
  check(k >= 1 && k <= size, "[voting] votes of {} among {} answers", k, size);
  const int64_t groups = size / k;
  int64_t hits = 0;
  for (int64_t group = 0; group < groups; ++group) {
    const auto part = answers.subspan(static_cast<size_t>(group * k), static_cast<size_t>(k));
    hits += majority(part) == right ? 1 : 0;
  }
  return static_cast<double>(hits) / static_cast<double>(groups);
}

}  // namespace surtsey::experiments
