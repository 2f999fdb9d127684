// The models of tokenizer.json, and sentencepiece's own byte-pair encoding: a part of a text as ids.
#pragma once

#include "experiments/text/vocabulary.h"

#include <memory>

namespace surtsey::experiments::text {

// May be asked by several threads at once.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of a part, which is not empty. UserError where a character is unknown and the model has no token
  // for that.
  virtual void encode(std::string_view part, std::vector<int32_t>& ids) const = 0;
};
using SharedVocabulary = std::shared_ptr<const Vocabulary>;

// Byte-pair encoding: characters, then the pair of the lowest rank is joined until none is left.
struct BpeOptions {
  std::optional<std::string> unk_token;   // for a character that is no token; without one it is left out
  std::string continuing_subword_prefix;  // of every character but the first
  std::string end_of_word_suffix;         // of the last character
  bool fuse_unk = false;                  // one unknown token for neighbours
  bool byte_fallback = false;             // <0xE2> <0x96> .. for a character that is no token
  bool ignore_merges = false;             // a part that is a token is taken whole
};
using Merges = std::vector<std::pair<std::string, std::string>>;  // by rank
std::unique_ptr<TokenModel> make_bpe(SharedVocabulary vocabulary, const Merges& merges, BpeOptions options,
                                     const std::string& where);

// The longest token first; the whole part is unknown where a piece of it is, or where it is too long.
struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  int64_t max_input_chars_per_word = 100;
};
std::unique_ptr<TokenModel> make_wordpiece(SharedVocabulary vocabulary, WordPieceOptions options);
// Whole parts only.
std::unique_ptr<TokenModel> make_word_level(SharedVocabulary vocabulary, std::string unk_token);

// The segmentation with the largest sum of log-probabilities; a character that is no token costs ten more than the
// worst token. `scores` by id.
struct UnigramOptions {
  std::optional<int32_t> unk_id;
  bool byte_fallback = false;
};
std::unique_ptr<TokenModel> make_unigram(SharedVocabulary vocabulary, std::vector<double> scores,
                                         UnigramOptions options, const std::string& where);

// Joins neighbours into the token with the best score, the leftmost first; what is no token becomes its bytes.
std::unique_ptr<TokenModel> make_sentencepiece_bpe(SharedVocabulary vocabulary, std::vector<float> scores,
                                                   std::optional<int32_t> unk_id);

}  // namespace surtsey::experiments::text
