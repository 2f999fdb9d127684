#include "experiments/text/precompiled.h"

#include "experiments/base/utf8.h"
#include "experiments/text/pipeline.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

constexpr size_t kClusterLimit = 6;  // bytes

std::string from_base64(std::string_view text, const std::string& where) {
  const auto digit = [](char letter) {
    return letter >= 'A' && letter <= 'Z'   ? letter - 'A'
           : letter >= 'a' && letter <= 'z' ? letter - 'a' + 26
           : letter >= '0' && letter <= '9' ? letter - '0' + 52
           : letter == '+'                  ? 62
           : letter == '/'                  ? 63
                                            : -1;
  };
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  uint32_t held = 0;
  int bits = 0;
  for (const char letter : text) {
    const int value = digit(letter);
    check(value >= 0, "{}: precompiled_charsmap is not base64", where);
    held = (held << 6 | uint32_t(value)) & 0xFFFFF;
    bits += 6;
    if (bits >= 8) bytes += static_cast<char>(held >> (bits -= 8) & 0xFF);
  }
  return bytes;
}

uint32_t word_at(std::string_view bytes, size_t at) {
  uint32_t word = 0;
  for (int i = 3; i >= 0; --i) word = word << 8 | static_cast<unsigned char>(bytes[at + size_t(i)]);
  return word;
}

// A unit of the double array (darts-clone): a label, the distance to the children, and whether one of them is a leaf,
// whose other 31 bits are its value.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) == 1; }
uint32_t label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
uint32_t distance(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }
uint32_t value(uint32_t unit) { return unit & ((1u << 31) - 1); }

}  // namespace

CharacterMap::CharacterMap(std::string_view base64, const std::string& where) {
  const std::string bytes = from_base64(base64, where);
  check(bytes.size() >= 8, "{}: precompiled_charsmap has {} bytes: too few", where, bytes.size());
  const size_t size = word_at(bytes, 0);
  check(size >= 4 && size % 4 == 0 && size <= bytes.size() - 4,
        "{}: precompiled_charsmap has {} bytes and names a trie of {}", where, bytes.size(), size);
  trie_.reserve(size / 4);
  for (size_t at = 4; at < 4 + size; at += 4) trie_.push_back(word_at(bytes, at));
  replacements_ = bytes.substr(4 + size);
  check_utf8(replacements_, where + ": precompiled_charsmap");
}

std::optional<std::string_view> CharacterMap::find(std::string_view text) const {
  size_t node = distance(trie_[0]);
  for (const char letter : text) {
    const uint32_t byte = static_cast<unsigned char>(letter);
    if (byte == 0) return std::nullopt;
    node ^= byte;
    if (node >= trie_.size() || label(trie_[node]) != byte) return std::nullopt;
    const uint32_t unit = trie_[node];
    node ^= distance(unit);
    if (!has_leaf(unit)) continue;
    if (node >= trie_.size()) return std::nullopt;
    const size_t begin = value(trie_[node]);
    if (begin >= replacements_.size()) return std::nullopt;
    // A mutilated file may point into the middle of a character.
    if (static_cast<unsigned char>(replacements_[begin]) >> 6 == 2) return std::nullopt;
    const size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    return std::string_view(replacements_).substr(begin, end - begin);
  }
  return std::nullopt;
}

std::string CharacterMap::normalized(std::string_view text) const {
  std::string result;
  size_t begin = 0;
  for (const size_t end : grapheme_ends(text)) {
    const std::string_view cluster = text.substr(begin, end - begin);
    begin = end;
    if (cluster.size() < kClusterLimit) {
      if (const auto whole = find(cluster)) {
        result += *whole;
        check_growth(text.size(), result.size(), "the normalizer");
        continue;
      }
    }
    for (size_t at = 0; at < cluster.size();) {
      const std::string_view character = cluster.substr(at, character_length(cluster, at));
      const auto part = find(character);
      result += part ? *part : character;
      check_growth(text.size(), result.size(), "the normalizer");
      at += character.size();
    }
  }
  return result;
}

}  // namespace surtsey::experiments::text
