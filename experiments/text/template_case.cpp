// Upper and lower case of text, as Python has them.
#include <utf8proc.h>

#include "experiments/base/utf8.h"
#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"

namespace surtsey::experiments::text::templates {
namespace {

void append_upper(std::string& result, char32_t point) {
  if (point == 0xDF) {
    result += "SS";
  } else {
    append_utf8(result, char32_t(utf8proc_toupper(utf8proc_int32_t(point))));
  }
}

void append_title(std::string& result, char32_t point) {
  if (point == 0xDF) {
    result += "Ss";
  } else {
    append_utf8(result, char32_t(utf8proc_totitle(utf8proc_int32_t(point))));
  }
}

bool has_case(char32_t point) {
  const utf8proc_category_t category = utf8proc_category(utf8proc_int32_t(point));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

}  // namespace

std::string upper(std::string_view text) {
  std::string result;
  for (const char32_t point : characters(text)) append_upper(result, point);
  return result;
}

std::string lower(std::string_view text) {
  std::string result;
  for (const char32_t point : characters(text)) append_lower_case(result, point);
  return result;
}

std::string capitalized(std::string_view text) {
  std::string result;
  bool first = true;
  for (const char32_t point : characters(text)) {
    if (first) {
      append_title(result, point);
    } else {
      append_lower_case(result, point);
    }
    first = false;
  }
  return result;
}

// The filter begins a word after blanks and brackets, the method after every character without case.
std::string titled(std::string_view text, bool at_blanks) {
  std::string result;
  bool inside = false;
  for (const char32_t point : characters(text)) {
    if (inside) {
      append_lower_case(result, point);
    } else {
      append_title(result, point);
    }
    const bool begins =
        point == '-' || point == '(' || point == '{' || point == '[' || point == '<' || is_whitespace(point);
    inside = at_blanks ? !begins : has_case(point);
  }
  return result;
}

}  // namespace surtsey::experiments::text::templates
