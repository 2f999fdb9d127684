// A model that a user names, whatever it is, and what its text is made of.
#pragma once

#include "experiments/models/hub/source.h"
#include "experiments/text/chat_template.h"
#include "experiments/text/tokenizer.h"

#include <memory>
#include <string>
#include <string_view>

namespace surtsey::experiments::commands {

// What hub::open_model() takes, or a run of ours (its newest save), or its checkpoint folder.
std::unique_ptr<hub::Source> open_source(const std::string& model);

// From its folder, or from what its GGUF file or its checkpoint of ours holds. UserError: there is none.
text::Tokenizer tokenizer_of(const hub::Source& source);

// Says on stderr which characters of `text` the tokenizer has no token for and leaves out, as one by characters does;
// blanks and control characters apart, which tokenizers may drop on purpose. `where` begins the line.
void tell_left_out(const text::Tokenizer& tokenizer, std::string_view text, std::string_view where);

// The text of its chat template, or of `file`; empty: there is none.
std::string template_text(const hub::Source& source, const std::string& file = "");
// Of the same, or of `file`, with the model's special tokens. UserError: there is none.
text::ChatTemplate template_of(const hub::Source& source, const text::Tokenizer& tokenizer,
                               const std::string& file = "");

}  // namespace surtsey::experiments::commands
