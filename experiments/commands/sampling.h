// From logits to a token.
#pragma once

#include <cstdint>
#include <span>

namespace surtsey::experiments::commands {

struct TokenChoice {
  double temperature = 1;  // 0: the most likely token, the first of equals
  int64_t top_k = 0;       // only the k most likely; 0: all
  double top_p = 1;        // of those only the fewest, from the most likely on, whose share is >= p
                           // (nucleus sampling, Holtzman et al. 2020)
  uint32_t seed = 0;
};

// The token that text `index` draws at `step`: a pure function of its arguments. UserError when a
// logit is not a number.
int32_t choose_token(std::span<const float> logits, const TokenChoice& choice, uint32_t step,
                     uint32_t index);

}  // namespace surtsey::experiments::commands
