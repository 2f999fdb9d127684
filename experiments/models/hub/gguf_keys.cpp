// The keys of a GGUF file from a configuration.
#include "experiments/models/hub/gguf_model.h"

#include "graph/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace surtsey::experiments::hub {
namespace {

// Frequencies of a rope by wavelength, as transformers' llama3 divides them.
std::vector<float> llama3_factors(const RopeConfig& rope, int64_t head_dim) {
  std::vector<float> factors;
  const double original = double(rope.original_positions);
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double wavelength = 2 * std::numbers::pi * std::pow(rope.theta, double(i) / double(head_dim));
    double factor = rope.factor;
    if (wavelength < original / rope.high_frequency_factor) {
      factor = 1;
    } else if (wavelength <= original / rope.low_frequency_factor) {
      const double smooth = (original / wavelength - rope.low_frequency_factor) /
                            (rope.high_frequency_factor - rope.low_frequency_factor);
      factor = 1 / ((1 - smooth) / rope.factor + smooth);
    }
    factors.push_back(float(factor));
  }
  return factors;
}

// Factors that hold for every length.
bool is_fixed(const RopeConfig& rope) {
  return rope.type == RopeType::longrope && rope.short_factor == rope.long_factor && rope.attention_factor == 1.0;
}

std::vector<float> floats(const std::vector<double>& numbers) { return {numbers.begin(), numbers.end()}; }

class Metadata {
 public:
  explicit Metadata(std::string architecture) : prefix_(architecture + ".") {
    keys_.emplace_back("general.architecture", GgufValue::of(std::move(architecture)));
  }
  void add(const char* key, int64_t value) { keys_.emplace_back(prefix_ + key, GgufValue::of(uint32_t(value))); }
  void add(const char* key, double value) { keys_.emplace_back(prefix_ + key, GgufValue::of(float(value))); }
  void add(const char* key, const std::string& value) { keys_.emplace_back(prefix_ + key, GgufValue::of(value)); }
  GgufMetadata take() { return std::move(keys_); }

 private:
  GgufMetadata keys_;
  std::string prefix_;
};

void add_rope(Metadata& keys, const LlamaConfig& model) {
  const RopeConfig& rope = model.rope;
  keys.add("rope.dimension_count", model.head_dim);
  keys.add("rope.freq_base", rope.theta);
  const int64_t original = rope.original_positions > 0    ? rope.original_positions
                           : model.original_positions > 0 ? model.original_positions
                                                          : model.positions;
  switch (rope.type) {
    case RopeType::plain:
    case RopeType::llama3:
      return;
    case RopeType::linear:
      keys.add("rope.scaling.type", "linear");
      return keys.add("rope.scaling.factor", rope.factor);
    case RopeType::yarn:
      check(!rope.attention_factor && !rope.mscale && !rope.mscale_all_dim && rope.truncate,
            "GGUF has no keys for the rope type 'yarn' with attention_factor, mscale or truncate");
      keys.add("rope.scaling.type", "yarn");
      keys.add("rope.scaling.factor", rope.factor);
      keys.add("rope.scaling.original_context_length", original);
      keys.add("rope.scaling.yarn_beta_fast", rope.beta_fast);
      return keys.add("rope.scaling.yarn_beta_slow", rope.beta_slow);
    case RopeType::longrope: {
      if (is_fixed(rope)) return;
      keys.add("rope.scaling.type", "longrope");
      keys.add("rope.scaling.original_context_length", original);
      const double factor = model.original_positions > 0 ? double(model.positions) / double(original) : rope.factor;
      const double attention = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(double(original)));
      return keys.add("rope.scaling.attn_factor", rope.attention_factor.value_or(attention));
    }
    case RopeType::dynamic:
      throw UserError("GGUF has no key for the rope type 'dynamic'");
  }
}

GgufMetadata keys_of(const LlamaConfig& model) {
  const bool mistral = model.model_type == "mistral";
  Metadata keys(mistral ? "llama" : model.model_type);
  keys.add("context_length", model.positions);
  keys.add("embedding_length", model.width);
  keys.add("block_count", model.layers);
  keys.add("feed_forward_length", model.hidden);
  keys.add("attention.head_count", model.heads);
  keys.add("attention.head_count_kv", model.kv_heads);
  keys.add("attention.key_length", model.head_dim);
  keys.add("attention.value_length", model.head_dim);
  keys.add("attention.layer_norm_rms_epsilon", model.norm_epsilon);
  const int64_t window = model.windows.front();
  check(std::all_of(model.windows.begin(), model.windows.end(), [&](int64_t n) { return n == window; }),
        "GGUF has no key for windows that differ from layer to layer");
  if (window > 0) keys.add("attention.sliding_window", window);
  add_rope(keys, model);
  return keys.take();
}

GgufMetadata keys_of(const Gpt2Config& model) {
  check(model.activation == Activation::gelu_tanh && model.scale_scores && !model.scale_scores_by_layer,
        "GGUF has no keys for a GPT-2 with another activation than gelu_new or another scale of scores");
  Metadata keys("gpt2");
  keys.add("context_length", model.positions);
  keys.add("embedding_length", model.width);
  keys.add("block_count", model.layers);
  keys.add("feed_forward_length", model.hidden);
  keys.add("attention.head_count", model.heads);
  keys.add("attention.layer_norm_epsilon", model.norm_epsilon);
  return keys.take();
}

template <typename Model>
GgufMetadata keys_of(const Model&) {
  throw UserError("GGUF is written of gpt2 and llama and its variants only");
}

}  // namespace

GgufMetadata gguf_metadata(const Config& config) {
  check(config.head == Head::language_model || config.head == Head::none,
        "GGUF is written of models that predict tokens, not of {}",
        config.architecture.empty() ? "one with a head of labels" : config.architecture);
  GgufMetadata keys = std::visit([](const auto& model) { return keys_of(model); }, config.model);
  const std::string architecture = keys.front().second.texts.front();
  keys.emplace_back(architecture + ".vocab_size", GgufValue::of(uint32_t(config.vocabulary)));
  return keys;
}

std::vector<RopeFactors> gguf_rope_factors(const Config& config) {
  if (config.family() != Family::llama) return {};
  const LlamaConfig& model = config.llama();
  const RopeConfig& rope = model.rope;
  if (rope.type == RopeType::llama3) return {{"rope_freqs.weight", llama3_factors(rope, model.head_dim)}};
  if (rope.type != RopeType::longrope) return {};
  if (is_fixed(rope)) return {{"rope_freqs.weight", floats(rope.short_factor)}};
  return {{"rope_factors_long.weight", floats(rope.long_factor)},
          {"rope_factors_short.weight", floats(rope.short_factor)}};
}

}  // namespace surtsey::experiments::hub
