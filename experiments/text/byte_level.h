// GPT-2's alphabet: every byte as a printable character, so that a token of bytes is a string.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace surtsey::experiments::text {

char32_t character_of_byte(unsigned char byte);
// What character_of_byte() gave.
std::optional<unsigned char> byte_of_character(char32_t point);

std::string bytes_as_characters(std::string_view bytes);
// The bytes of a token; its own where a character of it stands for no byte.
std::string characters_as_bytes(std::string_view token);

// GPT-2's pattern: contractions, words, numbers and the rest with the blank before them, runs of blanks.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace surtsey::experiments::text
