#include "experiments/text/template_lexer.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "experiments/base/utf8.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

using Kind = Token::Kind;

bool is_blank(char letter) {
  return letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r' || letter == '\f' || letter == '\v';
}
bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }
bool begins_name(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '_';
}
bool in_name(char letter) { return begins_name(letter) || is_digit(letter); }

// Line breaks as "\n", without the last one.
std::string with_plain_lines(const std::string& source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(const std::string& source, const std::string& name) : source_(with_plain_lines(source)), name_(name) {}

  std::vector<Token> run() {
    check_utf8(source_, name_);
    while (at_ < source_.size()) text();
    add(Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw UserError(fmt::format("{}:{}: {}", name_, line_, message));
  }
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool ahead(std::string_view mark) const { return rest().starts_with(mark); }
  void advance(size_t count) {
    for (size_t i = 0; i < count; ++i) line_ += source_[at_++] == '\n';
  }
  void add(Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  // Text up to the next tag, and the tag.
  void text() {
    size_t open = at_;
    while ((open = source_.find('{', open)) != source_.npos) {
      const char mark = open + 1 < source_.size() ? source_[open + 1] : ' ';
      if (mark == '{' || mark == '%' || mark == '#') break;
      ++open;
    }
    const size_t end = std::min(open, source_.size());
    const bool line_start = at_ == 0 || source_[at_ - 1] == '\n';
    std::string between = source_.substr(at_, end - at_);
    const char mark = end < source_.size() ? source_[end + 1] : ' ';
    const char sign = end + 2 < source_.size() ? source_[end + 2] : ' ';
    if (end < source_.size()) strip_end(between, mark, sign, line_start);
    if (!between.empty()) add(Kind::text, std::move(between));
    advance(end - at_);
    if (end == source_.size()) return;
    advance(sign == '-' || (sign == '+' && mark != '{') ? 3 : 2);
    if (mark == '#') return comment();
    if (mark == '{') {
      add(Kind::print_begin, "{{");
      return inside(Kind::print_end, "}}");
    }
    if (raw()) return;
    add(Kind::block_begin, "{%");
    inside(Kind::block_end, "%}");
  }

  static void strip_end(std::string& text, char mark, char sign, bool line_start) {
    if (sign == '-') {
      while (!text.empty() && is_blank(text.back())) text.pop_back();
    } else if (mark != '{' && sign != '+') {
      const size_t line = text.rfind('\n') + 1;  // 0 where there is none
      if (line == 0 && !line_start) return;
      if (std::all_of(text.begin() + std::ptrdiff_t(line), text.end(), is_blank)) text.resize(line);
    }
  }

  // What follows the end of a block or a comment: its sign decides.
  void after_block(char sign) {
    if (sign == '-') {
      while (at_ < source_.size() && is_blank(source_[at_])) advance(1);
    } else if (sign != '+' && ahead("\n")) {
      advance(1);
    }
  }

  void comment() {
    const size_t close = source_.find("#}", at_);
    if (close == source_.npos) fail("a comment {# is not closed by #}");
    const char sign = close > at_ ? source_[close - 1] : ' ';
    advance(close + 2 - at_);
    after_block(sign);
  }

  // {% raw %} .. {% endraw %}: text as it is.
  bool raw() {
    size_t at = at_;
    const auto word = [&](std::string_view text) {
      while (at < source_.size() && is_blank(source_[at])) ++at;
      if (source_.compare(at, text.size(), text) != 0) return false;
      at += text.size();
      while (at < source_.size() && is_blank(source_[at])) ++at;
      return true;
    };
    if (!word("raw")) return false;
    char sign = at < source_.size() ? source_[at] : ' ';
    if (sign == '-' || sign == '+') ++at;
    if (source_.compare(at, 2, "%}") != 0) return false;
    advance(at + 2 - at_);
    if (sign == '-') after_block(sign);
    const size_t begin = at_;
    for (size_t open = at_; (open = source_.find("{%", open)) != source_.npos; open += 2) {
      at = open + 2;
      const char first = at < source_.size() ? source_[at] : ' ';
      if (first == '-' || first == '+') ++at;
      if (!word("endraw")) continue;
      sign = at < source_.size() ? source_[at] : ' ';
      if (sign == '-' || sign == '+') ++at;
      if (source_.compare(at, 2, "%}") != 0) continue;
      std::string text = source_.substr(begin, open - begin);
      strip_end(text, '%', first, begin == 0 || source_[begin - 1] == '\n');
      if (!text.empty()) add(Kind::text, std::move(text));
      advance(at + 2 - at_);
      after_block(sign);
      return true;
    }
    fail("{% raw %} is not closed by {% endraw %}");
  }

  void inside(Kind end_kind, std::string_view close) {
    std::string brackets;
    const int opened = line_;
    while (at_ < source_.size()) {
      const char letter = source_[at_];
      if (is_blank(letter)) {
        advance(1);
        continue;
      }
      const size_t sign = letter == '-' || letter == '+' ? 1 : 0;
      if (brackets.empty() && rest().substr(sign).starts_with(close) && (letter != '+' || close == "%}")) {
        advance(sign + 2);
        add(end_kind, std::string(close));
        if (close == "%}") {
          after_block(letter);
        } else if (letter == '-') {
          after_block('-');
        }
        return;
      }
      if (letter == '\'' || letter == '"') {
        string(letter);
      } else if (is_digit(letter)) {
        number();
      } else if (begins_name(letter)) {
        size_t end = at_;
        while (end < source_.size() && in_name(source_[end])) ++end;
        add(Kind::name, source_.substr(at_, end - at_));
        advance(end - at_);
      } else {
        symbol(brackets);
      }
    }
    line_ = opened;
    fail(fmt::format("a tag is not closed by {}", close));
  }

  void symbol(std::string& brackets) {
    static constexpr std::array<std::string_view, 27> kSymbols = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "*",
                                                                  "/",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                                  "<",  ">",  "=",  ".",  ":",  "|",  ",", ";", "!"};
    const auto found =
        std::find_if(kSymbols.begin(), kSymbols.end(), [&](std::string_view symbol) { return ahead(symbol); });
    if (found == kSymbols.end()) {
      std::string letter;
      append_utf8(letter, character_at(source_, at_));
      fail(fmt::format("'{}' does not belong in a tag", letter));
    }
    const char letter = (*found)[0];
    if (letter == '(' || letter == '[' || letter == '{') brackets += letter == '(' ? ')' : letter == '[' ? ']' : '}';
    if (letter == ')' || letter == ']' || letter == '}') {
      if (brackets.empty() || brackets.back() != letter) fail(fmt::format("'{}' closes nothing", letter));
      brackets.pop_back();
    }
    add(Kind::symbol, std::string(*found));
    advance(found->size());
  }

  void number() {
    size_t end = at_;
    const auto digits = [&] {
      while (end < source_.size() && (is_digit(source_[end]) || (source_[end] == '_' && is_digit(source_[end - 1])))) {
        ++end;
      }
    };
    digits();
    bool floating = false;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      floating = true;
      ++end;
      digits();
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
      if (end + 1 + sign < source_.size() && is_digit(source_[end + 1 + sign])) {
        floating = true;
        end += 1 + sign;
        digits();
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    add(floating ? Kind::floating : Kind::integer, std::move(text));
    advance(end - at_);
  }

  void string(char quote) {
    std::string text;
    const int opened = line_;
    advance(1);
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] == '\\') {
        escape(text);
      } else {
        text += source_[at_];
        advance(1);
      }
    }
    if (at_ == source_.size()) {
      line_ = opened;
      fail("a string is not closed");
    }
    advance(1);
    tokens_.push_back({Kind::string, std::move(text), opened});
  }

  void escape(std::string& text) {
    static constexpr std::string_view kLetters = "ntrabfv0\\'\"", kMeanings("\n\t\r\a\b\f\v\0\\'\"", 11);
    if (at_ + 1 >= source_.size()) fail("a string is not closed");
    const char letter = source_[at_ + 1];
    const size_t hexadecimal = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    if (hexadecimal > 0) {
      uint32_t point = 0;
      for (size_t i = 0; i < hexadecimal; ++i) {
        const char digit = at_ + 2 + i < source_.size() ? source_[at_ + 2 + i] : ' ';
        const int value = is_digit(digit)                ? digit - '0'
                          : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                          : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                         : -1;
        if (value < 0) fail(fmt::format("\\{} takes {} hexadecimal digits", letter, hexadecimal));
        point = point << 4 | uint32_t(value);
      }
      if (point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) fail("an escape names no character");
      append_utf8(text, point);
      advance(2 + hexadecimal);
      return;
    }
    const size_t known = kLetters.find(letter);
    if (known != kLetters.npos) {
      text += kMeanings[known];
    } else if (letter != '\n') {  // a line break that is escaped is none
      text += '\\';
      text += letter;
    }
    advance(2);
  }

  const std::string source_;
  const std::string& name_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(const std::string& source, const std::string& name) { return Lexer(source, name).run(); }

}  // namespace surtsey::experiments::text::templates
