#include "experiments/tasks/unscramble.h"

#include <algorithm>
#include <set>

#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr std::string_view kConsonants = "bcdfghjklmnpqrstvwxz";
constexpr std::string_view kVowels = "aeiou";
constexpr uint32_t kWordKey = graph::stream_seed(0, "unscramble.words");

PromptedTask::Layout unscramble_layout(int32_t words) {
  check(2 <= words && words <= 4096, "[unscramble] {} words are not in [2, 4096]", words);
  PromptedTask::Layout layout;
  layout.name = "unscramble";
  for (char letter = 'a'; letter <= 'z'; ++letter) layout.symbols.emplace_back(1, letter);
  layout.symbols.push_back("=");
  layout.arms = {{"direct", "", Unscramble::kLetters}};
  layout.prompt_length = Unscramble::kLetters + 1;
  layout.chance = 1.0 / words;
  return layout;
}

}  // namespace

Unscramble::Unscramble(int32_t words) : PromptedTask(unscramble_layout(words)) {
  std::set<std::string> letters;
  Draws draws(kWordKey, 0);
  while (words_.size() < static_cast<size_t>(words)) {
    std::string word;
    for (int32_t i = 0; i < kLetters; ++i) {
      const std::string_view from = i % 2 == 0 ? kConsonants : kVowels;
      word += from[static_cast<size_t>(draws.below(static_cast<int32_t>(from.size())))];
    }
    std::string sorted = word;
    std::sort(sorted.begin(), sorted.end());
    if (letters.insert(sorted).second) words_.push_back(word);
  }
}

void Unscramble::write_problem(int32_t, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const {
  const auto& word = words_[static_cast<size_t>(draws.below(static_cast<int32_t>(words_.size())))];
  for (size_t i = 0; i < word.size(); ++i) prompt[i] = answer[i] = word[i] - 'a';
  for (size_t left = word.size(); left > 1; --left) {
    std::swap(prompt[left - 1], prompt[static_cast<size_t>(draws.below(static_cast<int32_t>(left)))]);
  }
  prompt[word.size()] = token("=");
}

}  // namespace surtsey::experiments::tasks
