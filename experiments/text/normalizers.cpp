#include "experiments/text/normalizers.h"

#include <algorithm>
#include <array>

#include "experiments/base/utf8.h"
#include "experiments/text/byte_level.h"
#include "experiments/text/precompiled.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

constexpr size_t kContentLimit = 1024;  // bytes of what Replace and Prepend put in

template <typename Visit>
void for_each_character(const std::string& text, Visit visit) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    visit(found.point);
    at += found.length;
  }
}

template <typename Keep>
void keep_characters(std::string& text, Keep keep) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](char32_t point) {
    if (keep(point)) append_utf8(result, point);
  });
  text = std::move(result);
}

void lower_case(std::string& text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](char32_t point) { append_lower_case(result, point); });
  text = std::move(result);
}

void strip(std::string& text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  while (left && begin < end && is_whitespace(character_at(text, begin))) begin += character_length(text, begin);
  while (right && end > begin) {
    const char32_t point = character_before(text, end);
    if (!is_whitespace(point)) break;
    end -= point < 0x80 ? 1 : point < 0x800 ? 2 : 3;
  }
  text = text.substr(begin, end - begin);
}

Normalizer bert(const Fields& fields) {
  const bool clean = fields.flag("clean_text", true), cjk = fields.flag("handle_chinese_chars", true);
  const bool lower = fields.flag("lowercase", true), accents = fields.flag("strip_accents", lower);
  return [=](std::string& text) {
    std::string result;
    result.reserve(text.size());
    for_each_character(text, [&](char32_t point) {
      const bool blank = is_whitespace(point);
      if (clean && !(point == '\t' || point == '\n' || point == '\r') &&
          (point == 0 || point == 0xFFFD || is_control_or_format(point))) {
        return;
      }
      if (cjk && is_cjk_ideograph(point)) {
        result += ' ';
        append_utf8(result, point);
        result += ' ';
      } else if (clean && blank) {
        result += ' ';
      } else {
        append_utf8(result, point);
      }
    });
    text = std::move(result);
    if (accents) {
      text = normal_form(text, NormalForm::nfd);
      keep_characters(text, [](char32_t point) { return !is_nonspacing_mark(point); });
    }
    if (lower) lower_case(text);
  };
}

// sentencepiece's "nmt" rules: control characters go, other blanks become blanks.
void nmt(std::string& text) {
  std::string result;
  for_each_character(text, [&](char32_t point) {
    const bool dropped = (point >= 0x1 && point <= 0x8) || point == 0xB || (point >= 0xE && point <= 0x1F) ||
                         point == 0x7F || point == 0x8F || point == 0x9F;
    if (dropped) return;
    const bool blank = point == 0x9 || point == 0xA || point == 0xC || point == 0xD || point == 0x1680 ||
                       (point >= 0x200B && point <= 0x200F) || point == 0x2028 || point == 0x2029 || point == 0x2581 ||
                       point == 0xFEFF || point == 0xFFFD;
    append_utf8(result, blank ? U' ' : point);
  });
  text = std::move(result);
}

std::string content_of(const Fields& fields, const char* key) {
  std::string content = fields.text(key);
  check(content.size() <= kContentLimit, "{}.{}: {} bytes, at most {} are taken", fields.path(), key, content.size(),
        kContentLimit);
  return content;
}

Normalizer sequence(const Fields& fields) {
  std::vector<Normalizer> steps;
  for (const Fields& step : fields.list("normalizers")) steps.push_back(read_normalizer(step));
  return [steps](std::string& text) {
    const size_t size = text.size();
    for (const Normalizer& step : steps) {
      step(text);
      check_growth(size, text.size(), "the normalizer");
    }
  };
}

template <NormalForm form>
Normalizer form_of(const Fields&) {
  return [](std::string& text) { text = normal_form(text, form); };
}

constexpr std::array<FieldsReader<Normalizer>, 14> kNormalizers = {{
    {"Sequence", sequence},
    {"NFC", form_of<NormalForm::nfc>},
    {"NFD", form_of<NormalForm::nfd>},
    {"NFKC", form_of<NormalForm::nfkc>},
    {"NFKD", form_of<NormalForm::nfkd>},
    {"Lowercase", [](const Fields&) -> Normalizer { return lower_case; }},
    {"Nmt", [](const Fields&) -> Normalizer { return nmt; }},
    {"BertNormalizer", bert},
    {"StripAccents",
     [](const Fields&) -> Normalizer {
       return [](std::string& text) { keep_characters(text, [](char32_t point) { return !is_mark(point); }); };
     }},
    {"Strip",
     [](const Fields& fields) -> Normalizer {
       const bool left = fields.flag("strip_left"), right = fields.flag("strip_right");
       return [=](std::string& text) { strip(text, left, right); };
     }},
    {"Replace",
     [](const Fields& fields) -> Normalizer {
       const std::string content = content_of(fields, "content");
       const Fields given = fields.at("pattern");
       if (given.has("String")) {
         return [old_part = given.text("String"), content](std::string& text) { replace_all(text, old_part, content); };
       }
       return [pattern = read_pattern(fields, "pattern"), content](std::string& text) {
         replace_matches(text, pattern, content);
       };
     }},
    {"Prepend",
     [](const Fields& fields) -> Normalizer {
       return [front = content_of(fields, "prepend")](std::string& text) {
         if (!text.empty()) text.insert(0, front);
       };
     }},
    {"Precompiled",
     [](const Fields& fields) -> Normalizer {
       return [map = CharacterMap(fields.text("precompiled_charsmap"), fields.path())](std::string& text) {
         text = map.normalized(text);
       };
     }},
    {"ByteLevel",
     [](const Fields&) -> Normalizer { return [](std::string& text) { text = bytes_as_characters(text); }; }},
}};

}  // namespace

void check_growth(size_t size, size_t result, const char* stage) {
  check(result <= 32 * size + (256 << 10), "{} makes {} bytes of {}: no tokenizer of use does", stage, result, size);
}

void replace_all(std::string& text, std::string_view old_part, std::string_view new_part) {
  if (old_part.empty() || text.find(old_part) == text.npos) return;
  std::string result;
  size_t at = 0;
  for (size_t found; (found = text.find(old_part, at)) != text.npos; at = found + old_part.size()) {
    result.append(text, at, found - at).append(new_part);
    check_growth(text.size(), result.size(), "a replacement");
  }
  result.append(text, at);
  text = std::move(result);
}

void replace_matches(std::string& text, const Regex& pattern, const std::string& content) {
  std::string result;
  size_t at = 0;
  pattern.for_each_match(text, [&](size_t begin, size_t end) {
    result.append(text, at, begin - at).append(content);
    check_growth(text.size(), result.size(), "a replacement");
    at = end;
  });
  result.append(text, at);
  text = std::move(result);
}

Regex read_pattern(const Fields& fields, const char* key) {
  const Fields pattern = fields.at(key);
  if (pattern.has("Regex")) return Regex(pattern.text("Regex"), pattern.path());
  if (!pattern.has("String")) pattern.refuse("'String' or 'Regex' belongs here");
  return Regex::literal(pattern.text("String"), pattern.path());
}

Normalizer read_normalizer(const Fields& fields) { return read_by_type(fields, "normalizer", kNormalizers); }

}  // namespace surtsey::experiments::text
