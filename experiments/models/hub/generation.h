// generation_config.json: how a model's makers would have it continue a text. Names and defaults are transformers'.
#pragma once

#include "experiments/models/hub/config.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::hub {

struct GenerationConfig {
  // Of lengths in tokens, the prompt included in max_length and min_length (of an encoder-decoder, the target's).
  std::optional<int64_t> max_new_tokens, min_new_tokens;
  int64_t max_length = 20;
  int64_t min_length = 0;
  bool do_sample = false;
  double temperature = 1;
  int64_t top_k = 50;  // 0: all
  double top_p = 1;
  std::optional<double> min_p;
  double typical_p = 1;
  double repetition_penalty = 1;
  int64_t no_repeat_ngram_size = 0;
  int64_t num_beams = 1;
  int64_t num_return_sequences = 1;
  double length_penalty = 1;
  // never: until no beam can get better, also by one that grows longer for ever.
  enum class EarlyStopping : uint8_t { off, on, never } early_stopping = EarlyStopping::off;
  SpecialTokens tokens;
  std::vector<std::string> stop_strings;
  std::optional<int64_t> forced_bos_token_id;
  std::vector<int64_t> forced_eos_token_id;
  std::vector<int64_t> suppress_tokens, begin_suppress_tokens;
  std::vector<std::vector<int64_t>> bad_words_ids;
  bool operator==(const GenerationConfig&) const = default;
};

// Keys that are not known are left alone (there are dozens for other models); those that would change what is
// generated and are not supported (contrastive search, groups of beams, assisted decoding, ..) are refused by name.
// `defaults`: tokens of config.json, which stand where this file has none. UserError beginning with `where`.
GenerationConfig parse_generation(const nlohmann::json& object, const std::string& where,
                                  const SpecialTokens& defaults);
GenerationConfig parse_generation_text(std::string_view text, const std::string& where, const SpecialTokens& defaults);

// The generation_config.json that reads back to the same; keys at their defaults are left out.
nlohmann::json generation_json(const GenerationConfig& generation);

}  // namespace surtsey::experiments::hub
