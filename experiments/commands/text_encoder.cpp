#include "experiments/commands/text_encoder.h"

#include "engine/error.h"
#include "experiments/base/computing_device.h"
#include "experiments/commands/adapted_source.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/evaluate/text_vectors.h"
#include "experiments/models/hub/import.h"
#include "shaders/cache_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

namespace surtsey::experiments::commands {
namespace {

// Tokenizers that have the same tokens and cut texts otherwise differ in this one.
constexpr const char* kProbe =
    "The 12 quick brown foxes' dog-ears, naïve façades;\n\n«Übermut» 東京 x_y=3.14!\t unhappily";

struct Opened {
  Opened(std::unique_ptr<hub::Source> from, text::Tokenizer with, std::string where)
      : source(std::move(from)), tokenizer(std::move(with)), device_name(std::move(where)) {}

  std::unique_ptr<hub::Source> source;
  text::Tokenizer tokenizer;
  std::string device_name;
  std::optional<engine::Device> device;
  std::optional<TextVectors> vectors;

  std::string hash() const {
    uint64_t hash = shaders::hash64(hub::config_json(source->config()).dump() + base_fingerprint(*source));
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) hash = shaders::hash64(tokenizer.token(id) + "\n", hash);
    for (const int32_t id : tokenizer.encode(kProbe)) hash = shaders::hash64(fmt::format("{} ", id), hash);
    return fmt::format("{:016x}", hash);
  }

  std::vector<std::vector<float>> of(const std::vector<std::vector<int32_t>>& texts) {
    try {
      if (!vectors) {
        device.emplace(open_computing_device({.select = device_name}));
        vectors.emplace(*device, *source);
      }
      return vectors->of(texts);
    } catch (const engine::DeviceError&) {
      vectors.reset();
      device.reset();
      throw;
    }
  }
};

}  // namespace

TextEncoder open_encoder(const std::string& model, const std::string& device) {
  std::unique_ptr<hub::Source> source = open_source(model);
  check(TextVectors::has(*source), "{}: an encoder-decoder; vectors are made by models of one stack", model);
  text::Tokenizer tokenizer = tokenizer_of(*source);
  const ModelConfig config = hub::model_config(*source);
  auto opened = std::make_shared<Opened>(std::move(source), std::move(tokenizer), device);
  return {.model = std::filesystem::absolute(model).lexically_normal().string(),
          .hash = opened->hash(),
          .width = config.n_embd,
          .context = config.block_size,
          .tokens = [opened](std::string_view text) { return opened->tokenizer.encode(text); },
          .vectors = [opened](const auto& texts) { return opened->of(texts); }};
}

}  // namespace surtsey::experiments::commands
