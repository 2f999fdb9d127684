// Prompts as tokens, cut as lm-evaluation-harness cuts them.
#pragma once

#include "experiments/models/hub/config.h"
#include "experiments/text/tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace surtsey::experiments {

// A continuation is scored behind a context.
struct TokenPair {
  std::vector<int32_t> context, continuation;
};

class PromptEncoder {
 public:
  struct Options {
    bool add_bos_token = false;       // before every context (a decoder's; others have what their tokenizer adds)
    bool is_encoder_decoder = false;  // contexts are sources, with the special tokens that sources have
  };
  // `tokens`: the model's. UserError, by all that follows: add_bos_token asks for a token that there is not; a context
  // is empty, and the model has neither a first token of texts nor one that ends them.
  PromptEncoder(const text::Tokenizer& tokenizer, hub::SpecialTokens tokens, Options options)
      : tokenizer_(tokenizer), tokens_(std::move(tokens)), options_(options) {}

  // The whole is encoded, and the context: what the whole has more is the continuation. Blanks at the end of the
  // context go over to the continuation, as tokens begin with blanks. An empty context is the first token of texts
  // (else the one that ends them). UserError: a continuation without a token.
  TokenPair pair(const std::string& context, const std::string& continuation) const;

  // Every token of a text once. Windows of `window` tokens each have one token before them, the first one the first
  // token of texts; the last, shorter one is preceded by as many as there is room for. With a smaller `stride` so many
  // are scored at a time, and the window's others stand before them. Of a model that has neither a first token of texts
  // nor one that ends them the text's own first token is given, not scored.
  std::vector<TokenPair> rolling(const std::string& text, int64_t window, int64_t stride) const;

  // Of what is continued; of more than `most` tokens the last.
  std::vector<int32_t> prompt(const std::string& text, int64_t most) const;

 private:
  std::vector<int32_t> context_tokens(const std::string& text) const;
  int32_t first_token() const;

  const text::Tokenizer& tokenizer_;
  hub::SpecialTokens tokens_;
  Options options_;
};

}  // namespace surtsey::experiments
