// The tokenizer that a GGUF file carries: its arrays as they stand, for text/ to make something of.
#pragma once

#include "experiments/formats/gguf.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct GgufTokenizer {
  // Empty where the file has a whole tokenizer.json and nothing else.
  std::string model;  // "llama" (SentencePiece), "gpt2" (byte-level BPE), "bert" (WordPiece), "t5" (Unigram)
  std::string pre;    // how text is split first: "llama-bpe", "qwen2", "smollm", ..; empty where it is not said
  std::vector<std::string> tokens;
  std::vector<float> scores;   // one a token, or none
  std::vector<int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; one a token, or none
  std::vector<std::string> merges;
  // -1 where it is not said.
  int64_t bos = -1, eos = -1, end_of_turn = -1, unknown = -1, separator = -1, padding = -1, mask = -1;
  std::optional<bool> add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
  std::string precompiled_charsmap;  // bytes of Unigram's normalizer
  std::string chat_template;
  std::string hugging_face_json;  // a whole tokenizer.json, in files that have it
  bool operator==(const GgufTokenizer&) const = default;
};

// Nothing where the file has none. UserError beginning with `where`: an array of another kind or length.
std::optional<GgufTokenizer> gguf_tokenizer(const Gguf& file, const std::string& where);

// The keys that gguf_tokenizer() reads back to the same.
void add_tokenizer(GgufMetadata& metadata, const GgufTokenizer& tokenizer);

}  // namespace surtsey::experiments
