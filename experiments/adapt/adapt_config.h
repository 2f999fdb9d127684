// What a model is adapted by, as keys: PEFT's names where it has one.
#pragma once

#include "experiments/base/config.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace surtsey::experiments {

// adaptation.h says what each does.
enum class AdaptMethod : uint8_t { full, partial, lora, adapters, prefix, prompt, bitfit, ia3, head };
const char* name(AdaptMethod method);
AdaptMethod parse_adapt_method(std::string_view name);  // UserError lists the names

// A module is named by the end of its name ("q_proj", "mlp.c_proj", "h.0.attn.c_attn") or by a pattern with * and ? of
// its whole name; "all-linear": all but the head.
struct AdaptConfig {
  AdaptMethod method = AdaptMethod::lora;
  // What the base is kept in, as freeze_weights() has it: stored (as its file has it), f32, f16, bf16, q8_0, q4_0, ..
  // What trains of it is f32.
  std::string weights = "stored";
  // partial
  int64_t num_layers = 0;  // the last so many blocks, the last norm and an untied head; 0: `trainable` alone
  std::vector<std::string> trainable;  // our names of parameters, by pattern: "blocks.*.mlp.*", "norm.weight"
  // lora, ia3; empty: PEFT's choice for the family
  std::vector<std::string> target_modules;
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  bool use_dora = false;
  // Of modules whose name ends so, or that the expression fits behind a dot; the first that does counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> feedforward_modules;  // ia3: those of target_modules whose input is scaled
  // adapters
  std::string adapter_kind = "pfeiffer";  // houlsby, pfeiffer
  int64_t reduction_factor = 16;
  std::string non_linearity = "relu";  // relu, gelu, tanh, swish
  // prefix, prompt
  int64_t num_virtual_tokens = 20;
  std::string prompt_tuning_init = "RANDOM";  // N(0, 1); SAMPLE_VOCAB: embeddings of tokens drawn; TEXT: of a text
  std::string prompt_tuning_init_text;
  // The model's head of labels trains whole beside the method; with method head nothing else does. 0: it has none
  int64_t num_labels = 0;
  std::string problem_type;  // tasks/tuning/labels.h has them; empty: told from the rows, as transformers does

  // r of a module; and s for a rank: alpha / r, rsLoRA: alpha / sqrt(r).
  int64_t rank_of(std::string_view module) const;
  double scale_of(std::string_view module, int64_t rank) const;

  bool operator==(const AdaptConfig&) const = default;
};

// UserError by key: what cannot be, alone or together.
void check_adapt_config(const AdaptConfig& config);

// The keys of a run's configuration: those above, the method as a word, patterns as lists of NAME=NUMBER.
struct AdaptKeys {
  std::string method = "lora";
  std::vector<std::string> rank_pattern, alpha_pattern;
  AdaptConfig config;
};
void add_adapt_fields(ConfigTable& table, AdaptKeys& keys);
AdaptConfig adapt_config(const AdaptKeys& keys);  // UserError by key, as check_adapt_config()

// Whether a module's name is meant by one in a list of modules.
bool names_module(std::string_view asked, std::string_view module);
// Whether a key of rank_pattern or alpha_pattern is this module's: PEFT's rule, (.*\.)?(key)$.
bool pattern_names_module(std::string_view key, std::string_view module);
// Whether a whole name fits a pattern with * (any, dots too) and ? (one).
bool fits_pattern(std::string_view pattern, std::string_view name);

}  // namespace surtsey::experiments
