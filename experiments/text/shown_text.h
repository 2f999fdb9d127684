// Tokens as a reader sees them while they come: whole characters, without special tokens, up to a stop string.
#pragma once

#include "experiments/text/tokenizer.h"

#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments::text {

class ShownText {
 public:
  // The tokenizer outlives it. `before`: tokens that stand before and are part of the text's context (a blank at a
  // text's beginning is left out by some tokenizers, and stays in its middle).
  ShownText(const Tokenizer& tokenizer, std::vector<std::string> stops, std::span<const int32_t> before = {});

  // What can be shown now that the token came: nothing that a stop string may begin with.
  std::string push(int32_t token);
  // The rest, when no token follows.
  std::string finish();
  bool stopped() const { return stopped_; }          // a stop string came: what follows is not shown
  const std::string& text() const { return text_; }  // all that was shown

 private:
  std::string show(const std::string& piece, bool all);

  DecodeStream stream_;
  std::vector<std::string> stops_;
  std::string held_, text_;
  bool stopped_ = false;
};

}  // namespace surtsey::experiments::text
