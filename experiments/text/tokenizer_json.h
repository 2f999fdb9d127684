// Tokenizers from files: tokenizer.json, and what came before it.
#pragma once

#include "experiments/text/tokenizer.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace surtsey::experiments::text {

// A folder with tokenizer.json, with vocab.txt (BERT) or with vocab.json and merges.txt (GPT-2); or one of these files.
// UserError that names the file, and the place in it, for what is missing, broken or not supported.
Tokenizer load_tokenizer(const std::filesystem::path& path);

// tokenizer.json's text; `path` stands in messages. Truncation and padding are the caller's, not the file's: both are
// passed over.
Tokenizer parse_tokenizer_json(std::string_view text, const std::string& path);

// vocab.txt: a token a line, its id the line's number from 0. `lower_case` as in tokenizer_config.json.
Tokenizer parse_wordpiece_vocabulary(std::string_view text, bool lower_case, const std::string& path);

// GPT-2's pair of files: {token: id}, and a merge a line.
Tokenizer parse_gpt2_files(std::string_view vocabulary, std::string_view merges, const std::string& path);

}  // namespace surtsey::experiments::text
