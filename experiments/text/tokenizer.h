// Text to tokens and back, as the tokenizers library of Hugging Face does it.
//
//   const Tokenizer tokenizer = load_tokenizer("models/gpt2");     // tokenizer_json.h
//   std::vector<int32_t> ids = tokenizer.encode("Hello", {.special_tokens = true});
//   std::string text = tokenizer.decode(ids, {.skip_special_tokens = true});
//
// Text is UTF-8; anything else is a UserError. A tokenizer may be used by several threads at once.
#pragma once

#include "experiments/text/added_tokens.h"
#include "experiments/text/models.h"
#include "experiments/text/pipeline.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::text {

struct EncodeOptions {
  bool special_tokens = true;  // what the model wants around a text: [CLS] and [SEP], <s>
};
// What a model that classifies reads: a text, or a pair of texts as one.
struct EncodedText {
  std::vector<int32_t> ids;
  std::vector<uint8_t> kinds;  // one a token: its token type
  int64_t whole = 0;           // tokens that it would have if nothing were cut
};
struct DecodeOptions {
  bool skip_special_tokens = false;
};

class Tokenizer {
 public:
  // Its parts; functions that are empty do nothing.
  struct Parts {
    SharedVocabulary vocabulary;
    std::shared_ptr<const TokenModel> model;
    AddedTokens added;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    PostProcessor post_processor;
    Decoder decoder;  // where there is none, blanks stand between tokens
  };
  explicit Tokenizer(Parts parts) : parts_(std::move(parts)) {}

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  // With what the model wants around a text and between two. Of more than `most` tokens those of the texts are cut at
  // their ends, the longer one first; UserError: not even the special tokens have room.
  EncodedText encode(std::string_view text, std::optional<std::string_view> second, int64_t most = INT64_MAX) const;
  // Ids that no token has are passed over: models have more outputs than tokens.
  std::string decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  int32_t vocab_size() const;  // the largest id of a token + 1
  std::optional<int32_t> id(std::string_view token) const;
  // The token as it is written in files; "" where no token has this id.
  std::string token(int32_t id) const;
  bool is_special(int32_t id) const;

 private:
  std::vector<int32_t> plain(std::string_view text) const;

  Parts parts_;
};

// Text as its tokens come: what push() returned, and finish() at the end, are together what decode() gives. A piece
// ends between characters; where bytes of one are missing it waits.
class DecodeStream {
 public:
  // The tokenizer outlives it.
  explicit DecodeStream(const Tokenizer& tokenizer, DecodeOptions options = {})
      : tokenizer_(tokenizer), options_(options) {}

  std::string push(int32_t id);
  std::string finish();

 private:
  std::string take(bool all);

  const Tokenizer& tokenizer_;
  DecodeOptions options_;
  std::vector<int32_t> window_;  // tokens whose text is out, which what follows may depend on, and those that wait
  size_t out_ = 0;               // of them, the former
};

}  // namespace surtsey::experiments::text
