// Training of a byte-level byte-pair encoding (GPT-2's kind) from text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace surtsey::experiments::text {

// The token that stands between texts; the last id.
inline constexpr const char* kEndOfText = "<|endoftext|>";
inline constexpr int32_t kSmallestVocabulary = 257;  // every byte, and the end of a text

struct TrainedTokenizer {
  std::string json;        // tokenizer.json, as the tokenizers library reads it
  int32_t vocab_size = 0;  // fewer than asked for where no pair occurs twice any more
};

// Joins the most frequent pair of neighbours inside the parts that GPT-2's pattern cuts, of two equally frequent ones
// that with the smaller ids, until there are `vocab_size` tokens. Ids: bytes in the order of their characters
// (byte_level.h), joined pairs in the order of joining, kEndOfText. UserError for text that is not UTF-8 and a
// vocabulary that is too small. The same text always gives the same bytes.
TrainedTokenizer train_byte_bpe(std::string_view text, int32_t vocab_size);

}  // namespace surtsey::experiments::text
