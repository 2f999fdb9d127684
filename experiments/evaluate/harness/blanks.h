// Blanks at the ends of UTF-8 text, as Python's strip() takes them.
#pragma once

#include "experiments/text/unicode.h"

#include <string_view>

namespace surtsey::experiments {

inline std::string_view without_blanks_at_end(std::string_view text) {
  while (!text.empty()) {
    const char32_t last = text::character_before(text, text.size());
    if (!text::is_whitespace(last)) break;
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) begin -= 1;
    text = text.substr(0, begin);
  }
  return text;
}

inline std::string_view without_blanks(std::string_view text) {
  text = without_blanks_at_end(text);
  while (!text.empty() && text::is_whitespace(text::character_at(text, 0))) {
    text.remove_prefix(text::character_length(text, 0));
  }
  return text;
}

}  // namespace surtsey::experiments
