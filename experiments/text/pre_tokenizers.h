// Pre-tokenizers of tokenizer.json: cut the text into the parts that the model sees one by one.
#pragma once

#include "experiments/text/fields.h"
#include "experiments/text/pipeline.h"
#include "experiments/text/regex.h"

#include <functional>
#include <string>
#include <string_view>

namespace surtsey::experiments::text {

// What becomes of the parts that a pattern matches. Contiguous is isolated, with neighbours joined.
enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

// Calls visit(begin, end) for each match, from left to right.
using Visit = std::function<void(size_t begin, size_t end)>;
using Matcher = std::function<void(std::string_view text, const Visit& visit)>;

// Of a "pre_tokenizer" object, or of each in a Sequence. UserError for a kind that there is not, by name.
PreTokenizer read_pre_tokenizer(const Fields& fields);

PreTokenizer split(Matcher matcher, Behavior behavior, bool invert = false);
PreTokenizer split(Regex pattern, Behavior behavior, bool invert = false);
PreTokenizer byte_level(bool add_prefix_space, bool use_regex);

enum class PrependScheme { first, always, never };
PreTokenizer metaspace(std::string replacement, PrependScheme scheme, bool split);

// One that was written before prepend_scheme has add_prefix_space; both readers of a Metaspace ask here.
PrependScheme read_prepend_scheme(const Fields& fields);

}  // namespace surtsey::experiments::text
