// UTF-8, and any bytes (a file name, an argument) as UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace surtsey::experiments {

// The code point that begins at `at`; its length in bytes is 0 where none does: overlong forms, surrogates and stray
// bytes are none. `fault` is then how many bytes before the wrong one would do.
struct CodePoint {
  char32_t point = 0;
  size_t length = 0;
  size_t fault = 0;
};
CodePoint code_point_at(std::string_view text, size_t at);
void append_utf8(std::string& text, char32_t point);

// UserError with the place of the first byte that is not UTF-8, and its line where there are several; `where` (a file,
// an option) begins the message.
void check_utf8(std::string_view text, std::string_view where);

// U+FEFF, which some editors put at the head of a file. It is no letter of the text.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
std::string_view without_byte_order_mark(std::string_view text);

// Names of files are bytes; JSON, TOML and HTML take UTF-8 alone. A byte that is not part of UTF-8 becomes the private
// code point U+EF00 + byte (U+EF80 to U+EFFF; such a code point in the text is three such bytes), so that every text
// comes back and what is UTF-8 stays as it is.
bool stands_for_byte(char32_t point);
std::string bytes_to_utf8(std::string_view bytes);
std::string bytes_from_utf8(std::string_view text);

}  // namespace surtsey::experiments
