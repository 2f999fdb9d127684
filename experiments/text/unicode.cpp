#include "experiments/text/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "experiments/base/utf8.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

utf8proc_category_t category(char32_t point) { return utf8proc_category(utf8proc_int32_t(point)); }

bool is_ascii_punctuation(char32_t point) {
  return (point >= 0x21 && point <= 0x2F) || (point >= 0x3A && point <= 0x40) || (point >= 0x5B && point <= 0x60) ||
         (point >= 0x7B && point <= 0x7E);
}

bool is_circled_letter(char32_t point) {
  return (point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F149) ||
         (point >= 0x1F150 && point <= 0x1F169) || (point >= 0x1F170 && point <= 0x1F189);
}

}  // namespace

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint found = code_point_at(bytes, at);
    if (found.length > 0) {
      text.append(bytes, at, found.length);
      at += found.length;
      continue;
    }
    // The longest prefix of some character counts as one fault; its second byte has narrower limits after these leads.
    const auto byte = [&](size_t k) -> unsigned {
      return at + k < bytes.size() ? static_cast<unsigned char>(bytes[at + k]) : 0u;
    };
    const unsigned lead = byte(0);
    const size_t length = lead >= 0xC2 && lead < 0xE0 ? 2 : lead >> 4 == 14 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 1;
    const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    size_t taken = 1;
    if (length > 1 && byte(1) >= low && byte(1) <= high) {
      for (taken = 2; taken < length && byte(taken) >> 6 == 2;) ++taken;
    }
    text += kReplacementText;
    at += taken;
  }
  return text;
}

std::u32string characters(std::string_view text) {
  std::u32string points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    ensure(found.length > 0, "text that is not UTF-8");
    points += found.point;
    at += found.length;
  }
  return points;
}

std::string to_utf8(std::u32string_view points) {
  std::string text;
  text.reserve(points.size());
  for (const char32_t point : points) append_utf8(text, point);
  return text;
}

size_t character_count(std::string_view text) {
  size_t count = 0;
  for (const char byte : text) count += static_cast<unsigned char>(byte) >> 6 != 2;
  return count;
}

size_t character_length(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

char32_t character_at(std::string_view text, size_t at) { return code_point_at(text, at).point; }

char32_t character_before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && static_cast<unsigned char>(text[at]) >> 6 == 2) --at;
  return code_point_at(text, at).point;
}

bool is_whitespace(char32_t point) {
  return (point >= 0x9 && point <= 0xD) || point == 0x20 || point == 0x85 || point == 0xA0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F ||
         point == 0x205F || point == 0x3000;
}

bool is_numeric(char32_t point) {
  if (point < 0x80) return point >= '0' && point <= '9';
  const utf8proc_category_t found = category(point);
  return found == UTF8PROC_CATEGORY_ND || found == UTF8PROC_CATEGORY_NL || found == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t point) {
  if (point < 0x80) return is_ascii_punctuation(point);
  const utf8proc_category_t found = category(point);
  return found >= UTF8PROC_CATEGORY_PC && found <= UTF8PROC_CATEGORY_PO;
}

bool is_nonspacing_mark(char32_t point) { return point >= 0x300 && category(point) == UTF8PROC_CATEGORY_MN; }

bool is_mark(char32_t point) {
  if (point < 0x300) return false;
  const utf8proc_category_t found = category(point);
  return found >= UTF8PROC_CATEGORY_MN && found <= UTF8PROC_CATEGORY_ME;
}

bool is_control_or_format(char32_t point) {
  const utf8proc_category_t found = category(point);
  return found == UTF8PROC_CATEGORY_CC || found == UTF8PROC_CATEGORY_CF || found == UTF8PROC_CATEGORY_CO;
}

bool is_word_character(char32_t point) {
  if (point < 0x80) {
    return (point >= '0' && point <= '9') || (point >= 'A' && point <= 'Z') || (point >= 'a' && point <= 'z') ||
           point == '_';
  }
  const utf8proc_category_t found = category(point);
  return (found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_NL) || found == UTF8PROC_CATEGORY_PC ||
         is_circled_letter(point);
}

bool is_cjk_ideograph(char32_t point) {
  return (point >= 0x4E00 && point <= 0x9FFF) || (point >= 0x3400 && point <= 0x4DBF) ||
         (point >= 0x20000 && point <= 0x2A6DF) || (point >= 0x2A700 && point <= 0x2B73F) ||
         // The library begins this block at 2B920 where Unicode begins it at 2B820; models were trained with it.
         (point >= 0x2B740 && point <= 0x2B81F) || (point >= 0x2B920 && point <= 0x2CEAF) ||
         (point >= 0xF900 && point <= 0xFAFF) || (point >= 0x2F800 && point <= 0x2FA1F);
}

void append_lower_case(std::string& text, char32_t point) {
  if (point < 0x80) {
    text += static_cast<char>(point >= 'A' && point <= 'Z' ? point + 32 : point);
  } else if (point == 0x130) {
    text += "i\xCC\x87";  // the one character whose lower case is two
  } else {
    append_utf8(text, char32_t(utf8proc_tolower(utf8proc_int32_t(point))));
  }
}

std::string normal_form(std::string_view text, NormalForm form) {
  bool ascii = true;
  for (const char byte : text) ascii &= static_cast<unsigned char>(byte) < 0x80;
  if (ascii) return std::string(text);
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::nfc || form == NormalForm::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             utf8proc_ssize_t(text.size()), &result, utf8proc_option_t(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  check(size >= 0, "the text has no normal form: {}", utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(result), size_t(size)};
}

std::vector<size_t> grapheme_ends(std::string_view text) {
  std::vector<size_t> ends;
  utf8proc_int32_t state = 0;
  char32_t before = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    if (at > 0 && utf8proc_grapheme_break_stateful(utf8proc_int32_t(before), utf8proc_int32_t(found.point), &state)) {
      ends.push_back(at);
    }
    before = found.point;
    at += found.length;
  }
  if (!text.empty()) ends.push_back(text.size());
  return ends;
}

}  // namespace surtsey::experiments::text
