// sentencepiece's compiled normalization rules (Precompiled of tokenizer.json): a double-array trie from parts of text
// to what stands for them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::text {

class CharacterMap {
 public:
  // Base64 of: u32 bytes of the trie, the trie in u32 units, the replacements with a zero byte after each. UserError
  // for anything else.
  CharacterMap(std::string_view base64, const std::string& where);

  // By grapheme clusters of fewer than six bytes where one is in the trie, else by characters: what T5, XLM-R and mBART
  // were trained with.
  std::string normalized(std::string_view text) const;

 private:
  // What stands for the shortest part at the beginning of `text` that is in the trie.
  std::optional<std::string_view> find(std::string_view text) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;
};

}  // namespace surtsey::experiments::text
