// The stages of a tokenizer, each a function, in the order in which a text meets them:
//
//   text -> added tokens split off -> normalizer -> pre-tokenizer -> model -> post-processor -> ids
//   ids -> tokens -> decoder -> text
//
// All text between them is UTF-8.
#pragma once

#include <cstdint>
#include <functional>
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
using PostProcessor = std::function<void(std::vector<int32_t>& ids)>;  // adds the special tokens
using Decoder = std::function<void(std::vector<std::string>& tokens)>;

// What a stage may make of `size` bytes; UserError beyond it. A file of a few bytes could otherwise ask for any amount.
void check_growth(size_t size, size_t result, const char* stage);

}  // namespace surtsey::experiments::text
