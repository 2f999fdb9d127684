// Python's ways with text: case, blanks, lines, and its three ways to format.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "experiments/base/utf8.h"
#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

// [[fill]align][sign][#][0][width][,][.precision][type]
struct Specification {
  char32_t fill = U' ';
  char alignment = 0;
  char sign = '-';
  bool zeros = false, commas = false;
  int64_t width = 0, precision = -1;
  char type = 0;
};

bool is_alignment(char32_t point) { return point == '<' || point == '>' || point == '^' || point == '='; }

Specification read_specification(const std::string& text) {
  Specification result;
  const std::u32string points = characters(text);
  size_t at = 0;
  const auto now = [&]() -> char32_t { return at < points.size() ? points[at] : U'\0'; };
  if (points.size() > 1 && is_alignment(points[1])) {
    result.fill = points[0];
    result.alignment = char(points[1]);
    at = 2;
  } else if (is_alignment(now())) {
    result.alignment = char(points[at++]);
  }
  if (now() == '+' || now() == '-' || now() == ' ') result.sign = char(points[at++]);
  if (now() == '0') result.zeros = true, ++at;
  const auto number = [&] {
    int64_t value = 0;
    while (now() >= '0' && now() <= '9') value = std::min<int64_t>(value * 10 + int64_t(points[at++] - '0'), 1 << 30);
    return value;
  };
  result.width = number();
  if (now() == ',' || now() == '_') result.commas = now() == ',', ++at;
  if (now() == '.') ++at, result.precision = number();
  if (at < points.size()) result.type = points[at] < 0x80 ? char(points[at++]) : '?';
  check(at == points.size() && std::string_view("\0dfsxXeEgG%boc", 14).find(result.type) != std::string_view::npos,
        "the format '{}' is not supported", text);
  return result;
}

std::string padded(Evaluator& evaluator, std::string text, const Specification& how, bool number) {
  const auto missing = how.width - int64_t(character_count(text));
  if (missing <= 0) return text;
  std::string fill;
  append_utf8(fill, how.zeros && how.alignment == 0 ? U'0' : how.fill);
  evaluator.work.allocate(size_t(missing) * fill.size());
  const auto blanks = [&](int64_t count) {
    std::string result;
    for (int64_t i = 0; i < count; ++i) result += fill;
    return result;
  };
  char alignment = how.alignment;
  if (alignment == 0) alignment = !number ? '<' : how.zeros ? '=' : '>';
  if (alignment == '<') return text + blanks(missing);
  if (alignment == '>') return blanks(missing) + text;
  if (alignment == '^') return blanks(missing / 2) + text + blanks(missing - missing / 2);
  const size_t sign = text.starts_with('-') || text.starts_with('+') || text.starts_with(' ') ? 1 : 0;
  return text.substr(0, sign) + blanks(missing) + text.substr(sign);
}

std::string with_commas(std::string digits) {
  const size_t end = std::min(digits.find_first_of(".e"), digits.size());
  for (size_t at = end; at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string number_text(const Value& value, const Specification& how) {
  const bool whole = !value.is_float();
  char type = how.type == 0 ? (whole ? 'd' : how.precision >= 0 ? 'g' : 'r') : how.type;
  std::string digits;
  bool negative = false;
  if (type == 'd' || type == 'x' || type == 'X' || type == 'b' || type == 'o') {
    check(whole, "the format '{}' is for integers", type);
    const int64_t number = value.integer();
    negative = number < 0;
    const uint64_t size = negative ? uint64_t(0) - uint64_t(number) : uint64_t(number);
    digits = type == 'x'   ? fmt::format("{:x}", size)
             : type == 'X' ? fmt::format("{:X}", size)
             : type == 'b' ? fmt::format("{:b}", size)
             : type == 'o' ? fmt::format("{:o}", size)
                           : std::to_string(size);
  } else {
    const double number = value.number() * (type == '%' ? 100 : 1);
    negative = std::signbit(number);
    const int precision = int(how.precision < 0 ? 6 : std::min<int64_t>(how.precision, 300));
    const double size = std::abs(number);
    digits = type == 'r'   ? float_text(size)
             : type == 'e' ? fmt::format("{:.{}e}", size, precision)
             : type == 'E' ? fmt::format("{:.{}E}", size, precision)
             : type == 'g' ? fmt::format("{:.{}g}", size, precision)
             : type == 'G' ? fmt::format("{:.{}G}", size, precision)
                           : fmt::format("{:.{}f}", size, precision);
    if (type == '%') digits += '%';
  }
  if (how.commas) digits = with_commas(digits);
  const std::string sign = negative ? "-" : how.sign == '+' ? "+" : how.sign == ' ' ? " " : "";
  return sign + digits;
}

}  // namespace

std::string formatted(Evaluator& evaluator, const Value& value, const std::string& specification) {
  const Specification how = read_specification(specification);
  const bool number = value.is_number() && how.type != 's';
  if (number && !(value.is_boolean() && how.type == 0)) return padded(evaluator, number_text(value, how), how, true);
  check(how.type == 0 || how.type == 's', "the format '{}' is not for {}", specification, type_name(value));
  std::string text = evaluator.text(value);
  if (how.precision >= 0) text = to_utf8(characters(text).substr(0, size_t(how.precision)));
  return padded(evaluator, std::move(text), how, false);
}

// "{} {0} {name} {x.y} {x[0]} {:>8}"
std::string brace_formatted(Evaluator& e, const std::string& format, const Arguments& arguments) {
  std::string result;
  size_t next = 0;
  for (size_t at = 0; at < format.size();) {
    const char letter = format[at];
    if ((letter == '{' || letter == '}') && at + 1 < format.size() && format[at + 1] == letter) {
      result += letter;
      at += 2;
      continue;
    }
    check(letter != '}', "format: '{}' has a }} that closes nothing", format);
    if (letter != '{') {
      result += letter;
      ++at;
      continue;
    }
    const size_t close = format.find('}', at);
    check(close != format.npos, "format: '{}' has a {{ that is not closed", format);
    const std::string field = format.substr(at + 1, close - at - 1);
    at = close + 1;
    const size_t colon = std::min(field.find(':'), field.size());
    const size_t exclamation = std::min(field.substr(0, colon).find('!'), colon);
    const std::string path = field.substr(0, exclamation);
    const size_t end = std::min(path.find_first_of(".["), path.size());
    const std::string name = path.substr(0, end);
    Value value;
    if (name.empty() || std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      check(name.size() < 8, "format: there is no argument {}", name);
      const size_t place = name.empty() ? next++ : size_t(std::stoul(name));
      check(place < arguments.positional.size(), "format: there is no argument {}", place);
      value = arguments.positional[place];
    } else {
      const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                      [&](const auto& each) { return each.first == name; });
      check(found != arguments.named.end(), "format: there is no argument '{}'", name);
      value = found->second;
    }
    check(end == path.size(), "format: parts of arguments ('{}') are not supported", path);
    const bool quoted = exclamation < colon && field.substr(exclamation, colon - exclamation) == "!r";
    if (quoted) value = repr(value, e.work);
    const std::string text = colon < field.size() ? formatted(e, value, field.substr(colon + 1)) : e.text(value);
    e.work.allocate(text.size());
    result += text;
  }
  return result;
}

// "%s %d %.2f %5s %(name)s %%"
std::string percent_formatted(Evaluator& e, const std::string& format, const Value& values) {
  const List* tuple = values.as_list() != nullptr && values.as_list()->tuple ? values.as_list() : nullptr;
  std::string result;
  size_t next = 0;
  for (size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%') {
      result += format[at];
      continue;
    }
    ++at;
    Value value;
    bool named = false;
    if (at < format.size() && format[at] == '(') {
      const size_t close = format.find(')', at);
      check(close != format.npos && values.as_dict() != nullptr, "%(name) in a format wants a dict");
      const std::string name = format.substr(at + 1, close - at - 1);
      const Value* found = values.as_dict()->find_name(name);
      check(found != nullptr, "the format names '{}', which is not there", name);
      value = *found;
      named = true;
      at = close + 1;
    }
    std::string flags;
    while (at < format.size() && std::string_view("-+ 0123456789.").find(format[at]) != std::string_view::npos) {
      flags += format[at++];
    }
    check(at < format.size(), "the format '{}' ends within a field", format);
    const char type = format[at];
    if (type == '%') {
      result += '%';
      continue;
    }
    if (!named) {
      check(tuple == nullptr ? next == 0 : next < tuple->items.size(), "the format '{}' has too few values", format);
      value = tuple == nullptr ? values : tuple->items[next];
      ++next;
    }
    check(std::string_view("sdifrxXeEgG").find(type) != std::string_view::npos, "%{} in a format is not supported",
          type);
    const bool left = flags.starts_with('-');
    if (left) flags.erase(0, 1);
    const bool text_field = type == 's' || type == 'r';
    if (type == 'r') value = repr(value, e.work);
    if (type == 's') value = e.text(value);
    if ((type == 'd' || type == 'i') && value.is_float()) value = int64_t(std::clamp(value.number(), -9e18, 9e18));
    const char kind = type == 'i' ? 'd' : text_field ? 's' : type;
    const std::string alignment = left ? "<" : text_field ? ">" : "";
    const std::string text = formatted(e, value, alignment + flags + kind);
    e.work.allocate(text.size());
    result += text;
  }
  check(tuple == nullptr || next == tuple->items.size(), "the format '{}' has too many values", format);
  return result;
}

std::string stripped(const std::string& text, const std::string* set, bool left, bool right) {
  const std::u32string letters = set == nullptr ? U"" : characters(*set);
  const auto drop = [&](char32_t point) {
    return set == nullptr ? is_whitespace(point) || (point >= 0x1C && point <= 0x1F)
                          : letters.find(point) != letters.npos;
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end && drop(character_at(text, begin))) begin += character_length(text, begin);
  while (right && end > begin && drop(character_before(text, end))) {
    do --end;
    while (static_cast<unsigned char>(text[end]) >> 6 == 2);
  }
  return text.substr(begin, end - begin);
}

std::string replaced(Evaluator& e, const std::string& text, const std::string& before, const std::string& after,
                     int64_t most) {
  e.work.spend(text.size() / 16);
  std::string result;
  size_t at = 0;
  for (int64_t count = 0; most < 0 || count < most; ++count) {
    // Before every character, and at the end, where there is nothing to be found.
    const size_t found = before.empty() ? (count == 0 ? 0 : at) : text.find(before, at);
    if (found == text.npos || (before.empty() && count > 0 && at >= text.size() + 1)) break;
    e.work.allocate(after.size());
    result.append(text, at, found - at).append(after);
    at = found + before.size();
    if (before.empty()) {
      const size_t length = at < text.size() ? character_length(text, at) : 1;
      result.append(text, std::min(at, text.size()), length);
      at += length;
    }
  }
  if (at < text.size()) result.append(text, at);
  return result;
}

std::vector<std::string> lines_of(const std::string& text, bool keep_ends) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin, mark = 0;
    for (; end < text.size(); end += character_length(text, end)) {
      const char32_t point = character_at(text, end);
      if (point == '\r' && end + 1 < text.size() && text[end + 1] == '\n') {
        mark = 2;
      } else if ((point >= 0xA && point <= 0xD) || (point >= 0x1C && point <= 0x1E) || point == 0x85 ||
                 point == 0x2028 || point == 0x2029) {
        mark = character_length(text, end);
      }
      if (mark > 0) break;
    }
    lines.push_back(text.substr(begin, end - begin + (keep_ends ? mark : 0)));
    begin = end + mark;
  }
  return lines;
}

}  // namespace surtsey::experiments::text::templates
