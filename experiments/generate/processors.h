// What stands between a model's scores of the next token and the choice among them: the processors of transformers
// 4.48, in the order of its lists and with its meaning, each where the configuration asks for it.
#pragma once

#include "experiments/models/hub/generation.h"

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace surtsey::experiments {

// The score of a token that must not be chosen.
inline constexpr float kBanned = -std::numeric_limits<float>::infinity();

class Processors {
 public:
  // Of texts that begin with `given` tokens, which were not generated. UserError naming the key: a token outside the
  // vocabulary, a number that is impossible.
  Processors(const hub::GenerationConfig& how, int64_t given, int64_t vocabulary);

  // How many tokens a text has at most, what was given included.
  int64_t max_length() const { return max_length_; }

  // What holds for greedy choices, draws and beams, from repetition_penalty to begin_suppress_tokens. `scores` f32 [V]
  // are logits, or with beams their log softmax; `text`: what the next token follows.
  void process(std::span<const int32_t> text, std::span<float> scores) const;

  // What holds for draws alone: temperature, top_k, top_p, min_p, typical_p. At least `least` tokens stay.
  void warp(std::span<float> scores, int64_t least = 1) const;

 private:
  void repetition(std::span<const int32_t> text, std::span<float> scores) const;
  void ngrams(std::span<const int32_t> text, std::span<float> scores) const;
  void bad_words(std::span<const int32_t> text, std::span<float> scores) const;

  const hub::GenerationConfig how_;
  const int64_t vocabulary_;
  const int64_t max_length_;
  int64_t min_length_ = 0;   // of the whole text
  int64_t begin_index_ = 0;  // the length at which begin_suppress_tokens holds
};

// log softmax of f32 [V], in place; a banned one stays so.
void log_softmax(std::span<float> scores);

}  // namespace surtsey::experiments
