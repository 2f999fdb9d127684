#include "experiments/models/hub/generation.h"

#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/fields.h"

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;
using EarlyStopping = GenerationConfig::EarlyStopping;

constexpr int kDepth = 16;
constexpr int64_t kMostGenerated = int64_t(1) << 30;
constexpr int64_t kMostBeams = 4096;

std::optional<int64_t> optional_integer(const Fields& fields, const char* key, int64_t least, int64_t most) {
  if (!fields.has(key)) return std::nullopt;
  return fields.integer(key, 0, least, most);
}

std::optional<int64_t> one_token(const Fields& fields, const char* key) {
  const json* value = fields.find(key);
  if (value == nullptr || *value == -1) return std::nullopt;
  return token_element(fields, key, *value);
}

EarlyStopping parse_early_stopping(const Fields& fields) {
  const json* value = fields.find("early_stopping");
  if (value == nullptr || *value == false) return EarlyStopping::off;
  if (*value == true) return EarlyStopping::on;
  check(*value == "never", "{}: early_stopping is true, false or \"never\", not {}", fields.where(),
        Fields::shown(*value));
  return EarlyStopping::never;
}

std::vector<int64_t> word_element(const Fields& fields, std::string_view key, const json& value) {
  check(value.is_array() && !value.empty(), "{}: {} has {}, which is no list of tokens", fields.where(), key,
        Fields::shown(value));
  std::vector<int64_t> word;
  for (const json& token : value) word.push_back(token_element(fields, key, token));
  return word;
}

// Where a key has another value than the one that does nothing.
void refuse_unsupported(const Fields& fields) {
  const std::pair<const char*, json> neutral[] = {{"penalty_alpha", 0.0},
                                                  {"num_beam_groups", 1},
                                                  {"diversity_penalty", 0.0},
                                                  {"encoder_repetition_penalty", 1.0},
                                                  {"encoder_no_repeat_ngram_size", 0},
                                                  {"epsilon_cutoff", 0.0},
                                                  {"eta_cutoff", 0.0},
                                                  {"guidance_scale", 1.0},
                                                  {"dola_layers", nullptr},
                                                  {"constraints", nullptr},
                                                  {"force_words_ids", nullptr},
                                                  {"sequence_bias", nullptr},
                                                  {"exponential_decay_length_penalty", nullptr},
                                                  {"watermarking_config", nullptr},
                                                  {"prompt_lookup_num_tokens", nullptr}};
  for (const auto& [key, value] : neutral) {
    const json* found = fields.find(key);
    check(found == nullptr || *found == value, "{}: {} {} is not supported", fields.where(), key,
          found == nullptr ? "" : Fields::shown(*found));
  }
}

}  // namespace

GenerationConfig parse_generation(const json& object, const std::string& where, const SpecialTokens& defaults) {
  check(object.is_object(), "{} is not a JSON object", where);
  const Fields fields(object, where);
  refuse_unsupported(fields);
  GenerationConfig g;
  g.max_new_tokens = optional_integer(fields, "max_new_tokens", 1, kMostGenerated);
  g.min_new_tokens = optional_integer(fields, "min_new_tokens", 0, kMostGenerated);
  g.max_length = fields.integer("max_length", g.max_length, 0, kMostGenerated);
  g.min_length = fields.integer("min_length", g.min_length, 0, kMostGenerated);
  g.do_sample = fields.flag("do_sample", g.do_sample);
  g.temperature = fields.number("temperature", g.temperature, 0, 1e6);
  g.top_k = fields.integer("top_k", g.top_k, 0, kMostGenerated);
  g.top_p = fields.number("top_p", g.top_p, 0, 1);
  g.min_p = fields.optional_number("min_p", 0, 1);
  g.typical_p = fields.number("typical_p", g.typical_p, 0, 1);
  g.repetition_penalty = fields.number("repetition_penalty", g.repetition_penalty, 1e-6, 1e6);
  g.no_repeat_ngram_size = fields.integer("no_repeat_ngram_size", g.no_repeat_ngram_size, 0, kMostGenerated);
  g.num_beams = fields.integer("num_beams", g.num_beams, 1, kMostBeams);
  g.num_return_sequences = fields.integer("num_return_sequences", g.num_return_sequences, 1, kMostBeams);
  g.length_penalty = fields.number("length_penalty", g.length_penalty, -1e6, 1e6);
  g.early_stopping = parse_early_stopping(fields);
  g.tokens = defaults;
  if (const auto token = one_token(fields, "bos_token_id")) g.tokens.bos = *token;
  if (const auto token = one_token(fields, "pad_token_id")) g.tokens.pad = *token;
  if (const auto token = one_token(fields, "decoder_start_token_id")) g.tokens.decoder_start = *token;
  const json* eos = fields.find("eos_token_id");
  if (eos != nullptr && *eos != -1) g.tokens.eos = fields.list("eos_token_id", token_element);
  g.stop_strings = fields.list("stop_strings", text_element);
  g.forced_bos_token_id = one_token(fields, "forced_bos_token_id");
  g.forced_eos_token_id = fields.list("forced_eos_token_id", token_element);
  g.suppress_tokens = fields.list("suppress_tokens", token_element);
  g.begin_suppress_tokens = fields.list("begin_suppress_tokens", token_element);
  g.bad_words_ids = fields.list("bad_words_ids", word_element);
  return g;
}

GenerationConfig parse_generation_text(std::string_view text, const std::string& where, const SpecialTokens& defaults) {
  return parse_generation(parse_strict_json(text, where, kDepth), where, defaults);
}

json generation_json(const GenerationConfig& g) {
  const GenerationConfig plain;
  json object = json::object();
  const auto add = [&](const char* key, const auto& value, const auto& fallback) {
    if (value != fallback) object[key] = value;
  };
  const auto add_optional = [&](const char* key, const auto& value) {
    if (value) object[key] = *value;
  };
  add_optional("max_new_tokens", g.max_new_tokens);
  add_optional("min_new_tokens", g.min_new_tokens);
  add("max_length", g.max_length, plain.max_length);
  add("min_length", g.min_length, plain.min_length);
  add("do_sample", g.do_sample, plain.do_sample);
  add("temperature", g.temperature, plain.temperature);
  add("top_k", g.top_k, plain.top_k);
  add("top_p", g.top_p, plain.top_p);
  add_optional("min_p", g.min_p);
  add("typical_p", g.typical_p, plain.typical_p);
  add("repetition_penalty", g.repetition_penalty, plain.repetition_penalty);
  add("no_repeat_ngram_size", g.no_repeat_ngram_size, plain.no_repeat_ngram_size);
  add("num_beams", g.num_beams, plain.num_beams);
  add("num_return_sequences", g.num_return_sequences, plain.num_return_sequences);
  add("length_penalty", g.length_penalty, plain.length_penalty);
  if (g.early_stopping == EarlyStopping::on) object["early_stopping"] = true;
  if (g.early_stopping == EarlyStopping::never) object["early_stopping"] = "never";
  add("bos_token_id", g.tokens.bos, -1);
  add("pad_token_id", g.tokens.pad, -1);
  add("decoder_start_token_id", g.tokens.decoder_start, -1);
  if (g.tokens.eos.size() == 1) object["eos_token_id"] = g.tokens.eos[0];
  if (g.tokens.eos.size() > 1) object["eos_token_id"] = g.tokens.eos;
  add("stop_strings", g.stop_strings, plain.stop_strings);
  add_optional("forced_bos_token_id", g.forced_bos_token_id);
  add("forced_eos_token_id", g.forced_eos_token_id, plain.forced_eos_token_id);
  add("suppress_tokens", g.suppress_tokens, plain.suppress_tokens);
  add("begin_suppress_tokens", g.begin_suppress_tokens, plain.begin_suppress_tokens);
  add("bad_words_ids", g.bad_words_ids, plain.bad_words_ids);
  return object;
}

}  // namespace surtsey::experiments::hub
