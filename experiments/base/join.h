// Joining words for messages. Not fmt::join: with fmt 9, GCC 12 warns about its inlined parser.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace surtsey::experiments {

inline std::string join(std::span<const std::string> words, std::string_view separator) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += separator;
    text += words[i];
  }
  return text;
}

}  // namespace surtsey::experiments
