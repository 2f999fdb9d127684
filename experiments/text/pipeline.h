// The stages of a tokenizer, each a function, in the order in which a text meets them:
//
//   text -> added tokens split off -> normalizer -> pre-tokenizer -> model -> post-processor -> ids
//   ids -> tokens -> decoder -> text
//
// All text between them is UTF-8.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::text {

// A part of the text: either still text, or an added token that is taken as it is.
struct Piece {
  std::string text;
  int32_t token = -1;  // the added token
  bool first = false;  // it begins where the text begins
};
using Pieces = std::vector<Piece>;

using Normalizer = std::function<void(std::string& text)>;
using PreTokenizer = std::function<void(Pieces& pieces)>;

// The tokens of a text, or of two that become one.
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<uint8_t> kinds = {};                  // one a token: its token type, 1 of most second texts
  std::optional<std::vector<int32_t>> second = {};  // what stands behind ids, until a post-processor joins them
};
using PostProcessor = std::function<void(Encoding& encoding)>;  // adds the special tokens
using Decoder = std::function<void(std::vector<std::string>& tokens)>;

// What a stage may make of `size` bytes; UserError beyond it. A file of a few bytes could otherwise ask for any amount.
void check_growth(size_t size, size_t result, const char* stage);

}  // namespace surtsey::experiments::text
