// A model that others trained, ready to continue tokens: its weights frozen on the device, a cache, and what its
// generation_config.json says.
//
//   TextModel model(device, source, {.context = 512});
//   model.generate(prompt, source.generation(), 0, [&](int32_t token) { stream(token); return true; });
#pragma once

#include "engine/session.h"
#include "experiments/generate/decode.h"
#include "experiments/models/hub/source.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct TextModelOptions {
  int64_t context = 0;          // tokens of a text, its prompt included; 0: what the model was made for, at most 2048
  int64_t source = 0;           // of an encoder-decoder's source
  std::string weights = "f32";  // as freeze_weights() takes them
  // Tokens that are drawn from, as the generation's; they are compiled in.
  TokenFilter filter = {};
};

class TextModel {
 public:
  // UserError: an encoder, a configuration that is not supported, no room on the device.
  TextModel(engine::Device& device, const hub::Source& source, const TextModelOptions& options);

  const ModelConfig& config() const { return model_.config(); }

  // What `how` asks for and this does not do yet, by the names of its keys; empty: nothing.
  static std::vector<std::string> unsupported(const hub::GenerationConfig& how);
  // The filter that `how` compiles in.
  static TokenFilter filter(const hub::GenerationConfig& how);

  // Continues `prompt` (of an encoder-decoder: answers it), and gives each token to `told` as it comes, until that
  // returns false, an end token was given, or the lengths of `how` or the context are reached. Greedy, or drawn with
  // `seed`. Returns the new tokens. UserError: what unsupported() names; an empty prompt, one that is longer than the
  // context, logits that are not finite.
  std::vector<int32_t> generate(const std::vector<int32_t>& prompt, const hub::GenerationConfig& how, uint32_t seed,
                                const std::function<bool(int32_t token)>& told = {});

 private:
  std::string where_;
  Model model_;
  engine::Session session_;
  std::optional<Decoder> decoder_;
};

}  // namespace surtsey::experiments
