#include "experiments/text/pre_tokenizers.h"

#include <algorithm>
#include <array>

#include "experiments/base/utf8.h"
#include "experiments/text/byte_level.h"
#include "experiments/text/normalizers.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

// A stretch of a text: a match, or what is between two.
struct Stretch {
  size_t begin, end;
  bool match;
};

std::vector<Stretch> stretches(std::string_view text, const Matcher& matcher, bool invert) {
  std::vector<Stretch> all;
  size_t at = 0;
  matcher(text, [&](size_t begin, size_t end) {
    if (begin > at) all.push_back({at, begin, invert});
    all.push_back({begin, end, !invert});
    at = end;
  });
  if (at < text.size()) all.push_back({at, text.size(), invert});
  return all;
}

// The stretches that stay, as the behaviour joins them. A match goes to its neighbour unless that is a match as well.
std::vector<Stretch> joined(std::vector<Stretch> all, Behavior behavior) {
  if (behavior == Behavior::isolated) return all;
  if (behavior == Behavior::removed) {
    std::erase_if(all, [](const Stretch& stretch) { return stretch.match; });
    return all;
  }
  const bool backwards = behavior == Behavior::merged_with_next;
  if (backwards) std::reverse(all.begin(), all.end());
  std::vector<Stretch> result;
  bool match_before = false;
  for (const Stretch& stretch : all) {
    const bool joins =
        behavior == Behavior::contiguous ? stretch.match == match_before : stretch.match && !match_before;
    match_before = stretch.match;
    if (joins && !result.empty()) {
      (backwards ? result.back().begin : result.back().end) = backwards ? stretch.begin : stretch.end;
    } else {
      result.push_back(stretch);
    }
  }
  if (backwards) std::reverse(result.begin(), result.end());
  return result;
}

template <typename Holds>
Matcher each_character(Holds holds) {
  return [holds](std::string_view text, const Visit& visit) {
    for (size_t at = 0; at < text.size();) {
      const CodePoint found = code_point_at(text, at);
      if (holds(found.point)) visit(at, at + found.length);
      at += found.length;
    }
  };
}

template <typename Change>
void for_each_text(Pieces& pieces, Change change) {
  for (Piece& piece : pieces) {
    if (piece.token < 0) change(piece);
  }
}

PreTokenizer sequence(std::vector<PreTokenizer> steps) {
  return [steps = std::move(steps)](Pieces& pieces) {
    for (const PreTokenizer& step : steps) step(pieces);
  };
}

Behavior read_behavior(const Fields& fields) {
  static constexpr std::array<std::pair<const char*, Behavior>, 5> kNames = {{
      {"Isolated", Behavior::isolated},
      {"Removed", Behavior::removed},
      {"MergedWithPrevious", Behavior::merged_with_previous},
      {"MergedWithNext", Behavior::merged_with_next},
      {"Contiguous", Behavior::contiguous},
  }};
  const std::string name = fields.text("behavior");
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  fields.refuse(fmt::format("the behavior '{}' is not one", name));
}

PreTokenizer read_metaspace(const Fields& fields) {
  std::string replacement;
  append_utf8(replacement, fields.character("replacement"));
  return metaspace(replacement, read_prepend_scheme(fields), fields.flag("split", true));
}

PreTokenizer pre_tokenizer_sequence(const Fields& fields) {
  std::vector<PreTokenizer> steps;
  for (const Fields& step : fields.list("pretokenizers")) steps.push_back(read_pre_tokenizer(step));
  return sequence(std::move(steps));
}

PreTokenizer whitespace(const Fields& fields) {
  return split(Regex(R"(\w+|[^\w\s]+)", fields.path()), Behavior::removed, true);
}

PreTokenizer bert_parts(const Fields&) {
  return sequence({split(each_character(is_whitespace), Behavior::removed),
                   split(each_character(is_punctuation), Behavior::isolated)});
}

PreTokenizer fixed_length(const Fields& fields) {
  const int64_t length = fields.integer("length", 1, 1 << 20);
  return split(
      [length](std::string_view text, const Visit& visit) {
        size_t begin = 0, end = 0;
        for (int64_t count = 1; end < text.size(); ++count) {
          end += character_length(text, end);
          if (count % length == 0) visit(begin, end), begin = end;
        }
      },
      Behavior::isolated);
}

constexpr std::array<FieldsReader<PreTokenizer>, 11> kPreTokenizerTypes = {{
    {"Sequence", pre_tokenizer_sequence},
    {"ByteLevel",
     [](const Fields& fields) {
       return byte_level(fields.flag("add_prefix_space", true), fields.flag("use_regex", true));
     }},
    {"Split",
     [](const Fields& fields) {
       return split(read_pattern(fields, "pattern"), read_behavior(fields), fields.flag("invert", false));
     }},
    {"Metaspace", read_metaspace},
    {"BertPreTokenizer", bert_parts},
    {"Whitespace", whitespace},
    {"WhitespaceSplit", [](const Fields&) { return split(each_character(is_whitespace), Behavior::removed); }},
    {"Punctuation",
     [](const Fields& fields) {
       return split(each_character(is_punctuation),
                    fields.has("behavior") ? read_behavior(fields) : Behavior::isolated);
     }},
    {"Digits",
     [](const Fields& fields) {
       return split(each_character(is_numeric),
                    fields.flag("individual_digits", false) ? Behavior::isolated : Behavior::contiguous);
     }},
    {"CharDelimiterSplit",
     [](const Fields& fields) {
       return split(each_character([delimiter = fields.character("delimiter")](char32_t c) { return c == delimiter; }),
                    Behavior::removed);
     }},
    {"FixedLength", fixed_length},
}};

}  // namespace

PreTokenizer split(Matcher matcher, Behavior behavior, bool invert) {
  return [matcher = std::move(matcher), behavior, invert](Pieces& pieces) {
    Pieces result;
    for (Piece& piece : pieces) {
      if (piece.token >= 0) {
        result.push_back(std::move(piece));
        continue;
      }
      for (const Stretch& part : joined(stretches(piece.text, matcher, invert), behavior)) {
        if (part.begin == part.end) continue;
        result.push_back({piece.text.substr(part.begin, part.end - part.begin), -1, piece.first && part.begin == 0});
      }
    }
    pieces = std::move(result);
  };
}

PreTokenizer split(Regex pattern, Behavior behavior, bool invert) {
  return split([pattern = std::move(pattern)](std::string_view text,
                                              const Visit& visit) { pattern.for_each_match(text, visit); },
               behavior, invert);
}

PreTokenizer byte_level(bool add_prefix_space, bool use_regex) {
  const PreTokenizer cut = split(Regex(kGpt2Pattern, "ByteLevel"), Behavior::isolated);
  return [=](Pieces& pieces) {
    if (add_prefix_space) {
      for_each_text(pieces, [](Piece& piece) {
        if (!piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
      });
    }
    if (use_regex) cut(pieces);
    for_each_text(pieces, [](Piece& piece) { piece.text = bytes_as_characters(piece.text); });
  };
}

PreTokenizer metaspace(std::string replacement, PrependScheme scheme, bool split_too) {
  const PreTokenizer cut = split(
      [replacement](std::string_view text, const Visit& visit) {
        for (size_t at = 0; (at = text.find(replacement, at)) != text.npos; at += replacement.size()) {
          visit(at, at + replacement.size());
        }
      },
      Behavior::merged_with_next);
  return [=](Pieces& pieces) {
    for_each_text(pieces, [&](Piece& piece) {
      replace_all(piece.text, " ", replacement);
      const bool wanted = scheme == PrependScheme::always || (scheme == PrependScheme::first && piece.first);
      if (wanted && !piece.text.starts_with(replacement)) piece.text.insert(0, replacement);
    });
    if (split_too) cut(pieces);
  };
}

PrependScheme read_prepend_scheme(const Fields& fields) {
  const bool never = !fields.flag("add_prefix_space", true);
  if (!fields.has("prepend_scheme")) return never ? PrependScheme::never : PrependScheme::always;
  const std::string name = fields.text("prepend_scheme");
  if (name == "first") return PrependScheme::first;
  if (name == "always") return PrependScheme::always;
  if (name == "never") return PrependScheme::never;
  fields.refuse(fmt::format("prepend_scheme is first, always or never, not '{}'", name));
}

PreTokenizer read_pre_tokenizer(const Fields& fields) {
  return read_by_type(fields, "pre-tokenizer", kPreTokenizerTypes);
}

}  // namespace surtsey::experiments::text
