// Tokens as text, and back: the symbols of a vocabulary with blanks between them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::tasks {

// UserError naming the task when a token is not in the vocabulary.
std::string decode_symbols(std::span<const int32_t> tokens, std::span<const std::string> symbols,
                           std::string_view task);

// UserError naming the task and the word when one is not in the vocabulary.
std::vector<int32_t> encode_symbols(std::string_view text, std::span<const std::string> symbols, std::string_view task);

}  // namespace surtsey::experiments::tasks
