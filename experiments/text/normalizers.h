// Normalizers of tokenizer.json: the text as the model wants it, before it is cut.
#pragma once

#include "experiments/text/fields.h"
#include "experiments/text/pipeline.h"
#include "experiments/text/regex.h"

namespace surtsey::experiments::text {

// Of a "normalizer" object, or of each in a Sequence. UserError for a kind that there is not, by name.
Normalizer read_normalizer(const Fields& fields);

// {"String": ..} or {"Regex": ..}, as Replace and Split have it.
Regex read_pattern(const Fields& fields, const char* key);
// What matches is replaced; UserError where the result grows out of hand.
void replace_matches(std::string& text, const Regex& pattern, const std::string& content);
void replace_all(std::string& text, std::string_view old_part, std::string_view new_part);

}  // namespace surtsey::experiments::text
