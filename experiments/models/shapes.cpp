#include "experiments/models/shapes.h"

#include "graph/error.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace surtsey::experiments {
namespace {

// Radford et al. 2019; huggingface.co/openai-community/gpt2
ModelConfig gpt2() {
  ModelConfig config;
  config.n_layer = 12;
  config.n_head = 12;
  config.n_embd = 768;
  config.block_size = 1024;
  config.vocab_size = 50257;
  config.activation = Activation::gelu_tanh;
  config.tied = true;
  return config;
}

// What Llama and its successors have in common (Touvron et al. 2023).
ModelConfig llama(int64_t layers, int64_t width, int64_t hidden, int64_t heads, int64_t kv_heads, int64_t vocabulary,
                  int64_t context, double rotary_base) {
  ModelConfig config;
  config.n_layer = layers;
  config.n_embd = width;
  config.n_hidden = hidden;
  config.n_head = heads;
  config.n_kv_head = kv_heads;
  config.vocab_size = vocabulary;
  config.block_size = context;
  config.rotary_base = rotary_base;
  config.bias = false;
  config.position = Position::rotary;
  config.norm = Norm::rms_norm;
  config.activation = Activation::swiglu;
  return config;
}

// huggingface.co/HuggingFaceTB/SmolLM2-135M
ModelConfig smollm2() {
  ModelConfig config = llama(30, 576, 1536, 9, 3, 49152, 8192, 100000);
  config.tied = true;
  return config;
}

// huggingface.co/Qwen/Qwen2.5-0.5B
ModelConfig qwen() {
  ModelConfig config = llama(24, 896, 4864, 14, 2, 151936, 32768, 1000000);
  config.attention_bias = true;
  config.norm_epsilon = 1e-6;
  config.tied = true;
  return config;
}

// huggingface.co/TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T
ModelConfig tinyllama() { return llama(22, 2048, 5632, 32, 4, 32000, 2048, 10000); }

struct NamedShape {
  const char* name;
  ModelConfig (*config)();
};
constexpr NamedShape kShapes[] = {
    {"GPT-2-124M", gpt2}, {"SmolLM2-135M", smollm2}, {"Qwen2.5-0.5B", qwen}, {"TinyLlama-1.1B", tinyllama}};

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const NamedShape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

void apply_shape(ModelConfig& config, std::string_view name) {
  for (const NamedShape& shape : kShapes) {
    if (!same_letters(shape.name, name)) continue;
    const double dropout = config.dropout;
    config = shape.config();
    config.dropout = dropout;
    return;
  }
  int64_t depth = 0;
  bool valid = name.size() > 1 && name[0] == 'd';
  if (valid) {
    const char* last = name.data() + name.size();
    const auto [end, error] = std::from_chars(name.data() + 1, last, depth);
    valid = error == std::errc() && end == last && depth > 0 && depth <= 1000;
  }
  check(valid, "[config] a model's shape is d1, d2 .. d1000 (layers) or one of {}, not {}",
        fmt::join(shape_names(), ", "), name);
  config.n_layer = depth;
  config.n_head = depth;
  config.n_kv_head = 0;
  config.n_embd = 64 * depth;
  config.head_dim.reset();
}

}  // namespace surtsey::experiments
