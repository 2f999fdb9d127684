#include "experiments/commands/model_tokenizer.h"

#include "experiments/base/json_text.h"
#include "experiments/text/tokenizer_gguf.h"
#include "experiments/text/tokenizer_json.h"
#include "experiments/text/unicode.h"
#include "experiments/train/checkpoint.h"
#include "graph/error.h"

#include <filesystem>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Every character of the vocabulary as a token, in its order.
text::Tokenizer by_characters(const std::string& vocabulary, const std::string& where) {
  json tokens = json::object();
  for (const char32_t point : text::characters(vocabulary)) {
    tokens[text::to_utf8(std::u32string_view(&point, 1))] = tokens.size();
  }
  const json file = {{"model", {{"type", "BPE"}, {"vocab", std::move(tokens)}, {"merges", json::array()}}},
                     {"decoder", {{"type", "Fuse"}}}};
  return text::parse_tokenizer_json(json_text(file), where);
}

text::Tokenizer of_checkpoint(const std::string& path) {
  const json config = load_checkpoint_config(path);
  const std::string tokenizer = config.value("tokenizer", ""), vocabulary = config.value("vocabulary", "");
  if (!tokenizer.empty()) return text::parse_tokenizer_json(tokenizer, path);
  check(!vocabulary.empty(), "{}: was not trained on text, so there is nothing to make tokens of", path);
  return by_characters(vocabulary, path);
}

text::Tokenizer of_gguf(const GgufTokenizer& held, const std::string& path) {
  if (held.model.empty() && !held.hugging_face_json.empty()) {
    return text::parse_tokenizer_json(held.hugging_face_json, path);
  }
  const auto token = [](int64_t id) { return id < 0 ? std::optional<int32_t>{} : std::optional(int32_t(id)); };
  return text::gguf_tokenizer({.model = held.model,
                               .pre = held.pre,
                               .tokens = held.tokens,
                               .scores = held.scores,
                               .types = held.types,
                               .merges = held.merges,
                               .bos_token_id = token(held.bos),
                               .eos_token_id = token(held.eos),
                               .unknown_token_id = token(held.unknown),
                               .add_bos_token = held.add_bos,
                               .add_eos_token = held.add_eos,
                               .add_space_prefix = held.add_space_prefix},
                              path);
}

}  // namespace

std::unique_ptr<hub::Source> open_source(const std::string& model) {
  check(!model.empty(), "which model? A folder, a GGUF file, or a run");
  const std::string root = checkpoint_folder(model);
  const std::vector<int64_t> steps = checkpoint_steps(root);
  return hub::open_model(steps.empty() ? fs::path(model) : fs::path(checkpoint_directory(root, steps.back())));
}

text::Tokenizer tokenizer_of(const hub::Source& source) {
  const hub::Description& description = source.description();
  const std::string path = source.path().string();
  if (description.tokenizer) return of_gguf(*description.tokenizer, path);
  if (!description.folder.empty()) return text::load_tokenizer(description.folder);
  check(fs::is_directory(source.path()), "{}: has no tokenizer", path);
  return of_checkpoint(path);
}

}  // namespace surtsey::experiments::commands
