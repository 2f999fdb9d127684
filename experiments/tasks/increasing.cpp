#include "experiments/tasks/increasing.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

PromptedTask::Layout increasing_layout(int32_t length, int32_t numbers) {
  check(3 <= length && length <= 100, "[increasing] {} numbers are not in [3, 100]", length);
  check(2 * length < numbers && numbers <= 1000, "[increasing] {} different numbers are not in [{}, 1000]", numbers,
        2 * length + 1);
  PromptedTask::Layout layout;
  layout.name = fmt::format("increasing_{}", length);
  for (int32_t number = 0; number < numbers; ++number) {
    layout.symbols.push_back(fmt::to_string(number));
  }
  layout.prompt_length = length + 1;
  layout.chance = 0;
  return layout;
}

// `count` of 0 .. range - 1, sorted.
std::vector<int32_t> choose(Draws& draws, int32_t range, int32_t count) {
  std::vector<int32_t> all(static_cast<size_t>(range));
  std::iota(all.begin(), all.end(), 0);
  for (int32_t i = 0; i < count; ++i) {
    std::swap(all[static_cast<size_t>(i)], all[static_cast<size_t>(i + draws.below(range - i))]);
  }
  all.resize(static_cast<size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

IncreasingSubsequence::IncreasingSubsequence(int32_t length, SerialOptions options, int32_t numbers)
    : SerialTask(increasing_layout(length, numbers), options, length + 3, 2, "<sep>"),
      length_(length),
      numbers_(numbers) {}

Problem IncreasingSubsequence::solve(const std::vector<int32_t>& sequence) const {
  std::vector<int32_t> lengths(sequence.size(), 1);
  for (size_t i = 0; i < sequence.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (sequence[j] < sequence[i]) lengths[i] = std::max(lengths[i], lengths[j] + 1);
    }
  }
  Problem problem{sequence, {}};
  problem.prompt.push_back(separator());
  const int32_t longest = *std::max_element(lengths.begin(), lengths.end());
  if (steps()) {
    problem.answer = std::move(lengths);
    problem.answer.push_back(separator());
  }
  problem.answer.insert(problem.answer.end(), {longest, end_token()});
  return problem;
}

Problem IncreasingSubsequence::draw_problem(Split, int32_t, Draws& draws) const {
  const int32_t runs = draws.below(3) + 1;
  const int32_t total = draws.below(length_ - 2) + 3;
  std::vector<int32_t> sizes = {total};
  if (runs > 1) {
    const int32_t first = draws.below(total / runs + 1) + 1;
    sizes = {first, total - first};
  }
  if (runs > 2) {
    const int32_t second = draws.below(sizes[1] / 2 + 1) + 1;
    sizes = {sizes[0], second, sizes[1] - second};
  }
  const int32_t least = length_ + 1;
  std::vector<int32_t> sorted;
  for (const int32_t size : sizes) {
    for (const int32_t one : choose(draws, numbers_ - least, size)) sorted.push_back(least + one);
  }
  std::vector<int32_t> sequence;
  const std::vector<int32_t> places = choose(draws, length_, total);
  for (int32_t i = 0; i < length_; ++i) sequence.push_back(least + draws.below(numbers_ - least));
  for (size_t i = 0; i < places.size(); ++i) sequence[static_cast<size_t>(places[i])] = sorted[i];
  return solve(sequence);
}

}  // namespace surtsey::experiments::tasks
