#include "experiments/commands/model_tokenizer.h"

#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/base/utf8.h"
#include "experiments/text/tokenizer_gguf.h"
#include "experiments/text/tokenizer_json.h"
#include "experiments/train/checkpoint.h"
#include "graph/error.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

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

void tell_left_out(const text::Tokenizer& tokenizer, std::string_view text, std::string_view where) {
  std::set<std::string_view> known;
  std::vector<std::string> left_out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const std::string_view letter = text.substr(at, std::max<size_t>(1, point.length));
    at += letter.size();
    const bool is_drawn = point.length > 0 && point.point > 0x20 && !(point.point >= 0x7F && point.point <= 0xA0);
    if (!is_drawn || !known.insert(letter).second) continue;
    if (tokenizer.encode(letter, {.special_tokens = false}).empty()) left_out.push_back(fmt::format("'{}'", letter));
  }
  if (left_out.empty()) return;
  constexpr size_t kMostShown = 8;
  const size_t more = left_out.size() - std::min(left_out.size(), kMostShown);
  left_out.resize(left_out.size() - more);
  fmt::print(stderr, "warning: {}: the model has no token for {}{}, which {} left out\n", where, join(left_out, ", "),
             more > 0 ? fmt::format(" and {} more", more) : "", left_out.size() + more == 1 ? "is" : "are");
}

std::string template_text(const hub::Source& source, const std::string& file) {
  if (!file.empty()) return read_text(file);
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
