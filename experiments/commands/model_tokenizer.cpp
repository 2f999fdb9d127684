#include "experiments/commands/model_tokenizer.h"

#include "experiments/base/file.h"
#include "experiments/text/tokenizer_gguf.h"
#include "experiments/text/tokenizer_json.h"
#include "experiments/train/checkpoint.h"
#include "graph/error.h"

#include <filesystem>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

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
  throw UserError(fmt::format("{}: has no tokenizer", path));
}

std::string template_text(const hub::Source& source, const std::string& file) {
  if (!file.empty()) return read_file(file);
  const hub::Description& description = source.description();
  if (description.tokenizer) return description.tokenizer->chat_template;
  return description.folder.empty() ? "" : text::chat_template_source(description.folder).value_or("");
}

text::ChatTemplate template_of(const hub::Source& source, const text::Tokenizer& tokenizer, const std::string& file) {
  const auto& held = source.description().tokenizer;
  if (!held) return text::load_chat_template(source.description().folder, "", file);
  if (!file.empty()) return text::load_chat_template("", "", file);
  const std::string where = source.path().string();
  check(!held->chat_template.empty(),
        "{}: there is no chat template (generate --chat takes one by --template, serve by --chat_template)", where);
  text::ChatTemplate made(held->chat_template, where);
  nlohmann::json tokens = nlohmann::json::object();
  const auto add = [&](const char* name, int64_t id) {
    if (id >= 0) tokens[name] = tokenizer.token(int32_t(id));
  };
  add("bos_token", held->bos);
  add("eos_token", held->eos);
  add("unk_token", held->unknown);
  add("pad_token", held->padding);
  made.set_tokens(tokens);
  return made;
}

}  // namespace surtsey::experiments::commands
