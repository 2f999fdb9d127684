// From logits to a token on the host: what a generation's configuration asks for, one text at a time. (On the device,
// for studies: sampling.h.)
//
// Scores go through, in this order, each where the configuration asks for it: repetition_penalty,
// no_repeat_ngram_size, bad_words_ids, min_length, min_new_tokens, forced_bos_token_id, forced_eos_token_id,
// suppress_tokens, begin_suppress_tokens; then what transformers leaves to its callers: OpenAI's penalties, a bias of
// tokens, a grammar's mask; and with do_sample temperature, top_k, top_p, min_p, typical_p. Names, order and meaning
// are those of transformers 4 (processors.h).
//
// A draw inverts the cumulative distribution at a number that is a function of (seed, stream, step): equal seeds give
// equal texts whatever runs beside them.
#pragma once

#include "experiments/models/hub/generation.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace surtsey::experiments {

struct TokenScore {
  int32_t token = 0;
  float logprob = 0;
  bool operator==(const TokenScore&) const = default;
};

struct Drawn {
  int32_t token = 0;
  // Natural logarithms of softmax(logits), before anything is done to the logits. With top_logprobs >= 0 only.
  float logprob = 0;
  std::vector<TokenScore> top = {};  // the most likely ones, the likeliest first, of equals the smaller token
};

class Sampler {
 public:
  // `prompt`: what penalties, n-grams and lengths count beside what is drawn; of an encoder-decoder the target's
  // first tokens. Texts with other streams draw independently. UserError naming the key: a value that is impossible,
  // a token outside the vocabulary.
  Sampler(const hub::GenerationConfig& how, std::span<const int32_t> prompt, int64_t vocabulary, uint64_t seed,
          uint32_t stream = 0);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // OpenAI's: a token that was drawn c times, c > 0, loses c * frequency + presence. The prompt does not count.
  void set_openai_penalties(double frequency, double presence);
  // Added to the logits of these tokens. UserError: a token outside the vocabulary, a bias that is not finite.
  void set_logit_bias(std::map<int32_t, float> bias);
  // A grammar: called before each draw with V times true; what it makes false is not drawn.
  void set_mask(std::function<void(std::vector<bool>& allowed)> mask);

  // Draws from logits f32 [V], and counts the token. top_logprobs: how many of the likeliest tokens are told; -1: no
  // log-probability is computed. UserError when no token is left (a mask without any, say).
  Drawn draw(std::span<const float> logits, int64_t top_logprobs = -1);
  // Counts a token that was chosen otherwise.
  void push(int32_t token);

  // Whether `token` ends the text: one of the configuration's eos_token_id.
  bool ends(int32_t token) const;
  // How many tokens the text may still grow by max_new_tokens or max_length; 0: it ends.
  int64_t left() const;
  const std::vector<int32_t>& text() const;  // prompt, and what was drawn

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// log softmax of logits f32 [V] at `token`, and of the `count` likeliest, as Drawn has them.
Drawn log_probabilities(std::span<const float> logits, int32_t token, int64_t count);

}  // namespace surtsey::experiments
