// config.json of models that others trained: one structure a family, every field that changes a result. What a family
// does with a field stands beside it; what no field can say (an activation, a rope type, cross-attention in GPT-2, ..)
// is refused by name. Defaults are those of transformers, a model_type's own where they differ.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace surtsey::experiments::hub {

enum class Family : uint8_t { gpt2, llama, bert, t5 };

// gelu is the erf form, gelu_tanh its approximation (gelu_new, gelu_fast and gelu_pytorch_tanh alike).
enum class Activation : uint8_t { gelu, gelu_tanh, relu, silu };

// What stands on the last hidden state, by "architectures".
enum class Head : uint8_t { none, language_model, classification, token_classification, pretraining, next_sentence };

// Pre-norm decoder, learned positions, LayerNorm, biases everywhere.
struct Gpt2Config {
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t width = 768;    // C; heads are C / heads wide
  int64_t hidden = 3072;  // of the MLP (n_inner; null: 4C)
  int64_t positions = 1024;
  double norm_epsilon = 1e-5;
  Activation activation = Activation::gelu_tanh;
  bool scale_scores = true;            // scale_attn_weights: scores by 1 / sqrt(D)
  bool scale_scores_by_layer = false;  // and by 1 / (layer + 1), counted from 0
  bool operator==(const Gpt2Config&) const = default;
};

// rope_scaling, or rope_parameters of transformers 5.
enum class RopeType : uint8_t { plain, linear, dynamic, yarn, longrope, llama3 };  // plain is called "default"
struct RopeConfig {
  RopeType type = RopeType::plain;
  double theta = 10000;
  double factor = 1;  // linear, dynamic, yarn, llama3; of longrope where has_factor
  bool has_factor = false;
  // Of the rope's own parameters; 0: absent (dynamic and yarn take max positions then).
  int64_t original_positions = 0;
  std::optional<double> attention_factor = {};  // yarn, longrope
  double beta_fast = 32, beta_slow = 1;         // yarn
  std::optional<double> mscale = {}, mscale_all_dim = {};
  bool truncate = true;                                        // yarn: the ramp's ends are rounded to whole dimensions
  std::vector<double> short_factor, long_factor;               // longrope: head_dim / 2 each
  double low_frequency_factor = 1, high_frequency_factor = 4;  // llama3
  bool operator==(const RopeConfig&) const = default;
};

// Pre-norm decoder, RMSNorm, rotary positions in the rotate-half form (i, i + D/2), down(silu(gate) * up).
struct LlamaConfig {
  std::string model_type = "llama";  // llama, mistral, qwen2, qwen3
  int64_t layers = 32;
  int64_t heads = 32;
  int64_t kv_heads = 32;
  int64_t head_dim = 128;  // D, need not be C / heads
  int64_t width = 4096;    // C
  int64_t hidden = 11008;
  int64_t positions = 2048;
  int64_t original_positions = 0;  // original_max_position_embeddings beside max_position_embeddings; 0: absent
  double norm_epsilon = 1e-6;
  RopeConfig rope;
  bool query_key_value_bias = false;  // llama and qwen3 with attention_bias, qwen2 always
  bool output_bias = false;           // of attention's output: llama and qwen3 with attention_bias
  bool mlp_bias = false;              // of up, gate and down
  bool query_key_norm = false;        // qwen3: RMSNorm over each head of q and of k, before the rotation
  // A token sees itself and the window - 1 before it; one number a layer, 0: the whole context.
  std::vector<int64_t> windows;
  bool operator==(const LlamaConfig&) const = default;
};

// Post-norm encoder, learned positions and token types, LayerNorm, biases everywhere.
struct BertConfig {
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t width = 768;
  int64_t hidden = 3072;
  int64_t positions = 512;
  int64_t token_types = 2;
  double norm_epsilon = 1e-12;
  Activation activation = Activation::gelu;
  bool operator==(const BertConfig&) const = default;
};

// Pre-norm encoder and decoder, RMSNorm, no biases, scores not scaled, relative positions by buckets.
struct T5Config {
  int64_t layers = 6;
  int64_t decoder_layers = 6;
  int64_t heads = 8;
  int64_t head_dim = 64;  // d_kv; heads * head_dim need not be C
  int64_t width = 512;
  int64_t hidden = 2048;
  int64_t buckets = 32;  // relative_attention_num_buckets; the encoder splits them in two directions
  int64_t max_distance = 128;
  double norm_epsilon = 1e-6;
  Activation activation = Activation::relu;
  bool gated = false;      // v1.1: down(activation(gate) * up)
  bool scale_head = true;  // what the head reads is times 1 / sqrt(C): where it is tied
  bool operator==(const T5Config&) const = default;
};

// Indices of tokens; -1: none.
struct SpecialTokens {
  int64_t bos = -1;
  std::vector<int64_t> eos;  // config.json gives one or several
  int64_t pad = -1;
  int64_t decoder_start = -1;
  bool operator==(const SpecialTokens&) const = default;
};

struct Config {
  std::variant<Gpt2Config, LlamaConfig, BertConfig, T5Config> model;
  int64_t vocabulary = 0;
  bool tied = false;  // the head is the embedding
  Head head = Head::language_model;
  std::string architecture;  // "LlamaForCausalLM"; empty where the file says none
  int64_t labels = 0;        // of a classification
  std::vector<std::string> label_names;
  std::string problem_type;  // of a classification; empty where the file says none
  SpecialTokens tokens;
  std::string dtype;  // torch_dtype: what the weights were stored in; a hint and no more

  Family family() const { return Family(model.index()); }
  const Gpt2Config& gpt2() const { return std::get<Gpt2Config>(model); }
  const LlamaConfig& llama() const { return std::get<LlamaConfig>(model); }
  const BertConfig& bert() const { return std::get<BertConfig>(model); }
  const T5Config& t5() const { return std::get<T5Config>(model); }
  bool operator==(const Config&) const = default;
};

const char* name(Family family);
const char* name(Activation activation);
const char* name(RopeType type);

// Extents are limited (1000 layers, 2^20 wide, 2^24 tokens), so that what is made for every layer stays small whatever
// a file says. UserError beginning with `where`, the file: what is missing, of a wrong type, impossible, or not
// supported (with what is).
Config parse_config(const nlohmann::json& json, const std::string& where);
inline constexpr int kConfigDepth = 32;  // of brackets in a config.json's text
Config parse_config_text(std::string_view text, const std::string& where);

// The config.json that parse_config() reads back to the same. Keys are those that transformers 4 writes.
nlohmann::json config_json(const Config& config);

}  // namespace surtsey::experiments::hub
