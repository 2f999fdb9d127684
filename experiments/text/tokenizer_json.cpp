#include "experiments/text/tokenizer_json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

#include "experiments/base/file.h"
#include "experiments/base/utf8.h"
#include "experiments/text/byte_level.h"
#include "experiments/text/decoders.h"
#include "experiments/text/fields.h"
#include "experiments/text/model_json.h"
#include "experiments/text/normalizers.h"
#include "experiments/text/post_processors.h"
#include "experiments/text/pre_tokenizers.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// What a model that names no type has.
std::string kind_of(const Fields& model, const ModelJson& file) {
  if (model.has("type")) return model.kind();
  if (file.has_merges) return "BPE";
  if (file.vocab_is_list) return "Unigram";
  return model.has("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

std::unique_ptr<TokenModel> read_bpe(const Fields& model, const SharedVocabulary& vocabulary, const ModelJson& file) {
  if (!file.has_merges) model.refuse("'merges' is missing");
  if (model.has("dropout") && model.value()["dropout"] != 0) {
    model.refuse("dropout draws tokens at random: it is not supported; set it to null");
  }
  BpeOptions options;
  options.unk_token = model.optional_text("unk_token");
  options.continuing_subword_prefix = model.text("continuing_subword_prefix", "");
  options.end_of_word_suffix = model.text("end_of_word_suffix", "");
  options.fuse_unk = model.flag("fuse_unk", false);
  options.byte_fallback = model.flag("byte_fallback", false);
  options.ignore_merges = model.flag("ignore_merges", false);
  return make_bpe(vocabulary, file.merges, options, model.path());
}

std::unique_ptr<TokenModel> read_model(const Fields& model, const SharedVocabulary& vocabulary, ModelJson& file) {
  const std::string kind = kind_of(model, file);
  if (file.vocab_is_list != (kind == "Unigram")) {
    model.refuse(fmt::format("the vocabulary of a {} model is {}", kind,
                             kind == "Unigram" ? "a list of tokens with scores" : "an object of tokens with ids"));
  }
  if (kind == "BPE") return read_bpe(model, vocabulary, file);
  if (kind == "WordPiece") {
    WordPieceOptions options;
    options.unk_token = model.text("unk_token", options.unk_token);
    options.continuing_subword_prefix = model.text("continuing_subword_prefix", options.continuing_subword_prefix);
    if (model.has("max_input_chars_per_word")) {
      options.max_input_chars_per_word = model.integer("max_input_chars_per_word", 0, INT32_MAX);
    }
    return make_wordpiece(vocabulary, options);
  }
  if (kind == "WordLevel") return make_word_level(vocabulary, model.text("unk_token", "<unk>"));
  if (kind == "Unigram") {
    UnigramOptions options;
    if (model.has("unk_id")) options.unk_id = int32_t(model.integer("unk_id", 0, INT32_MAX));
    options.byte_fallback = model.flag("byte_fallback", false);
    return make_unigram(vocabulary, std::move(file.scores), options, model.path());
  }
  model.refuse(fmt::format("the model '{}' is not supported", kind));
}

std::vector<AddedToken> read_added_tokens(const Fields& root, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  std::map<std::string, int32_t> known;
  for (const Fields& fields : root.list("added_tokens")) {
    AddedToken token;
    token.content = fields.text("content");
    if (token.content.empty()) continue;
    token.id = int32_t(fields.integer("id", 0, vocabulary.size() + kMostMissingIds));
    token.single_word = fields.flag("single_word", false);
    token.lstrip = fields.flag("lstrip", false);
    token.rstrip = fields.flag("rstrip", false);
    token.special = fields.flag("special", false);
    token.normalized = fields.flag("normalized", !token.special);
    const auto in_model = vocabulary.find(token.content);
    if (in_model && *in_model != token.id) {
      fields.refuse(fmt::format("'{}' has the id {} here and {} in the model", token.content, token.id, *in_model));
    }
    const auto [place, is_new] = known.emplace(token.content, token.id);
    if (!is_new && place->second != token.id) {
      fields.refuse(fmt::format("'{}' has two ids, {} and {}", token.content, place->second, token.id));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedToken special(const std::string& content, int32_t id) {
  AddedToken token{content, id};
  token.special = true;
  return token;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    at = end + 1;
  }
  return lines;
}

Tokenizer load_vocabulary(const fs::path& path) {
  bool lower_case = true;
  if (const auto config = read_file_if_exists(path.parent_path() / "tokenizer_config.json")) {
    const json values = json::parse(*config, nullptr, false);
    if (values.is_object() && values.contains("do_lower_case") && values["do_lower_case"].is_boolean()) {
      lower_case = values["do_lower_case"].get<bool>();
    }
  }
  return parse_wordpiece_vocabulary(read_file(path), lower_case, path.string());
}

Tokenizer load_gpt2(const fs::path& folder) {
  return parse_gpt2_files(read_file(folder / "vocab.json"), read_file(folder / "merges.txt"), folder.string());
}

}  // namespace

Tokenizer parse_tokenizer_json(std::string_view text, const std::string& path) {
  ModelJson file = read_model_json(text, path);
  check(file.rest->is_object(), "{}: an object belongs here", path);
  const Fields root(*file.rest, path);
  if (root.has("version") && root.text("version") != "1.0") {
    root.refuse(fmt::format("version '{}' is not supported, only 1.0", root.text("version")));
  }
  const Fields model = root.at("model");
  if (!file.has_vocab) model.refuse("'vocab' is missing, or is neither an object nor a list");
  Tokenizer::Parts parts;
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(file.vocab), path + ": model.vocab");
  parts.model = read_model(model, parts.vocabulary, file);
  if (root.has("normalizer")) parts.normalizer = read_normalizer(root.at("normalizer"));
  parts.added = AddedTokens(read_added_tokens(root, *parts.vocabulary), parts.normalizer);
  if (root.has("pre_tokenizer")) parts.pre_tokenizer = read_pre_tokenizer(root.at("pre_tokenizer"));
  if (root.has("post_processor")) parts.post_processor = read_post_processor(root.at("post_processor"));
  if (root.has("decoder")) parts.decoder = read_decoder(root.at("decoder"));
  return Tokenizer(std::move(parts));
}

Tokenizer parse_wordpiece_vocabulary(std::string_view text, bool lower_case, const std::string& path) {
  check_utf8(text, path);
  std::vector<std::pair<std::string, int64_t>> entries;
  for (const std::string_view line : lines_of(text)) entries.emplace_back(line, int64_t(entries.size()));
  Tokenizer::Parts parts;
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(entries), path);
  parts.model = make_wordpiece(parts.vocabulary, {});
  std::vector<AddedToken> added;
  for (const char* name : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    const auto id = parts.vocabulary->find(name);
    check(id || std::string_view(name) == "[MASK]" || std::string_view(name) == "[PAD]",
          "{}: the vocabulary of a BERT has a line {}", path, name);
    if (id) added.push_back(special(name, *id));
  }
  const json normalizer = {{"type", "BertNormalizer"}, {"lowercase", lower_case}};
  const json pre_tokenizer = {{"type", "BertPreTokenizer"}};
  parts.normalizer = read_normalizer(Fields(normalizer, path));
  parts.pre_tokenizer = read_pre_tokenizer(Fields(pre_tokenizer, path));
  parts.added = AddedTokens(std::move(added), parts.normalizer);
  parts.post_processor = bert_processor(*parts.vocabulary->find("[CLS]"), *parts.vocabulary->find("[SEP]"));
  parts.decoder = wordpiece_decoder("##", true);
  return Tokenizer(std::move(parts));
}

Tokenizer parse_gpt2_files(std::string_view vocabulary, std::string_view merges, const std::string& path) {
  const json tokens = json::parse(vocabulary, nullptr, false);
  check(tokens.is_object(), "{}: vocab.json is no JSON object", path);
  std::vector<std::pair<std::string, int64_t>> entries;
  for (const auto& [token, id] : tokens.items()) {
    check(id.is_number_unsigned() && id.get<uint64_t>() <= INT32_MAX,
          "{}: vocab.json: the id of '{}' is no whole number", path, token);
    entries.emplace_back(token, id.get<int64_t>());
  }
  check_utf8(merges, path + ": merges.txt");
  Merges pairs;
  for (const std::string_view line : lines_of(merges)) {
    if (line.starts_with("#version") || line.empty()) continue;
    const size_t blank = line.find(' ');
    check(blank != line.npos && line.find(' ', blank + 1) == line.npos,
          "{}: merges.txt: '{}' is not two tokens with a blank between", path, line);
    pairs.emplace_back(line.substr(0, blank), line.substr(blank + 1));
  }
  Tokenizer::Parts parts;
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(entries), path + ": vocab.json");
  parts.model = make_bpe(parts.vocabulary, pairs, {}, path);
  if (const auto end = parts.vocabulary->find("<|endoftext|>")) {
    parts.added = AddedTokens({special("<|endoftext|>", *end)}, {});
  }
  parts.pre_tokenizer = byte_level(false, true);
  parts.decoder = byte_level_decoder();
  return Tokenizer(std::move(parts));
}

Tokenizer load_tokenizer(const fs::path& path) {
  if (!fs::is_directory(path)) {
    const std::string name = path.filename().string();
    if (name.ends_with(".txt") && name != "merges.txt") return load_vocabulary(path);
    if (name == "vocab.json" || name == "merges.txt") return load_gpt2(path.parent_path());
    return parse_tokenizer_json(read_file(path), path.string());
  }
  if (fs::exists(path / "tokenizer.json")) return load_tokenizer(path / "tokenizer.json");
  if (fs::exists(path / "vocab.json") && fs::exists(path / "merges.txt")) return load_gpt2(path);
  if (fs::exists(path / "vocab.txt")) return load_vocabulary(path / "vocab.txt");
  throw UserError(
      fmt::format("{}: there is no tokenizer: neither tokenizer.json nor vocab.json with merges.txt nor "
                  "vocab.txt",
                  path.string()));
}

}  // namespace surtsey::experiments::text
