#include "experiments/tasks/edit_distance.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr int32_t kNumberTokens = 60;  // tokens before the letters
constexpr int32_t kLetters = 26;
constexpr int32_t kGap = 2, kReplacement = 3;
constexpr int32_t kLonger = 2, kShorter = 3;  // than `length`

using Letters = std::vector<int32_t>;

PromptedTask::Layout edit_distance_layout(int32_t length) {
  check(4 <= length && length <= 20, "[edit_distance] {} letters are not in [4, 20]", length);
  PromptedTask::Layout layout;
  layout.name = fmt::format("edit_distance_{}", length);
  for (int32_t number = 0; number < kNumberTokens; ++number) {
    layout.symbols.push_back(fmt::to_string(number));
  }
  for (int32_t letter = 0; letter < kLetters; ++letter) {
    layout.symbols.emplace_back(1, static_cast<char>('a' + letter));
  }
  layout.symbols.insert(layout.symbols.end(), {"|", ","});
  layout.prompt_length = 2 * length + kLonger + 2;
  layout.chance = 0;
  return layout;
}

int32_t table_length(int32_t length) { return length * (length + kLonger + 1) + 3; }

// One random edit of three kinds; a string of two letters grows instead of shrinking.
void edit(Letters& text, const Letters& alphabet, Draws& draws) {
  const auto place = [&](size_t count) { return draws.below(static_cast<int32_t>(count)); };
  const auto letter = [&] { return alphabet[static_cast<size_t>(place(alphabet.size()))]; };
  const int32_t kind = draws.below(3);
  if (kind == 0 && text.size() > 2) {
    text.erase(text.begin() + place(text.size()));
  } else if (kind == 1) {
    text[static_cast<size_t>(place(text.size()))] = letter();
  } else {
    text.insert(text.begin() + place(text.size() + 1), letter());
  }
}

}  // namespace

EditDistance::EditDistance(int32_t length, SerialOptions options)
    : SerialTask(edit_distance_layout(length), options, table_length(length), 2, "<sep>"), length_(length) {}

std::optional<Problem> EditDistance::solve(const Letters& first, const Letters& second) const {
  Problem problem;
  for (const int32_t letter : first) problem.prompt.push_back(kNumberTokens + letter);
  problem.prompt.push_back(token("|"));
  for (const int32_t letter : second) problem.prompt.push_back(kNumberTokens + letter);
  problem.prompt.push_back(separator());
  std::vector<int32_t> above(second.size() + 1);
  for (size_t j = 0; j <= second.size(); ++j) above[j] = kGap * static_cast<int32_t>(j);
  for (size_t i = 1; i <= first.size(); ++i) {
    std::vector<int32_t> row = {kGap * static_cast<int32_t>(i)};
    for (size_t j = 1; j <= second.size(); ++j) {
      const int32_t replaced = above[j - 1] + (first[i - 1] == second[j - 1] ? 0 : kReplacement);
      row.push_back(std::min({above[j] + kGap, row[j - 1] + kGap, replaced}));
      if (row.back() >= kNumberTokens) return {};
      if (steps()) problem.answer.push_back(row.back());
    }
    if (steps()) problem.answer.push_back(token(","));
    above = std::move(row);
  }
  if (steps()) problem.answer.push_back(separator());
  problem.answer.insert(problem.answer.end(), {above.back(), end_token()});
  return problem;
}

Problem EditDistance::draw_problem(Split, int32_t, Draws& draws) const {
  const int32_t edits = draws.below(length_) + 1;
  while (true) {
    Letters alphabet(kLetters);
    for (int32_t i = 0; i < kLetters; ++i) alphabet[static_cast<size_t>(i)] = i;
    const int32_t letters = draws.below(8) + 3;
    for (int32_t i = 0; i < letters; ++i) {
      std::swap(alphabet[static_cast<size_t>(i)], alphabet[static_cast<size_t>(i + draws.below(kLetters - i))]);
    }
    alphabet.resize(static_cast<size_t>(letters));
    const auto random_text = [&](int32_t length) {
      Letters text;
      for (int32_t i = 0; i < length; ++i) {
        text.push_back(alphabet[static_cast<size_t>(draws.below(letters))]);
      }
      return text;
    };
    const Letters first = random_text(length_);
    Letters second = first;
    if (draws.uniform() < 0.4) {
      second = random_text(length_ - kShorter + draws.below(kShorter + kLonger + 1));
    } else {
      for (int32_t i = 0; i < edits; ++i) edit(second, alphabet, draws);
    }
    const auto length = static_cast<int32_t>(second.size());
    if (first == second || length > length_ + kLonger || length < length_ - kShorter) continue;
    auto problem = length < length_ ? solve(second, first) : solve(first, second);
    if (problem) return *std::move(problem);
  }
}

}  // namespace surtsey::experiments::tasks
