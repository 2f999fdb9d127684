#include "experiments/text/added_tokens.h"

#include "experiments/text/unicode.h"

namespace surtsey::experiments::text {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer) : tokens_(std::move(tokens)) {
  forms_.reserve(tokens_.size());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    forms_.push_back(token.content);
    if (token.normalized && normalizer) normalizer(forms_.back());
    by_id_[token.id] = i;
    by_content_[token.content] = token.id;
    if (token.special) specials_.insert(token.content);
  }
  std::vector<std::pair<std::string_view, int32_t>> raw, normalized;
  for (const auto& [id, i] : by_id_) (tokens_[i].normalized ? normalized : raw).emplace_back(forms_[i], int32_t(i));
  raw_ = Trie(std::move(raw));
  normalized_ = Trie(std::move(normalized));
}

std::optional<int32_t> AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(content);
  if (found == by_content_.end()) return std::nullopt;
  return found->second;
}

const std::string* AddedTokens::token(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &forms_[found->second];
}

void AddedTokens::split(Pieces& pieces, const Trie& trie) const {
  Pieces result;
  for (Piece& piece : pieces) {
    if (piece.token >= 0) {
      result.push_back(std::move(piece));
    } else {
      split_one(piece, trie, result);
    }
  }
  pieces = std::move(result);
}

void AddedTokens::split_one(const Piece& piece, const Trie& trie, Pieces& result) const {
  const std::string& text = piece.text;
  size_t done = 0;
  const auto text_until = [&](size_t end) {
    if (end > done) result.push_back({text.substr(done, end - done), -1, piece.first && done == 0});
  };
  for (size_t at = 0; at < text.size();) {
    size_t length = 0;
    int32_t place = 0;
    trie.for_each_prefix(text, at, [&](size_t size, int32_t value) { length = size, place = value; });
    if (length == 0) {
      at += character_length(text, at);
      continue;
    }
    const AddedToken& token = tokens_[size_t(place)];
    size_t begin = at, end = at + length;
    at = end;
    const bool word_before = begin > 0 && is_word_character(character_before(text, begin));
    const bool word_after = end < text.size() && is_word_character(character_at(text, end));
    if (token.single_word && (word_before || word_after)) continue;
    if (token.lstrip) {
      while (begin > done && is_whitespace(character_before(text, begin))) {
        do --begin;
        while (static_cast<unsigned char>(text[begin]) >> 6 == 2);
      }
    }
    if (token.rstrip) {
      while (end < text.size() && is_whitespace(character_at(text, end))) end += character_length(text, end);
    }
    text_until(begin);
    result.push_back({token.content, token.id, piece.first && begin == 0});
    done = std::max(done, end);
  }
  text_until(text.size());
}

}  // namespace surtsey::experiments::text
