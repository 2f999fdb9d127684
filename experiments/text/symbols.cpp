#include "experiments/text/symbols.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/error.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr size_t kMostNamed = 40;  // in a message

std::string vocabulary_text(std::span<const std::string> symbols) {
  std::string text;
  for (size_t i = 0; i < std::min(symbols.size(), kMostNamed); ++i) {
    text += (i == 0 ? "" : " ") + symbols[i];
  }
  return text + (symbols.size() > kMostNamed ? " .." : "");
}

}  // namespace

std::string decode_symbols(std::span<const int32_t> tokens, std::span<const std::string> symbols,
                           std::string_view task) {
  std::string text;
  for (const int32_t token : tokens) {
    check(token >= 0 && static_cast<size_t>(token) < symbols.size(), "[{}] token {} is not in a vocabulary of {}", task,
          token, symbols.size());
    if (!text.empty()) text += ' ';
    text += symbols[static_cast<size_t>(token)];
  }
  return text;
}

std::vector<int32_t> encode_symbols(std::string_view text, std::span<const std::string> symbols,
                                    std::string_view task) {
  std::vector<int32_t> tokens;
  while (true) {
    const size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) return tokens;
    text.remove_prefix(start);
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(word.size());
    const auto found = std::find(symbols.begin(), symbols.end(), word);
    check(found != symbols.end(), "[{}] '{}' is not in the vocabulary: {}", task, word, vocabulary_text(symbols));
    tokens.push_back(static_cast<int32_t>(found - symbols.begin()));
  }
}

}  // namespace surtsey::experiments::tasks
