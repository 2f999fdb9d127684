#include "experiments/commands/model_tokenizer.h"

#include "experiments/text/tokenizer_gguf.h"
#include "experiments/text/tokenizer_json.h"
#include "experiments/train/checkpoint.h"
#include "graph/error.h"

#include <filesystem>

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

}  // namespace surtsey::experiments::commands
