// The text of an answer as its tokens come: whole characters, and nothing of a stop string.
#pragma once

#include "experiments/text/tokenizer.h"

#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments::serve {

class RowText {
 public:
  // `before`: tokens that stand before the answer and are part of its text's context (a blank at a text's beginning is
  // left out by some tokenizers, and stays in its middle).
  RowText(const text::Tokenizer& tokenizer, std::span<const int32_t> before, std::vector<std::string> stops);

  // What a reader can be shown now that `token` came.
  std::string push(int32_t token);
  // The rest, when no token comes any more.
  std::string finish();
  bool stopped() const { return stopped_; }  // by a stop string

 private:
  std::string add(const std::string& piece);

  text::DecodeStream stream_;
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace surtsey::experiments::serve
