// What a transformer is made of: one structure, every piece a switch.
//
// Keys are nanoGPT's where it has one (n_layer n_head n_embd block_size vocab_size dropout bias);
// they are the keys of config.json, of TOML files and of --key=value alike. A key is the member's name, those of
// WidthScaling too: they stand beside the others.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

enum class Architecture : uint8_t { decoder, encoder, encoder_decoder };
// relative: a learned bias on the scores by bucket of distance (Raffel et al. 2020), one table a stack
enum class Position : uint8_t { learned, sinusoidal, rotary, relative, none };
enum class Norm : uint8_t { layer_norm, rms_norm, none };
enum class NormPlacement : uint8_t { pre, post };
// softmax  softmax(mask(q k^T / sqrt(D))) v
// linear   mask(q k^T / block_size) v, masked scores 0 (graph::linear_attention)
enum class AttentionKind : uint8_t { softmax, linear };
// swiglu and geglu are gated: down(f(gate(x)) * up(x)) with f silu and the tanh form of gelu (Shazeer 2020).
enum class Activation : uint8_t { gelu, gelu_tanh, relu, swiglu, geglu };
// What stands on the last block.
//   language         logits over the vocabulary
//   masked_language  the same behind one more layer: norm(gelu(dense(x))), and with a bias (Devlin et al. 2019)
//   classify         logits over n_labels: a linear layer on tanh(dense(x of the first token)), of a decoder on x of
//                    the last token
//   pooled           that tanh, no logits
//   none             the activations themselves
enum class HeadKind : uint8_t { language, masked_language, classify, pooled, none };

// standard  nanoGPT: every matrix and embedding N(0, .02^2), residual outputs divided by sqrt(2L)
// recipe    of the chain experiments: embeddings N(0, .5^2), matrices N(0, 1/fan_in), residual outputs divided by
//           sqrt(2L), head N(0, 1/C)
// Biases start at 0 and gains at 1 in both. L counts the blocks of the stack.
enum class InitialisationScheme : uint8_t { standard, recipe };

// What a width-independent learning rate takes, see width_scaled().
struct WidthScaling {
  double attention_scale = 0;     // of scores; 0: what `attention` says
  double readout_multiplier = 1;  // of the logits
  double hidden_rate = 1;         // of the learning rate, of matrices that grow both ways
  bool zero_query = false;        // starts q.weight at 0 ..
  bool zero_readout = false;      // .. and head.weight (an untied head)

  bool operator==(const WidthScaling&) const = default;
};

// Rotary positions beyond the length that a model was trained at. The angle of pair i at position t is t f_i; `kind`
// says what becomes of f_i = base^(-2i/D), and what cosine and sine are multiplied with. As Hugging Face computes them
// (modeling_rope_utils): see rotary.h.
enum class RotaryKind : uint8_t { plain, linear, dynamic, yarn, longrope, llama3 };
struct RotaryScaling {
  RotaryKind kind = RotaryKind::plain;
  double factor = 1;
  int64_t original = 0;                          // positions of training; 0: block_size
  double low_frequency = 1, high_frequency = 4;  // llama3: low_freq_factor, high_freq_factor
  double beta_fast = 32, beta_slow = 1;          // yarn
  std::optional<double> attention_factor = {};   // yarn, longrope: of cosine and sine; absent: by the factor
  std::vector<double> short_factors = {}, long_factors = {};  // longrope: one a pair

  bool operator==(const RotaryScaling&) const = default;
};

struct ModelConfig {
  Architecture architecture = Architecture::decoder;
  int64_t n_layer = 4;                   // L; in an encoder_decoder, of each stack
  int64_t n_encoder_layer = 0;           // encoder_decoder: of the encoder; 0: n_layer
  int64_t n_head = 4;                    // H
  int64_t n_kv_head = 0;                 // K, grouped key/value heads; must divide H; 0: H
  int64_t n_embd = 128;                  // C
  std::optional<int64_t> head_dim = {};  // D, of queries, keys and values; absent: C / H
  int64_t n_hidden = 0;                  // of the MLP; 0: 4C, for swiglu 8C/3 rounded up to a multiple of 8
  int64_t block_size = 64;               // T at most
  int64_t source_size = 0;               // encoder_decoder: T at most of the source; 0: block_size
  int64_t vocab_size = 256;              // V; of a model that reads vectors, the numbers it puts out
  int64_t input_size = 0;                // 0: reads tokens; else vectors this wide, through a linear layer
  double dropout = 0;
  int64_t n_types = 0;   // kinds of tokens, each with an embedding (token types of BERT); 0: none
  int64_t n_labels = 0;  // of a head that classifies
  // Biases: `bias` is the default of the four others. norm_bias: of LayerNorm and RMSNorm.
  // attention_bias: of q, k, v. hidden_bias: of mlp.up and mlp.gate. output_bias: of attention.out,
  // cross.out and mlp.down; attention_output_bias: of the first two alone, where they differ. Of heads only
  // masked_language, and classify of an encoder, have one.
  bool bias = true;
  std::optional<bool> norm_bias = {};
  std::optional<bool> attention_bias = {};
  std::optional<bool> hidden_bias = {};
  std::optional<bool> output_bias = {};
  std::optional<bool> attention_output_bias = {};
  Position position = Position::learned;
  double rotary_base = 10000;
  RotaryScaling rotary_scaling = {};
  int64_t relative_buckets = 32;    // position = relative: rows of the table, half of them for each direction where ..
  int64_t relative_distance = 128;  // .. both are seen; distances from here on share the last
  Norm norm = Norm::layer_norm;
  double norm_epsilon = 1e-5;
  NormPlacement norm_placement = NormPlacement::pre;  // post has no norm after the last block
  bool embedding_norm = false;                        // a norm of its own after the embeddings
  Activation activation = Activation::gelu;           // gelu is the erf form
  bool mlp = true;                                    // false: blocks of attention alone
  bool tied = false;                                  // head.weight is embed.token (of the decoder)
  bool shared_embedding = false;                      // encoder_decoder: the encoder reads the decoder's embed.token
  bool qk_norm = false;                               // an RMSNorm over each head of q and of k, before they turn
  HeadKind head = HeadKind::language;
  AttentionKind attention = AttentionKind::softmax;
  int64_t window = 0;  // sliding-window self-attention; 0: the whole context
  InitialisationScheme initialisation = InitialisationScheme::standard;
  WidthScaling scaling = {};

  // The values that defaults of 0 stand for.
  int64_t kv_heads() const { return n_kv_head > 0 ? n_kv_head : n_head; }
  int64_t head_width() const { return head_dim.value_or(n_embd / n_head); }
  int64_t query_width() const { return n_head * head_width(); }  // of all heads; C where head_dim is absent
  int64_t hidden() const;
  int64_t encoder_layers() const { return n_encoder_layer > 0 ? n_encoder_layer : n_layer; }
  int64_t source_length() const { return source_size > 0 ? source_size : block_size; }
  bool has_norm_bias() const { return norm_bias.value_or(bias); }
  bool has_attention_bias() const { return attention_bias.value_or(bias); }
  bool has_hidden_bias() const { return hidden_bias.value_or(bias); }
  bool has_output_bias() const { return output_bias.value_or(bias); }
  bool has_attention_output_bias() const { return attention_output_bias.value_or(has_output_bias()); }
  bool is_gated() const { return activation == Activation::swiglu || activation == Activation::geglu; }
  bool has_logits() const { return head != HeadKind::pooled && head != HeadKind::none; }
  bool classifies_first() const { return head == HeadKind::classify && architecture == Architecture::encoder; }
  bool has_head_bias() const { return head == HeadKind::masked_language || classifies_first(); }
  bool has_pooler() const { return classifies_first() || head == HeadKind::pooled; }

  bool operator==(const ModelConfig&) const = default;
};

// UserError naming the key and what would be right.
void check_config(const ModelConfig& config);

nlohmann::json to_json(const ModelConfig& config);
std::string json_text(const ModelConfig& config);  // the same as one line
// Keys that are absent keep the values of `base`. UserError: unknown key (with a suggestion), wrong
// type, impossible value.
ModelConfig model_config_from_json(const nlohmann::json& json, const ModelConfig& base = {});
// The keys, for command lines that route --key=value.
std::vector<std::string> model_config_keys();

// The decoder of the chain experiments: pre-LayerNorm with gain only, learned positions, GELU, bias
// in the hidden layer alone, untied head, no dropout, heads 8 wide (two heads for d <= 16), recipe
// initialisation. Its parameter count is 2Vd + Td + L (12 d^2 + 6d) + d.
ModelConfig recipe_config(int64_t n_layer, int64_t n_embd, int64_t vocab_size, int64_t block_size);

// A decoder of these sizes, all else as in ModelConfig.
ModelConfig decoder_config(int64_t n_layer, int64_t n_embd, int64_t n_head, int64_t vocab_size, int64_t block_size);

// The maximal update parametrisation (Yang et al. 2022, "Tensor Programs V", for Adam): `config`
// made so that the best learning rate of `base` is its own. With m = n_embd / base.n_embd and D the
// width of a head:
//   scores        times sqrt(D of base) / D, not 1 / sqrt(D)
//   logits        divided by m
//   hidden rate   learning rate of q, k, v, out, up, gate and down divided by m, the growth of
//                 their fan-in
//   query, head   start at 0: at the start every width is the same function
// Deviations fall with the square root of the fan-in in the recipe's initialisation, as they must.
// A model scaled to its own width differs from `base` in what starts at 0 alone. UserError: a tied
// head, the standard initialisation, or a hidden layer that does not grow with n_embd.
ModelConfig width_scaled(ModelConfig config, const ModelConfig& base);

}  // namespace surtsey::experiments
