// Files with something wrong in them: a few random changes of their bytes, or of their words.
#pragma once

#include "tests/support/draw.h"

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::tests {

// `words` are what may be put in; a change is of one to three places.
inline std::string mutated(const std::string& file, const std::vector<std::string>& words, Draw& draw) {
  std::string text = file;
  const uint32_t changes = 1 + draw.below(3);
  for (uint32_t i = 0; i < changes; ++i) {
    const auto place = [&] { return size_t(draw.below(uint32_t(text.size() + 1))); };
    const size_t at = place(), length = size_t(draw.below(draw.chance(3) ? 200 : 8));
    switch (draw.below(7)) {
      case 0:
        if (at < text.size()) text[at] = char(draw.below(256));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, draw.of(words));
        break;
      case 3:  // a part stands twice
        text.insert(place(), text.substr(at, length));
        break;
      case 4:  // a letter many times
        if (at < text.size()) text.insert(at, size_t(draw.below(300)), text[at]);
        break;
      case 5:
        text.resize(at);
        break;
      default: {  // a word instead of another
        const std::string& old_word = draw.of(words);
        const size_t found = text.find(old_word, at);
        if (found != text.npos) text.replace(found, old_word.size(), draw.of(words));
        break;
      }
    }
  }
  return text;
}

// What any JSON may be broken with.
inline const std::vector<std::string>& json_words() {
  static const std::vector<std::string> words = {"{",     "}",          "[",        "]",     ",",       ":",
                                                 "\"",    "null",       "true",     "false", "-1",      "0",
                                                 "1e999", "4294967296", "99999999", "{}",    "[[[[[[[["};
  return words;
}

inline std::vector<std::string> json_words_and(std::initializer_list<const char*> own) {
  std::vector<std::string> words = json_words();
  words.insert(words.end(), own.begin(), own.end());
  return words;
}

inline const std::vector<std::string>& tokenizer_words() {
  static const std::vector<std::string> words = json_words_and({"\"BPE\"",
                                                                "\"WordPiece\"",
                                                                "\"Unigram\"",
                                                                "\"WordLevel\"",
                                                                "\"type\"",
                                                                "\"vocab\"",
                                                                "\"merges\"",
                                                                "\"Sequence\"",
                                                                "\"Split\"",
                                                                "\"ByteLevel\"",
                                                                "\"Metaspace\"",
                                                                "\"Replace\"",
                                                                "\"Precompiled\"",
                                                                "\"Isolated\"",
                                                                "\"Contiguous\"",
                                                                "\"MergedWithNext\"",
                                                                "\"Regex\"",
                                                                "\"String\"",
                                                                "\"content\"",
                                                                "\"(a*)*b\"",
                                                                "\"(\"",
                                                                "\"\\\\s+$\"",
                                                                "\"special\"",
                                                                "\"id\"",
                                                                "\\u0000",
                                                                "\\ud800",
                                                                "\xFF",
                                                                "\xE2\x96\x81",
                                                                "\"unk_token\"",
                                                                "\"byte_fallback\"",
                                                                "\"TemplateProcessing\"",
                                                                "\"SpecialToken\"",
                                                                "\"ids\"",
                                                                "\"Strip\"",
                                                                "\"decoders\"",
                                                                "\"pretokenizers\""});
  return words;
}

inline const std::vector<std::string>& template_words() {
  static const std::vector<std::string> words = {"{%",
                                                 "%}",
                                                 "{{",
                                                 "}}",
                                                 "{#",
                                                 "#}",
                                                 "-%}",
                                                 "{%-",
                                                 "{% if true %}",
                                                 "{% endif %}",
                                                 "{% for x in messages %}",
                                                 "{% for i in range(1000000) %}",
                                                 "{% endfor %}",
                                                 "{% set x = [x, x] %}",
                                                 "{% set x = x ~ x %}",
                                                 "{% else %}",
                                                 "{% macro m(a) %}{{ m(a) }}{% endmacro %}",
                                                 "{{ m(1) }}",
                                                 "{% break %}",
                                                 "{{ messages.append(messages) }}",
                                                 "namespace(x=1)",
                                                 "ns.x",
                                                 " if ",
                                                 " else ",
                                                 " in ",
                                                 " is ",
                                                 " not ",
                                                 " and ",
                                                 "|tojson",
                                                 "|length",
                                                 "|join",
                                                 "(",
                                                 ")",
                                                 "[",
                                                 "]",
                                                 "{",
                                                 "}",
                                                 "'",
                                                 "\"",
                                                 "**",
                                                 "%",
                                                 "//",
                                                 "~",
                                                 "==",
                                                 "9223372036854775807",
                                                 "-1",
                                                 "0",
                                                 "1e308",
                                                 "none",
                                                 "messages",
                                                 "message",
                                                 "loop",
                                                 "content",
                                                 "|indent(100000)",
                                                 "|map('upper')",
                                                 "|sort",
                                                 "'%99999999d'|format(1)",
                                                 ".format(",
                                                 "*1000000000",
                                                 "{% raw %}",
                                                 "{% call %}",
                                                 "{% filter upper %}",
                                                 "\xFF",
                                                 "\xE2\x96\x81",
                                                 "\\",
                                                 "\n"};
  return words;
}

}  // namespace surtsey::tests
