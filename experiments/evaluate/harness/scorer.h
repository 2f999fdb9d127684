// What an evaluation needs of a model, so that its arithmetic can be tested without one.
#pragma once

#include "experiments/models/hub/generation.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace surtsey::experiments {

// Of one token, given all before it.
struct TokenLikelihood {
  double logprob = 0;      // nats
  bool likeliest = false;  // no token has a higher one
};

class Scorer {
 public:
  virtual ~Scorer() = default;

  virtual int64_t context() const = 0;          // tokens of a text at most
  virtual bool is_encoder_decoder() const = 0;  // a context is a source, which continuations answer

  // Of every token of `continuation` behind `context`. Both together have at most context() + 1 tokens (the last one
  // is scored and not read); of an encoder-decoder each has at most context(). A context has at least one token.
  virtual std::vector<TokenLikelihood> score(std::span<const int32_t> context,
                                             std::span<const int32_t> continuation) = 0;

  struct Request {
    std::vector<int32_t> prompt;  // 1 token at least
    int64_t most = 0;             // tokens that are written at most
  };
  // Goes on with the prompts, several at once. token() is told each new token of a prompt, by its place, and says
  // whether it goes on; done() comes when a text is at its end. Draws (do_sample) are of (seed, place).
  virtual void generate(std::span<const Request> requests, const hub::GenerationConfig& how, uint64_t seed,
                        const std::function<bool(size_t place, int32_t token)>& token,
                        const std::function<void(size_t place)>& done) = 0;
};

}  // namespace surtsey::experiments
