#include "experiments/retrieve/cut.h"

#include "experiments/text/unicode.h"
#include "graph/error.h"

#include <algorithm>

namespace surtsey::experiments {
namespace {

struct Word {
  size_t begin = 0, end = 0;  // bytes
  int64_t tokens = 0;
  bool ends_sentence = false;
};

class Cutter {
 public:
  Cutter(std::string_view text, const CutOptions& options) : text_(text), options_(options) {
    size_t at = 0;
    while (at < text.size()) {
      const size_t begin = after_blanks(at);
      at = begin;
      while (at < text.size() && !text::is_whitespace(text::character_at(text, at)))
        at += text::character_length(text, at);
      if (at > begin) add_word(begin, at);
    }
  }

  std::vector<std::string> passages() {
    std::vector<std::string> all;
    for (size_t first = 0; first < words_.size();) {
      const size_t end = end_of(first);
      all.emplace_back(part(words_[first].begin, words_[end - 1].end));
      if (end == words_.size()) break;
      first = next_after(first, end);
    }
    return all;
  }

 private:
  std::string_view part(size_t begin, size_t end) const { return text_.substr(begin, end - begin); }

  size_t after_blanks(size_t at) const {
    while (at < text_.size() && text::is_whitespace(text::character_at(text_, at)))
      at += text::character_length(text_, at);
    return at;
  }

  // A word that has no room alone becomes several.
  void add_word(size_t begin, size_t end) {
    const int64_t tokens = options_.tokens(std::string(" ") + std::string(part(begin, end)));
    if (tokens > options_.room || options_.tokens(part(begin, end)) > options_.room) {
      size_t middle = begin;
      while (middle < begin + (end - begin) / 2) middle += text::character_length(text_, middle);
      check(middle > begin && middle < end, "a passage of {} tokens has no room for a single character", options_.room);
      add_word(begin, middle);
      add_word(middle, end);
      return;
    }
    const size_t next = after_blanks(end);
    const std::string_view blanks = part(end, next);
    const bool line = std::count(blanks.begin(), blanks.end(), '\n') > 1;
    words_.push_back({begin, end, std::max<int64_t>(1, tokens),
                      line || std::string_view(".!?").find(text_[end - 1]) != std::string_view::npos});
  }

  size_t end_of(size_t first) const {
    size_t end = first;
    for (int64_t left = options_.room; end < words_.size() && words_[end].tokens <= left; ++end)
      left -= words_[end].tokens;
    end = std::max(end, first + 1);
    // Words together may be more tokens than each for itself.
    while (end > first + 1 && options_.tokens(part(words_[first].begin, words_[end - 1].end)) > options_.room) --end;
    if (end == words_.size()) return end;
    for (size_t i = end; i > first + (end - first + 1) / 2; --i) {
      if (words_[i - 1].ends_sentence) return i;
    }
    return end;
  }

  size_t next_after(size_t first, size_t end) const {
    size_t next = end;
    int64_t left = options_.overlap;
    while (next - 1 > first && words_[next - 1].tokens <= left) left -= words_[--next].tokens;
    return next;
  }

  std::string_view text_;
  const CutOptions& options_;
  std::vector<Word> words_;
};

}  // namespace

std::vector<std::string> cut_text(std::string_view text, const CutOptions& options) {
  check(options.room > 0 && options.overlap >= 0 && options.overlap < options.room,
        "passages of {} tokens, of which the next one repeats {}", options.room, options.overlap);
  return Cutter(text, options).passages();
}

int64_t words_between_blanks(std::string_view text) {
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size(); at += text::character_length(text, at)) {
    const bool blank = text::is_whitespace(text::character_at(text, at));
    if (!blank && !inside) ++count;
    inside = !blank;
  }
  return count;
}

}  // namespace surtsey::experiments
