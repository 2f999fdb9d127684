// Tokens beside those of the model, found in the text before anything else happens to it.
#pragma once

#include "experiments/text/pipeline.h"
#include "experiments/text/vocabulary.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace surtsey::experiments::text {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false;  // not inside a word
  bool lstrip = false;       // takes the blanks before it
  bool rstrip = false;       // takes the blanks after it
  bool normalized = false;   // found in the normalized text, by its own normalized form
  bool special = false;      // left out of decoded text where that is asked for
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // The normalizer may be empty.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  std::optional<int32_t> find(std::string_view content) const;
  // The token as decoders get it; nullptr where no added token has this id.
  const std::string* token(int32_t id) const;
  bool is_special(std::string_view token) const { return specials_.contains(token); }

  // Splits the pieces that are text at the tokens that are found in it as it is, and at those that are found in it
  // normalized; the longest that begins leftmost counts.
  void split_raw(Pieces& pieces) const { split(pieces, raw_); }
  void split_normalized(Pieces& pieces) const { split(pieces, normalized_); }

 private:
  void split(Pieces& pieces, const Trie& trie) const;
  void split_one(const Piece& piece, const Trie& trie, Pieces& result) const;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> forms_;  // of each token: as it is found in text
  std::map<int32_t, size_t> by_id_;
  std::map<std::string, int32_t, std::less<>> by_content_;
  std::set<std::string, std::less<>> specials_;
  Trie raw_, normalized_;  // of forms, to places in tokens_
};

}  // namespace surtsey::experiments::text
