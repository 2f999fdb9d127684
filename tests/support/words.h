// Texts as words, parts of texts counted, and tokens as a list.
#pragma once

#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace surtsey::tests {

using Words = std::vector<std::string>;

// Words are separated by blanks.
inline Words words_of(const std::string& text) {
  std::istringstream stream(text);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

inline size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

inline std::vector<int32_t> tokens_of(std::span<const int32_t> tokens) { return {tokens.begin(), tokens.end()}; }

}  // namespace surtsey::tests
