// Unscramble (E04): which word has these letters?
//
//   u b a k t = b a k u t             256 pseudo-words, consonant-vowel-consonant-vowel-consonant
//
// No two words have the same letters, so every scramble has one answer, and a model has to know the
// words. Scrambles that a test asks are kept out of training; the words are all seen there. The
// final answer is the whole word.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

class Unscramble : public PromptedTask {
 public:
  static constexpr int32_t kLetters = 5;

  // `words` in [2, 4096]. The same number gives the same words everywhere.
  explicit Unscramble(int32_t words = 256);

  const std::vector<std::string>& words() const { return words_; }
  std::string value(std::span<const int32_t> answer) const override { return decode(answer); }

 protected:
  void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const override;

 private:
  std::vector<std::string> words_;
};

}  // namespace surtsey::experiments::tasks
