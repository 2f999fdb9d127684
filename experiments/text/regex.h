// Regular expressions as tokenizer.json has them (Oniguruma's Ruby syntax), by PCRE2 with its limits on steps.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace surtsey::experiments::text {

// Where two dialects read a pattern differently it is rewritten (\s, \w) or refused (sets in sets, &&), never read
// otherwise.
class Regex {
 public:
  // UserError that quotes the pattern and says what is wrong with it; `where` begins the message.
  Regex(std::string_view pattern, std::string_view where);
  // Whose parentheses hold what they match.
  static Regex with_groups(std::string_view pattern, std::string_view where);
  // The text itself, whatever its letters mean in a pattern.
  static Regex literal(std::string_view text, std::string_view where);

  // Calls visit(begin, end) for the matches of UTF-8 text from left to right; an empty one only where the last did not
  // end. UserError when the pattern needs more steps than any real one.
  void for_each_match(std::string_view text, const std::function<void(size_t begin, size_t end)>& visit) const;
  // The same with what each pair of parentheses held, after the match itself; nothing where it took no part.
  void for_each_match_with_groups(std::string_view text,
                                  const std::function<void(std::span<const std::string_view> parts)>& visit) const;

 private:
  Regex(std::string_view pattern, std::string_view where, bool groups);
  // Calls visit(ends of the match and of its groups), pairs of places.
  void match(std::string_view text, const std::function<void(std::span<const size_t> ends)>& visit) const;

  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace surtsey::experiments::text
