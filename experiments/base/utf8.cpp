#include "experiments/base/utf8.h"

#include <algorithm>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr char32_t kByte = 0xEF00;  // + the byte, from 0x80 on

}  // namespace

bool stands_for_byte(char32_t point) { return point >= kByte + 0x80 && point <= kByte + 0xFF; }

CodePoint code_point_at(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return {};
  char32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
  for (size_t k = 1; k < length; ++k) {
    const auto next = static_cast<unsigned char>(text[at + k]);
    if (next >> 6 != 2) return {0, 0, k};
    point = point << 6 | (next & 0x3Fu);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < kSmallest[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return {};
  return {point, length, 0};
}

void append_utf8(std::string& text, char32_t point) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3F)); };
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xC0 | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    text += static_cast<char>(0xE0 | point >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xF0 | point >> 18);
    tail(12), tail(6), tail(0);
  }
}

void check_utf8(std::string_view text, std::string_view where) {
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const CodePoint found = code_point_at(text, at);
    if (found.length == 0) {
      const auto place = std::ptrdiff_t(at + found.fault);
      const auto line = std::count(text.begin(), text.begin() + place, '\n') + 1;
      const bool lines = text.find('\n') + 1 < text.size() && text.find('\n') != text.npos;
      throw UserError(
          fmt::format("{}: byte {} is not UTF-8{}", where, place, lines ? fmt::format(" (in line {})", line) : ""));
    }
    at += found.length;
  }
}

std::string_view without_byte_order_mark(std::string_view text) {
  return text.starts_with(kByteOrderMark) ? text.substr(kByteOrderMark.size()) : text;
}

std::string bytes_to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint found = code_point_at(bytes, at);
    if (found.length > 0 && !stands_for_byte(found.point)) {
      text.append(bytes.substr(at, found.length));
      at += found.length;
    } else {
      append_utf8(text, kByte + static_cast<unsigned char>(bytes[at]));
      ++at;
    }
  }
  return text;
}

std::string bytes_from_utf8(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    if (found.length > 0 && stands_for_byte(found.point)) {
      bytes += static_cast<char>(found.point - kByte);
    } else {
      bytes.append(text.substr(at, found.length > 0 ? found.length : 1));
    }
    at += found.length > 0 ? found.length : 1;
  }
  return bytes;
}

}  // namespace surtsey::experiments
