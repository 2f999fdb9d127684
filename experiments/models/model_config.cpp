#include "experiments/models/model_config.h"

#include <nlohmann/json.hpp>

#include "graph/error.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

namespace surtsey::experiments {
namespace {

using nlohmann::json;

// The words of each enumeration, in the order of its enumerators.
template <typename Enum>
struct EnumWords;
template <>
struct EnumWords<Architecture> {
  static constexpr std::array list = {"decoder", "encoder", "encoder_decoder"};
};
template <>
struct EnumWords<Position> {
  static constexpr std::array list = {"learned", "sinusoidal", "rotary", "relative", "none"};
};
template <>
struct EnumWords<Norm> {
  static constexpr std::array list = {"layer_norm", "rms_norm", "none"};
};
template <>
struct EnumWords<NormPlacement> {
  static constexpr std::array list = {"pre", "post"};
};
template <>
struct EnumWords<AttentionKind> {
  static constexpr std::array list = {"softmax", "linear"};
};
template <>
struct EnumWords<Activation> {
  static constexpr std::array list = {"gelu", "gelu_tanh", "relu", "swiglu", "geglu"};
};
template <>
struct EnumWords<HeadKind> {
  static constexpr std::array list = {"language", "masked_language", "classify", "pooled", "none"};
};
template <>
struct EnumWords<RotaryKind> {
  static constexpr std::array list = {"plain", "linear", "dynamic", "yarn", "longrope", "llama3"};
};
template <>
struct EnumWords<InitialisationScheme> {
  static constexpr std::array list = {"standard", "recipe"};
};

void read(const json& value, const char* key, int64_t& field) {
  check(value.is_number_integer(), "[config] {} wants an integer, not {}", key, value.dump());
  field = value.get<int64_t>();
}

void read(const json& value, const char* key, double& field) {
  check(value.is_number(), "[config] {} wants a number, not {}", key, value.dump());
  field = value.get<double>();
}

void read(const json& value, const char* key, bool& field) {
  check(value.is_boolean(), "[config] {} wants true or false, not {}", key, value.dump());
  field = value.get<bool>();
}

template <typename T>
void read(const json& value, const char* key, std::optional<T>& field) {
  if (value.is_null()) {
    field.reset();
    return;
  }
  T given = {};
  read(value, key, given);
  field = given;
}

template <typename Enum>
  requires std::is_enum_v<Enum>
void read(const json& value, const char* key, Enum& field) {
  const auto& words = EnumWords<Enum>::list;
  const std::string word = value.is_string() ? value.get<std::string>() : "";
  const auto found = std::find(words.begin(), words.end(), word);
  std::string all;
  for (const char* known : words) all += (all.empty() ? "" : ", ") + std::string(known);
  check(found != words.end(), "[config] {} is one of {}, not {}", key, all, value.dump());
  field = Enum(found - words.begin());
}

void read(const json& value, const char* key, std::vector<double>& field) {
  check(value.is_array() && value.size() <= 4096, "[config] {} wants a list of numbers, not {}", key, value.dump());
  field.clear();
  for (const json& one : value) read(one, key, field.emplace_back());
}

template <typename Scaling, typename Visit>
void visit_scaling(Scaling& scaling, Visit&& visit) {
  visit("kind", scaling.kind);
  visit("factor", scaling.factor);
  visit("original", scaling.original);
  visit("low_frequency", scaling.low_frequency);
  visit("high_frequency", scaling.high_frequency);
  visit("beta_fast", scaling.beta_fast);
  visit("beta_slow", scaling.beta_slow);
  visit("attention_factor", scaling.attention_factor);
  visit("short_factors", scaling.short_factors);
  visit("long_factors", scaling.long_factors);
}

void read(const json& value, const char* key, RotaryScaling& field) {
  check(value.is_object(), "[config] {} wants a table (kind, factor, ..), not {}", key, value.dump());
  RotaryScaling scaling;
  size_t known = 0;
  visit_scaling(scaling, [&](const char* name, auto& part) {
    if (!value.contains(name)) return;
    ++known;
    read(value.at(name), fmt::format("{}.{}", key, name).c_str(), part);
  });
  check(known == value.size(), "[config] {} has a key that it does not know: {}", key, value.dump());
  field = std::move(scaling);
}

template <typename T>
json write(const T& field) {
  if constexpr (std::is_enum_v<T>) {
    return EnumWords<T>::list[size_t(field)];
  } else {
    return field;
  }
}
template <typename T>
json write(const std::optional<T>& field) {
  return field ? json(*field) : json();
}
json write(const RotaryScaling& field) {
  if (field == RotaryScaling{}) return {};
  json result = json::object();
  visit_scaling(field, [&](const char* key, const auto& part) {
    json value = write(part);
    if (!value.is_null()) result[key] = std::move(value);
  });
  return result;
}

// Every key once: reading, writing and listing all come here.
template <typename Config, typename Visit>
void visit_keys(Config& config, Visit&& visit) {
  visit("architecture", config.architecture);
  visit("n_layer", config.n_layer);
  visit("n_encoder_layer", config.n_encoder_layer);
  visit("n_head", config.n_head);
  visit("n_kv_head", config.n_kv_head);
  visit("n_embd", config.n_embd);
  visit("head_dim", config.head_dim);
  visit("n_hidden", config.n_hidden);
  visit("block_size", config.block_size);
  visit("source_size", config.source_size);
  visit("vocab_size", config.vocab_size);
  visit("input_size", config.input_size);
  visit("n_types", config.n_types);
  visit("n_labels", config.n_labels);
  visit("dropout", config.dropout);
  visit("bias", config.bias);
  visit("norm_bias", config.norm_bias);
  visit("attention_bias", config.attention_bias);
  visit("hidden_bias", config.hidden_bias);
  visit("output_bias", config.output_bias);
  visit("attention_output_bias", config.attention_output_bias);
  visit("position", config.position);
  visit("rotary_base", config.rotary_base);
  visit("rotary_scaling", config.rotary_scaling);
  visit("relative_buckets", config.relative_buckets);
  visit("relative_distance", config.relative_distance);
  visit("norm", config.norm);
  visit("norm_epsilon", config.norm_epsilon);
  visit("norm_placement", config.norm_placement);
  visit("embedding_norm", config.embedding_norm);
  visit("activation", config.activation);
  visit("mlp", config.mlp);
  visit("tied", config.tied);
  visit("shared_embedding", config.shared_embedding);
  visit("qk_norm", config.qk_norm);
  visit("head", config.head);
  visit("attention", config.attention);
  visit("window", config.window);
  visit("initialisation", config.initialisation);
  visit("attention_scale", config.scaling.attention_scale);
  visit("readout_multiplier", config.scaling.readout_multiplier);
  visit("hidden_rate", config.scaling.hidden_rate);
  visit("zero_query", config.scaling.zero_query);
  visit("zero_readout", config.scaling.zero_readout);
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

int64_t ModelConfig::hidden() const {
  if (n_hidden > 0) return n_hidden;
  if (!is_gated()) return 4 * n_embd;
  return (8 * n_embd / 3 + 7) / 8 * 8;
}

namespace {

// Nothing is built of a size that no machine has room for.
void check_sizes(const ModelConfig& config) {
  const auto at_most = [](const char* key, int64_t value, int64_t most) {
    check(value <= most, "[config] {} is {}, it must be at most {}", key, value, most);
  };
  at_most("n_layer", config.n_layer, 1000);
  at_most("n_encoder_layer", config.n_encoder_layer, 1000);
  at_most("n_head", config.n_head, 65536);
  at_most("n_kv_head", config.n_kv_head, 65536);
  at_most("n_embd", config.n_embd, 65536);
  at_most("n_hidden", config.n_hidden, 1 << 20);
  at_most("block_size", config.block_size, 1 << 20);
  at_most("source_size", config.source_size, 1 << 20);
  at_most("window", config.window, 1 << 20);
  at_most("vocab_size", config.vocab_size, 1 << 24);
  at_most("input_size", config.input_size, 1 << 20);
  at_most("n_types", config.n_types, 1 << 16);
  at_most("n_labels", config.n_labels, 1 << 20);
  at_most("relative_buckets", config.relative_buckets, 1 << 16);
  at_most("relative_distance", config.relative_distance, 1 << 20);
  at_most("rotary_scaling.original", config.rotary_scaling.original, 1 << 24);
  const auto finite = [](const char* key, double value) {
    check(std::abs(value) <= 1e30, "[config] {} is {}, it must be a number of at most 1e30", key, value);
  };
  finite("rotary_base", config.rotary_base);
  finite("norm_epsilon", config.norm_epsilon);
}

void check_rotary_scaling(const ModelConfig& config) {
  const RotaryScaling& scaling = config.rotary_scaling;
  if (scaling.kind == RotaryKind::plain) return;
  check(config.position == Position::rotary, "[config] rotary_scaling wants position = rotary");
  check(scaling.factor >= 1 && scaling.factor <= 1e6,
        "[config] rotary_scaling.factor is {}, it must be between 1 and 1e6", scaling.factor);
  check(scaling.original >= 0, "[config] rotary_scaling.original is {}, it must not be negative", scaling.original);
  check(scaling.kind != RotaryKind::llama3 || scaling.low_frequency < scaling.high_frequency,
        "[config] rotary_scaling: low_frequency {} must be below high_frequency {}", scaling.low_frequency,
        scaling.high_frequency);
  check(scaling.kind != RotaryKind::yarn || scaling.beta_slow < scaling.beta_fast,
        "[config] rotary_scaling: beta_slow {} must be below beta_fast {}", scaling.beta_slow, scaling.beta_fast);
  if (scaling.kind != RotaryKind::longrope) return;
  const auto pairs = size_t(config.head_width() / 2);
  check(scaling.short_factors.size() == pairs && scaling.long_factors.size() == pairs,
        "[config] rotary_scaling: longrope wants {} short_factors and {} long_factors, half a head, not {} and {}",
        pairs, pairs, scaling.short_factors.size(), scaling.long_factors.size());
  for (const auto& list : {scaling.short_factors, scaling.long_factors}) {
    for (const double factor : list) {
      check(factor > 0 && factor <= 1e6, "[config] rotary_scaling has a factor of {}, it must be positive", factor);
    }
  }
}

void check_heads(const ModelConfig& config) {
  check(config.head != HeadKind::classify || config.n_labels > 0,
        "[config] a head that classifies wants n_labels, the number of classes");
  check(config.head != HeadKind::classify || config.architecture != Architecture::encoder_decoder,
        "[config] a head that classifies wants one stack, an encoder or a decoder");
  check(!config.tied || config.head == HeadKind::language || config.head == HeadKind::masked_language,
        "[config] only a head over the vocabulary can be tied");
  check(!config.has_pooler() || config.architecture == Architecture::encoder,
        "[config] a head on the first token wants an encoder");
  check(!config.shared_embedding || config.architecture == Architecture::encoder_decoder,
        "[config] shared_embedding is of an encoder_decoder");
  check(config.position != Position::relative || config.relative_buckets >= 4,
        "[config] relative_buckets is {}, it must be at least 4", config.relative_buckets);
  check(config.position != Position::relative || config.relative_distance > config.relative_buckets / 2,
        "[config] relative_distance is {}, it must be above half of relative_buckets", config.relative_distance);
}

}  // namespace

void check_config(const ModelConfig& config) {
  check_sizes(config);
  const auto positive = [](const char* key, int64_t value) {
    check(value > 0, "[config] {} is {}, it must be at least 1", key, value);
  };
  positive("n_layer", config.n_layer);
  positive("n_head", config.n_head);
  positive("n_embd", config.n_embd);
  positive("block_size", config.block_size);
  positive("vocab_size", config.vocab_size);
  const auto not_negative = [](const char* key, int64_t value) {
    check(value >= 0, "[config] {} is {}, it must not be negative", key, value);
  };
  not_negative("n_encoder_layer", config.n_encoder_layer);
  not_negative("n_kv_head", config.n_kv_head);
  not_negative("n_hidden", config.n_hidden);
  not_negative("source_size", config.source_size);
  not_negative("window", config.window);
  not_negative("input_size", config.input_size);
  not_negative("n_types", config.n_types);
  not_negative("n_labels", config.n_labels);
  check_rotary_scaling(config);
  check_heads(config);
  check(config.input_size == 0 || !config.tied,
        "[config] a model that reads vectors (input_size {}) has no embedding to tie its head to", config.input_size);
  check(config.input_size == 0 || config.architecture != Architecture::encoder_decoder,
        "[config] an encoder_decoder reads tokens, input_size is {}", config.input_size);
  if (config.head_dim) positive("head_dim", *config.head_dim);
  check(config.head_dim || config.n_embd % config.n_head == 0,
        "[config] n_head {} does not divide n_embd {}: give head_dim", config.n_head, config.n_embd);
  check(config.n_head % config.kv_heads() == 0, "[config] n_kv_head {} does not divide n_head {}", config.n_kv_head,
        config.n_head);
  check(config.dropout >= 0 && config.dropout < 1, "[config] dropout is {}, it must be in [0, 1)", config.dropout);
  check(config.norm_epsilon > 0, "[config] norm_epsilon is {}, it must be positive", config.norm_epsilon);
  check(config.position != Position::rotary || config.head_width() % 2 == 0,
        "[config] rotary positions want an even head width (head_dim, or n_embd / n_head), not {}",
        config.head_width());
  check(config.scaling.attention_scale >= 0 && std::isfinite(config.scaling.attention_scale),
        "[config] attention_scale is {}, it must not be negative", config.scaling.attention_scale);
  check(config.scaling.readout_multiplier > 0 && std::isfinite(config.scaling.readout_multiplier),
        "[config] readout_multiplier is {}, it must be positive", config.scaling.readout_multiplier);
  check(config.scaling.hidden_rate >= 0 && std::isfinite(config.scaling.hidden_rate),
        "[config] hidden_rate is {}, it must not be negative", config.scaling.hidden_rate);
  check(!config.scaling.zero_readout || !config.tied,
        "[config] zero_readout wants a head of its own: a tied one is the embedding");
  check(config.position != Position::rotary || config.rotary_base > 1, "[config] rotary_base is {}, it must be above 1",
        config.rotary_base);
}

json to_json(const ModelConfig& config) {
  json result = json::object();
  visit_keys(config, [&](const char* key, const auto& field) {
    json value = write(field);
    if (!value.is_null()) result[key] = std::move(value);
  });
  return result;
}

std::string json_text(const ModelConfig& config) { return to_json(config).dump(); }

ModelConfig model_config_from_json(const json& source, const ModelConfig& base) {
  check(source.is_object(), "[config] the model's configuration is not an object: {}", source.dump());
  ModelConfig config = base;
  const std::vector<std::string> keys = model_config_keys();
  for (const auto& [key, value] : source.items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    const std::string& nearest = *std::min_element(keys.begin(), keys.end(), [&](const auto& a, const auto& b) {
      return edit_distance(key, a) < edit_distance(key, b);
    });
    check(false, "[config] unknown key {}; did you mean {}?", key, nearest);
  }
  visit_keys(config, [&](const char* key, auto& field) {
    if (source.contains(key)) read(source.at(key), key, field);
  });
  check_config(config);
  return config;
}

std::vector<std::string> model_config_keys() {
  std::vector<std::string> keys;
  const ModelConfig config;
  visit_keys(config, [&](const char* key, const auto&) { keys.emplace_back(key); });
  return keys;
}

ModelConfig decoder_config(int64_t n_layer, int64_t n_embd, int64_t n_head, int64_t vocab_size, int64_t block_size) {
  ModelConfig config;
  config.n_layer = n_layer;
  config.n_embd = n_embd;
  config.n_head = n_head;
  config.vocab_size = vocab_size;
  config.block_size = block_size;
  return config;
}

ModelConfig recipe_config(int64_t n_layer, int64_t n_embd, int64_t vocab_size, int64_t block_size) {
  ModelConfig config = decoder_config(n_layer, n_embd, n_embd <= 16 ? 2 : n_embd / 8, vocab_size, block_size);
  config.bias = false;
  config.hidden_bias = true;
  config.initialisation = InitialisationScheme::recipe;
  check_config(config);
  return config;
}

ModelConfig width_scaled(ModelConfig config, const ModelConfig& base) {
  check(!config.tied, "[config] widths are scaled with an untied head");
  check(config.initialisation == InitialisationScheme::recipe,
        "[config] widths are scaled with the initialisation recipe: deviations must follow fan-ins");
  check(config.hidden() * base.n_embd == base.hidden() * config.n_embd,
        "[config] the hidden layer is {} wide for n_embd {}, and {} for {}: widths are scaled alike", config.hidden(),
        config.n_embd, base.hidden(), base.n_embd);
  const double growth = double(config.n_embd) / double(base.n_embd);
  config.scaling.attention_scale = std::sqrt(double(base.head_width())) / double(config.head_width());
  config.scaling.readout_multiplier = 1 / growth;
  config.scaling.hidden_rate = 1 / growth;
  config.scaling.zero_query = true;
  config.scaling.zero_readout = true;
  check_config(config);
  return config;
}

}  // namespace surtsey::experiments
