// The tokenizer that a GGUF file carries, from its arrays (tokenizer.ggml.*).
#pragma once

#include "experiments/text/tokenizer.h"

#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::text {

// The keys after "tokenizer.ggml."; reading them from the file is its reader's.
struct GgufVocabulary {
  std::string model;                // "llama" (sentencepiece's byte-pair encoding) or "gpt2" (byte level)
  std::string pre;                  // of gpt2: the name of its pre-tokenizer; "" is "default"
  std::vector<std::string> tokens;  // by id
  std::vector<float> scores;        // of llama, by id
  std::vector<int32_t> types;       // by id, or empty: all normal
  std::vector<std::string> merges;  // of gpt2: "a b", by rank
  std::optional<int32_t> bos_token_id, eos_token_id, unknown_token_id;
  std::optional<bool> add_bos_token, add_eos_token, add_space_prefix;
};

// UserError, which `path` begins: a model or a pre-tokenizer that is not supported, by name; arrays of other lengths;
// ids that are none.
Tokenizer gguf_tokenizer(const GgufVocabulary& vocabulary, const std::string& path);

}  // namespace surtsey::experiments::text
