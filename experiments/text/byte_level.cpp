#include "experiments/text/byte_level.h"

#include <array>

#include "experiments/base/utf8.h"

namespace surtsey::experiments::text {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// Bytes that print nothing are counted from U+0100 on.
constexpr std::array<char32_t, 256> kCharacters = [] {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) characters[byte] = stands_for_itself(byte) ? char32_t(byte) : next++;
  return characters;
}();
constexpr char32_t kEnd = 0x100 + 68;

constexpr std::array<int, kEnd> kBytes = [] {
  std::array<int, kEnd> bytes{};
  bytes.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) bytes[kCharacters[byte]] = int(byte);
  return bytes;
}();

}  // namespace

char32_t character_of_byte(unsigned char byte) { return kCharacters[byte]; }

std::optional<unsigned char> byte_of_character(char32_t point) {
  if (point >= kEnd || kBytes[point] < 0) return std::nullopt;
  return static_cast<unsigned char>(kBytes[point]);
}

std::string bytes_as_characters(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 4);
  for (const char byte : bytes) append_utf8(text, kCharacters[static_cast<unsigned char>(byte)]);
  return text;
}

std::string characters_as_bytes(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const CodePoint found = code_point_at(token, at);
    const auto byte = byte_of_character(found.point);
    if (found.length == 0 || !byte) return std::string(token);
    bytes += static_cast<char>(*byte);
    at += found.length;
  }
  return bytes;
}

}  // namespace surtsey::experiments::text
