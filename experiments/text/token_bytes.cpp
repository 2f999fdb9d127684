#include "experiments/text/token_bytes.h"

#include "experiments/text/byte_level.h"

#include <optional>
#include <string_view>

namespace surtsey::experiments::text {
namespace {

// <0x00> to <0xFF>.
std::optional<char> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char letter : token.substr(3, 2)) {
    const int digit = letter >= '0' && letter <= '9'   ? letter - '0'
                      : letter >= 'A' && letter <= 'F' ? letter - 'A' + 10
                      : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
                                                       : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return char(value);
}

// Whether the blank is written as U+0120, as GPT-2's alphabet has it.
bool is_byte_level(const Tokenizer& tokenizer) {
  const auto blank = tokenizer.id("\u0120");
  if (!blank) return false;
  const std::vector<int32_t> twice = {*blank, *blank};
  return tokenizer.decode(twice) == "  ";
}

// A plain token that the others are put behind; -1: there is none.
int32_t anchor_of(const Tokenizer& tokenizer) {
  for (const char* letter : {"a", "e", "\u2581a", "A", "0", "."}) {
    const auto id = tokenizer.id(letter);
    if (id && !tokenizer.is_special(*id)) return *id;
  }
  return -1;
}

}  // namespace

std::vector<std::string> token_bytes(const Tokenizer& tokenizer) {
  const bool byte_level = is_byte_level(tokenizer);
  const int32_t anchor = byte_level ? -1 : anchor_of(tokenizer);
  const std::string before = anchor < 0 ? "" : tokenizer.decode(std::vector<int32_t>{anchor});
  // <0xE2> is a byte where three of these decode to a character.
  bool falls_back = false;
  if (const auto a = tokenizer.id("<0xE2>"), b = tokenizer.id("<0x82>"), c = tokenizer.id("<0xAC>"); a && b && c) {
    falls_back = tokenizer.decode(std::vector<int32_t>{*a, *b, *c}).ends_with("\u20AC");
  }
  std::vector<std::string> result(size_t(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string token = tokenizer.token(id);
    if (token.empty() || tokenizer.is_special(id)) continue;
    std::string& bytes = result[size_t(id)];
    if (byte_level) {
      bytes = characters_as_bytes(token);
      continue;
    }
    if (const auto byte = falls_back ? byte_token(token) : std::nullopt) {
      bytes = std::string(1, *byte);
      continue;
    }
    if (anchor < 0) {
      bytes = tokenizer.decode(std::vector<int32_t>{id});
      continue;
    }
    const std::string both = tokenizer.decode(std::vector<int32_t>{anchor, id});
    if (both.starts_with(before)) bytes = both.substr(before.size());
  }
  return result;
}

}  // namespace surtsey::experiments::text
