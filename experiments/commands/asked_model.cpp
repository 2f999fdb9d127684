#include "experiments/commands/asked_model.h"

#include "experiments/commands/adapted_source.h"
#include "experiments/commands/model_tokenizer.h"

#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

// Sources of an encoder-decoder that do not say their length.
constexpr int64_t kUsualSource = 512;

SlotOptions with_scores(SlotOptions options) {
  options.scores = true;
  options.source = options.context > 0 ? options.context : kUsualSource;
  return options;
}

// A configuration that says nothing of first and last tokens has those of its family, which a small vocabulary lacks.
hub::SpecialTokens tokens_within(hub::SpecialTokens tokens, int64_t vocabulary) {
  if (tokens.bos >= vocabulary) tokens.bos = -1;
  std::erase_if(tokens.eos, [&](int64_t token) { return token >= vocabulary; });
  return tokens;
}

}  // namespace

OpenModel::OpenModel(engine::Device& device, const std::string& model, SlotOptions options)
    : source_(open_source(model)),
      tokenizer_(tokenizer_of(*source_)),
      slots_(device, *source_, with_scores(std::move(options))),
      tokens_(tokens_within(source_->generation().tokens, slots_.vocabulary())),
      scorer_(slots_, tokens_) {}

std::function<std::string(const std::string&)> OpenModel::chat() const {
  return [chat = template_of(*source_, tokenizer_)](const std::string& message) {
    const nlohmann::ordered_json user = {{"role", "user"}, {"content", message}};
    return chat.render({{"messages", nlohmann::ordered_json::array({user})}, {"add_generation_prompt", true}});
  };
}

std::string OpenModel::fingerprint() const { return base_fingerprint(*source_); }

}  // namespace surtsey::experiments::commands
