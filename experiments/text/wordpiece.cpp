#include "experiments/text/models.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

int32_t unknown(const Vocabulary& vocabulary, const std::string& unk_token) {
  const auto id = vocabulary.find(unk_token);
  check(id.has_value(), "a word is unknown, and the unk_token '{}' is not in the vocabulary", unk_token);
  return *id;
}

class WordPiece : public TokenModel {
 public:
  WordPiece(SharedVocabulary vocabulary, WordPieceOptions options)
      : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
    for (int32_t id = 0; id < vocabulary_->size(); ++id) {
      if (const std::string* token = vocabulary_->token(id)) longest_ = std::max(longest_, token->size());
    }
  }

  void encode(std::string_view part, std::vector<int32_t>& ids) const override {
    const size_t before = ids.size();
    if (character_count(part) > size_t(options_.max_input_chars_per_word) || !cut(part, ids)) {
      ids.resize(before);
      ids.push_back(unknown(*vocabulary_, options_.unk_token));
    }
  }

 private:
  bool cut(std::string_view part, std::vector<int32_t>& ids) const {
    std::string token;
    for (size_t begin = 0; begin < part.size();) {
      const std::string_view prefix = begin > 0 ? std::string_view(options_.continuing_subword_prefix) : "";
      token = prefix;
      token += part.substr(begin, longest_);
      std::optional<int32_t> found;
      while (token.size() > prefix.size() && !(found = vocabulary_->find(token))) token.pop_back();
      if (!found) return false;
      ids.push_back(*found);
      begin += token.size() - prefix.size();
    }
    return true;
  }

  SharedVocabulary vocabulary_;
  WordPieceOptions options_;
  size_t longest_ = 0;  // token, bytes
};

class WordLevel : public TokenModel {
 public:
  WordLevel(SharedVocabulary vocabulary, std::string unk_token)
      : vocabulary_(std::move(vocabulary)), unk_token_(std::move(unk_token)) {}

  void encode(std::string_view part, std::vector<int32_t>& ids) const override {
    const auto id = vocabulary_->find(part);
    ids.push_back(id ? *id : unknown(*vocabulary_, unk_token_));
  }

 private:
  SharedVocabulary vocabulary_;
  std::string unk_token_;
};

}  // namespace

std::unique_ptr<TokenModel> make_wordpiece(SharedVocabulary vocabulary, WordPieceOptions options) {
  return std::make_unique<WordPiece>(std::move(vocabulary), std::move(options));
}

std::unique_ptr<TokenModel> make_word_level(SharedVocabulary vocabulary, std::string unk_token) {
  return std::make_unique<WordLevel>(std::move(vocabulary), std::move(unk_token));
}

}  // namespace surtsey::experiments::text
