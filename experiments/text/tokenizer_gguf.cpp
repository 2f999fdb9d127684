#include "experiments/text/tokenizer_gguf.h"

#include <algorithm>
#include <array>

#include "experiments/base/utf8.h"
#include "experiments/text/byte_level.h"
#include "experiments/text/decoders.h"
#include "experiments/text/normalizers.h"
#include "experiments/text/post_processors.h"
#include "experiments/text/pre_tokenizers.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

// tokenizer.ggml.token_type
constexpr int32_t kUnknownType = 2, kControlType = 3, kUserDefinedType = 4;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                                R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                                R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Patterns that cut one after the other.
struct PreTokenizerRow {
  const char* name;
  std::array<const char*, 4> patterns;
  bool ignore_merges = false;  // a part that is a token is taken whole
  bool nfc = false;            // the text is composed first
};
constexpr std::array<PreTokenizerRow, 18> kPreTokenizers = {{
    {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
    {"gpt-2", {kGpt2Pattern}},
    {"phi-2", {kGpt2Pattern}},
    {"mpt", {kGpt2Pattern}},
    {"olmo", {kGpt2Pattern}},
    {"llama-bpe", {kLlama3}, true},
    {"llama3", {kLlama3}, true},
    {"llama-v3", {kLlama3}, true},
    {"qwen2", {kQwen2}, false, true},
    {"deepseek-r1-qwen", {kQwen2}, false, true},
    {"stablelm2", {kQwen2}},
    {"smollm", {R"(\p{N})", kGpt2Pattern}},
    {"starcoder", {R"(\p{N})", kGpt2Pattern}},
    {"command-r", {R"(\p{N})", kGpt2Pattern}},
    {"falcon", {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}},
    {"gpt-4o", {kGpt4o}},
    {"llama4", {kGpt4o}},
    {"tekken", {kTekken}, true},
}};

const PreTokenizerRow& row_of(const std::string& pre, const std::string& path) {
  std::string names;
  for (const PreTokenizerRow& row : kPreTokenizers) {
    if (row.name == (pre.empty() ? "default" : pre)) return row;
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  throw UserError(fmt::format("{}: the pre-tokenizer '{}' is not supported; there are {}", path, pre, names));
}

int32_t checked(int32_t id, size_t tokens, const char* what, const std::string& path) {
  check(id >= 0 && size_t(id) < tokens, "{}: {} {} is not in a vocabulary of {}", path, what, id, tokens);
  return id;
}

void set_llama(Tokenizer::Parts& parts, const GgufVocabulary& given, const std::string& path) {
  check(given.scores.size() == given.tokens.size(), "{}: {} scores for {} tokens", path, given.scores.size(),
        given.tokens.size());
  const bool prefix = given.add_space_prefix.value_or(true);
  parts.normalizer = [prefix](std::string& text) {
    if (prefix && !text.empty()) text.insert(0, 1, ' ');
    replace_all(text, " ", kMetaSpace);
  };
  parts.model = make_sentencepiece_bpe(parts.vocabulary, given.scores, given.unknown_token_id);
  parts.decoder = sentencepiece_decoder(prefix ? 1 : 0);
}

void set_gpt2(Tokenizer::Parts& parts, const GgufVocabulary& given, const std::string& path) {
  const PreTokenizerRow& row = row_of(given.pre, path);
  Merges merges;
  for (const std::string& line : given.merges) {
    const size_t blank = line.find(' ', 1);  // a token may begin with a blank, but for the byte level it is written Ġ
    check(blank != line.npos, "{}: the merge '{}' is not two tokens with a blank between", path, line);
    merges.emplace_back(line.substr(0, blank), line.substr(blank + 1));
  }
  BpeOptions options;
  options.ignore_merges = row.ignore_merges;
  parts.model = make_bpe(parts.vocabulary, merges, options, path);
  if (row.nfc) parts.normalizer = [](std::string& text) { text = normal_form(text, NormalForm::nfc); };
  std::vector<PreTokenizer> steps;
  for (const char* pattern : row.patterns) {
    if (pattern != nullptr) steps.push_back(split(Regex(pattern, path), Behavior::isolated));
  }
  steps.push_back(byte_level(false, false));
  parts.pre_tokenizer = [steps](Pieces& pieces) {
    for (const PreTokenizer& step : steps) step(pieces);
  };
  parts.decoder = byte_level_decoder();
}

}  // namespace

Tokenizer gguf_tokenizer(const GgufVocabulary& given, const std::string& path) {
  const size_t count = given.tokens.size();
  check(given.types.empty() || given.types.size() == count, "{}: {} token types for {} tokens", path,
        given.types.size(), count);
  std::vector<std::pair<std::string, int64_t>> entries;
  std::vector<AddedToken> added;
  for (size_t id = 0; id < count; ++id) {
    check_utf8(given.tokens[id], fmt::format("{}: token {}", path, id));
    entries.emplace_back(given.tokens[id], int64_t(id));
    const int32_t type = given.types.empty() ? 1 : given.types[id];
    if (type != kUnknownType && type != kControlType && type != kUserDefinedType) continue;
    AddedToken token{given.tokens[id], int32_t(id)};
    token.special = type != kUserDefinedType;
    added.push_back(std::move(token));
  }
  Tokenizer::Parts parts;
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(entries), path);
  parts.added = AddedTokens(std::move(added), {});
  if (given.unknown_token_id) checked(*given.unknown_token_id, count, "unknown_token_id", path);
  const bool llama = given.model == "llama";
  check(llama || given.model == "gpt2", "{}: the tokenizer '{}' is not supported; there are llama and gpt2", path,
        given.model);
  (llama ? set_llama : set_gpt2)(parts, given, path);
  std::vector<int32_t> before, after;
  if (given.add_bos_token.value_or(llama) && given.bos_token_id) {
    before.push_back(checked(*given.bos_token_id, count, "bos_token_id", path));
  }
  if (given.add_eos_token.value_or(false) && given.eos_token_id) {
    after.push_back(checked(*given.eos_token_id, count, "eos_token_id", path));
  }
  parts.post_processor = surround(std::move(before), std::move(after));
  return Tokenizer(std::move(parts));
}

}  // namespace surtsey::experiments::text
