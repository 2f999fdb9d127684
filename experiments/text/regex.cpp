#include "experiments/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

constexpr size_t kPatternLimit = 64 << 10;  // bytes
// A match may take this many steps, and so many a byte of its text: patterns of tokenizers step back over runs of
// blanks once, so what needs more grows faster than its text.
constexpr size_t kStepsAlways = 10'000, kStepsPerByte = 8;
constexpr uint32_t kDepthLimit = 20'000;
constexpr uint32_t kHeapLimit = 16 << 10;  // KiB
constexpr size_t kStackLimit = 1 << 20;    // of compiled patterns, bytes
constexpr uint32_t kParenthesesLimit = 100;

// White_Space and \w, inside a set. PCRE2's own \s lacks U+0085 and has U+180E; its \w lacks marks.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{D}\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kWords =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";

std::string rewritten(std::string_view pattern, std::string_view where) {
  std::string result;
  bool in_set = false;
  size_t set_begin = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char letter = pattern[i];
    if (letter == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's' || next == 'w') {
        const std::string_view set = next == 's' ? kSpaces : kWords;
        result += in_set ? std::string(set) : "[" + std::string(set) + "]";
      } else if ((next == 'S' || next == 'W') && !in_set) {
        result += "[^" + std::string(next == 'S' ? kSpaces : kWords) + "]";
      } else {
        result += letter, result += next;
      }
      continue;
    }
    if (in_set) {
      check(letter != '[' || pattern.substr(i).starts_with("[:"),
            "{}: a set inside a set, '{}', is not supported; write \\[ for the letter", where, pattern);
      check(!pattern.substr(i).starts_with("&&"), "{}: && in a set, '{}', is not supported", where, pattern);
      if (letter == '[') {
        const size_t close = pattern.find(":]", i);
        check(close != pattern.npos, "{}: '{}' has a [: without :]", where, pattern);
        result += pattern.substr(i, close + 2 - i);
        i = close + 1;
        continue;
      }
      if (letter == ']' && i > set_begin) in_set = false;
    } else if (letter == '[') {
      in_set = true;
      set_begin = i + 1 + (pattern.substr(i + 1).starts_with('^') ? 1 : 0);
    }
    result += letter;
  }
  return result;
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

template <typename T>
using Owned = std::unique_ptr<T, Free>;

constexpr uint32_t kGroupLimit = 32;

// What matching needs beside the pattern, once a thread: a part of a text is matched in less time than these are made.
struct Scratch {
  Owned<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack> stack{pcre2_jit_stack_create(32 << 10, kStackLimit, nullptr)};
  Owned<pcre2_match_data> data{pcre2_match_data_create(1 + kGroupLimit, nullptr)};

  Scratch() {
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimit);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

}  // namespace

struct Regex::Compiled {
  std::string pattern, where;
  Owned<pcre2_code> code;
  uint32_t groups = 0;  // that are kept
};

Regex::Regex(std::string_view pattern, std::string_view where) : Regex(pattern, where, false) {}

Regex Regex::with_groups(std::string_view pattern, std::string_view where) { return Regex(pattern, where, true); }

Regex::Regex(std::string_view pattern, std::string_view where, bool groups) {
  check(pattern.size() <= kPatternLimit, "{}: a pattern of {} bytes, at most {} are read", where, pattern.size(),
        kPatternLimit);
  auto compiled = std::make_shared<Compiled>();
  compiled->pattern = pattern;
  compiled->where = where;
  const std::string ours = rewritten(pattern, where);
  const Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kParenthesesLimit);
  int code = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's ^ and $ are at every line; its \d and \p are Unicode's.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  const uint32_t options = groups ? kOptions : kOptions | PCRE2_NO_AUTO_CAPTURE;
  compiled->code.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(), options, &code, &offset, context.get()));
  check(compiled->code != nullptr, "{}: the pattern '{}' cannot be read: {}", where, pattern, message_of(code));
  if (groups) pcre2_pattern_info(compiled->code.get(), PCRE2_INFO_CAPTURECOUNT, &compiled->groups);
  check(compiled->groups <= kGroupLimit, "{}: the pattern '{}' has {} groups, at most {} are kept", where, pattern,
        compiled->groups, kGroupLimit);
  // Without a just-in-time compiler the interpreter matches.
  pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE);
  compiled_ = std::move(compiled);
}

Regex Regex::literal(std::string_view text, std::string_view where) {
  std::string pattern;
  for (const char letter : text) {
    const bool plain = static_cast<unsigned char>(letter) >= 0x80 || (letter >= 'a' && letter <= 'z') ||
                       (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9');
    if (plain) {
      pattern += letter;
    } else {
      pattern += fmt::format("\\x{{{:x}}}", static_cast<unsigned char>(letter));
    }
  }
  return Regex(pattern, where);
}

void Regex::for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& visit) const {
  match(text, [&](std::span<const size_t> ends) { visit(ends[0], ends[1]); });
}

void Regex::for_each_match_with_groups(std::string_view text,
                                       const std::function<void(std::span<const std::string_view>)>& visit) const {
  match(text, [&](std::span<const size_t> ends) {
    std::vector<std::string_view> parts;
    for (size_t i = 0; i < ends.size(); i += 2) {
      parts.push_back(ends[i] == PCRE2_UNSET ? std::string_view() : text.substr(ends[i], ends[i + 1] - ends[i]));
    }
    visit(parts);
  });
}

void Regex::match(std::string_view text, const std::function<void(std::span<const size_t>)>& visit) const {
  if (text.empty()) return;
  // A visit may match another pattern, so nothing of the scratch is used after it.
  static thread_local const Scratch scratch;
  const auto limit = uint32_t(std::min<size_t>(kStepsAlways + kStepsPerByte * text.size(), 1 << 30));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t at = 0, last_end = std::string_view::npos;
  while (at <= text.size()) {
    pcre2_set_match_limit(scratch.context.get(), limit);
    const int found = pcre2_match(compiled_->code.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                  scratch.data.get(), scratch.context.get());
    if (found == PCRE2_ERROR_NOMATCH) return;
    check(found >= 0, "{}: the pattern '{}' cannot be matched: {}", compiled_->where, compiled_->pattern,
          message_of(found));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.data.get());
    const std::span<const size_t> parts(ends, 2 * (1 + size_t(compiled_->groups)));
    const size_t begin = ends[0], end = ends[1];
    check(begin <= end, "{}: the pattern '{}' ends a match before it begins", compiled_->where, compiled_->pattern);
    if (begin == end) {
      if (end != last_end) visit(parts);
      at = end < text.size() ? end + character_length(text, end) : end + 1;
    } else {
      visit(parts);
      at = end;
    }
    last_end = end;
  }
}

}  // namespace surtsey::experiments::text
