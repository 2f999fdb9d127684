#include "experiments/models/hub/config.h"

#include "experiments/base/join.h"
#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/fields.h"
#include "experiments/models/hub/rope.h"

#include <algorithm>
#include <map>

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;

constexpr int64_t kMostLayers = 1000;
constexpr int64_t kMostConfigWidth = int64_t(1) << 20;
constexpr int64_t kMostVocabulary = int64_t(1) << 24;

int64_t layers(const Fields& fields, const char* key, int64_t fallback) {
  return fields.integer(key, fallback, 1, kMostLayers);
}
int64_t width(const Fields& fields, const char* key, int64_t fallback) {
  return fields.integer(key, fallback, 1, kMostConfigWidth);
}
int64_t tokens(const Fields& fields, const char* key, int64_t fallback) {
  return fields.integer(key, fallback, 1, kMostVocabulary);
}
double epsilon(const Fields& fields, const char* key, double fallback) { return fields.number(key, fallback, 0, 1); }

// A switch that would change the results, and is only understood where it is off.
void refuse_where_set(const Fields& fields, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const json* value = fields.find(key);
    const bool off = value == nullptr || *value == false || (value->is_number() && *value == 0) ||
                     (value->is_structured() && value->empty());
    check(off, "{}: {} {} is not supported", fields.where(), key, off ? "" : Fields::shown(*value));
  }
}

struct ActivationName {
  const char* name;
  Activation activation;
};
constexpr ActivationName kActivations[] = {
    {"gelu", Activation::gelu},           {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh}, {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"relu", Activation::relu},           {"silu", Activation::silu},
    {"swish", Activation::silu},
};

Activation activation(const std::string& word, const std::string& where, std::initializer_list<Activation> supported) {
  std::vector<std::string> names;
  for (const ActivationName& row : kActivations) {
    if (std::find(supported.begin(), supported.end(), row.activation) == supported.end()) continue;
    if (word == row.name) return row.activation;
    names.emplace_back(row.name);
  }
  throw UserError(
      fmt::format("{}: the activation '{}' is not supported; there are {}", where, word, join(names, ", ")));
}

constexpr std::initializer_list<Activation> kAnyActivation = {Activation::gelu, Activation::gelu_tanh, Activation::relu,
                                                              Activation::silu};

// What stands after the name of a model in "architectures", for each model_type.
struct HeadName {
  const char* suffix;
  Head head;
};
struct ModelTypeRow {
  const char* model_type;
  const char* class_name;
  Family family;
  std::vector<HeadName> heads;  // the first one where the file names none
  bool tied;                    // where the file does not say
  int64_t vocabulary;
  SpecialTokens tokens;
};

const std::vector<ModelTypeRow>& type_rows() {
  static const std::vector<HeadName> causal = {{"ForCausalLM", Head::language_model},
                                               {"Model", Head::none},
                                               {"ForSequenceClassification", Head::classification}};
  static const std::vector<ModelTypeRow> rows = {
      {"gpt2",
       "GPT2",
       Family::gpt2,
       {{"LMHeadModel", Head::language_model},
        {"Model", Head::none},
        {"ForSequenceClassification", Head::classification}},
       true,
       50257,
       {50256, {50256}, -1, -1}},
      {"llama", "Llama", Family::llama, causal, false, 32000, {1, {2}, -1, -1}},
      {"mistral", "Mistral", Family::llama, causal, false, 32000, {1, {2}, -1, -1}},
      {"qwen2", "Qwen2", Family::llama, causal, false, 151936, {}},
      {"qwen3", "Qwen3", Family::llama, causal, false, 151936, {}},
      {"bert",
       "Bert",
       Family::bert,
       {{"Model", Head::none},
        {"ForMaskedLM", Head::language_model},
        {"ForSequenceClassification", Head::classification},
        {"ForTokenClassification", Head::token_classification},
        {"ForPreTraining", Head::pretraining},
        {"ForNextSentencePrediction", Head::next_sentence}},
       true,
       30522,
       {-1, {}, 0, -1}},
      {"t5",
       "T5",
       Family::t5,
       {{"ForConditionalGeneration", Head::language_model},
        {"WithLMHeadModel", Head::language_model},
        {"Model", Head::none}},
       true,
       32128,
       {-1, {1}, 0, 0}},
  };
  return rows;
}

const ModelTypeRow& type_row(const Fields& fields) {
  const std::string word = fields.word("model_type", "");
  std::vector<std::string> names;
  for (const ModelTypeRow& row : type_rows()) {
    if (word == row.model_type) return row;
    names.emplace_back(row.model_type);
  }
  check(!word.empty(), "{}: model_type is missing; there are {}", fields.where(), join(names, ", "));
  throw UserError(
      fmt::format("{}: model_type '{}' is not supported; there are {}", fields.where(), word, join(names, ", ")));
}

Head parse_head(const Fields& fields, const ModelTypeRow& row, std::string& architecture) {
  const std::vector<std::string> architectures = fields.list("architectures", text_element);
  if (architectures.empty()) return row.heads.front().head;
  architecture = architectures.front();
  std::vector<std::string> names;
  for (const HeadName& head : row.heads) {
    names.push_back(std::string(row.class_name) + head.suffix);
    if (architecture == names.back()) return head.head;
  }
  throw UserError(fmt::format("{}: the architecture '{}' is not supported; there are {}", fields.where(), architecture,
                              join(names, ", ")));
}

void parse_labels(const Fields& fields, Config& config) {
  if (config.head != Head::classification && config.head != Head::token_classification) return;
  const json* names = fields.find("id2label");
  config.labels = fields.integer("num_labels", 2, 1, kMostConfigWidth);
  config.problem_type = fields.word("problem_type", "");
  if (names == nullptr) return;
  check(names->is_object() && !names->empty(), "{}: id2label is no object of names", fields.where());
  config.labels = int64_t(names->size());
  for (int64_t i = 0; i < config.labels; ++i) {
    const auto found = names->find(std::to_string(i));
    check(found != names->end() && found->is_string(), "{}: id2label has {} names and none for {}", fields.where(),
          config.labels, i);
    config.label_names.push_back(found->get<std::string>());
  }
}

int64_t token(const Fields& fields, const char* key, int64_t fallback) {
  // -1 stands for none in some files; of several the first is meant.
  const json* value = fields.find(key);
  // A null says that there is none, where a key that is absent leaves the type's own.
  if (value == nullptr) return fields.absent(key) ? fallback : -1;
  if (*value == -1) return -1;
  const std::vector<int64_t> indices = fields.list(key, token_element);
  return indices.empty() ? -1 : indices.front();
}

SpecialTokens parse_tokens(const Fields& fields, const SpecialTokens& fallback) {
  SpecialTokens special;
  special.bos = token(fields, "bos_token_id", fallback.bos);
  special.pad = token(fields, "pad_token_id", fallback.pad);
  special.decoder_start = token(fields, "decoder_start_token_id", fallback.decoder_start);
  const json* eos = fields.find("eos_token_id");
  if (eos == nullptr) {
    if (fields.absent("eos_token_id")) special.eos = fallback.eos;
  } else if (*eos != -1) {
    special.eos = fields.list("eos_token_id", token_element);
  }
  return special;
}

Gpt2Config parse_gpt2(const Fields& fields) {
  Gpt2Config model;
  refuse_where_set(fields, {"add_cross_attention"});
  model.layers = layers(fields, "n_layer", model.layers);
  model.heads = width(fields, "n_head", model.heads);
  model.width = width(fields, "n_embd", model.width);
  model.hidden = width(fields, "n_inner", 4 * model.width);
  model.positions = tokens(fields, "n_positions", model.positions);
  model.norm_epsilon = epsilon(fields, "layer_norm_epsilon", model.norm_epsilon);
  model.activation = activation(fields.word("activation_function", "gelu_new"), fields.where(), kAnyActivation);
  model.scale_scores = fields.flag("scale_attn_weights", true);
  model.scale_scores_by_layer = fields.flag("scale_attn_by_inverse_layer_idx", false);
  check(model.width % model.heads == 0, "{}: n_embd {} does not divide into n_head {}", fields.where(), model.width,
        model.heads);
  return model;
}

// Where layer_types says nothing, mistral has its window in every layer, and qwen2 and qwen3 from a layer on.
std::vector<int64_t> parse_windows(const Fields& fields, const LlamaConfig& model) {
  std::vector<int64_t> windows(size_t(model.layers), 0);
  const bool always = model.model_type == "mistral";
  if (model.model_type == "llama" || (!always && !fields.flag("use_sliding_window", false))) return windows;
  // Mistral's own default has a window; null has none.
  const int64_t fallback = fields.absent("sliding_window") ? 4096 : 0;
  const int64_t window = fields.integer("sliding_window", fallback, 1, INT64_MAX);
  const int64_t first = always ? 0 : fields.integer("max_window_layers", 28, 0, INT64_MAX);
  for (int64_t i = first; i < model.layers; ++i) windows[size_t(i)] = window;
  return windows;
}

void check_layer_types(const Fields& fields, const LlamaConfig& model) {
  const std::vector<std::string> types = fields.list("layer_types", text_element);
  if (types.empty()) return;
  check(int64_t(types.size()) == model.layers, "{}: layer_types has {} entries for {} layers", fields.where(),
        types.size(), model.layers);
  for (size_t i = 0; i < types.size(); ++i) {
    const char* expected = model.windows[i] > 0 ? "sliding_attention" : "full_attention";
    check(types[i] == expected,
          "{}: layer_types says {} of layer {}, where sliding_window and max_window_layers make {}", fields.where(),
          types[i], i, expected);
  }
}

LlamaConfig parse_llama(const Fields& fields, const std::string& model_type) {
  LlamaConfig model;
  model.model_type = model_type;
  const bool mistral = model_type == "mistral", qwen2 = model_type == "qwen2", qwen3 = model_type == "qwen3";
  refuse_where_set(fields, {"rope_interleaved", "is_encoder_decoder", "use_mrope", "num_experts", "num_local_experts"});
  check(fields.number("partial_rotary_factor", 1, 0, 1) == 1, "{}: partial_rotary_factor {} is not supported",
        fields.where(), fields.number("partial_rotary_factor", 1, 0, 1));
  activation(fields.word("hidden_act", "silu"), fields.where(), {Activation::silu});
  model.layers = layers(fields, "num_hidden_layers", 32);
  model.heads = width(fields, "num_attention_heads", 32);
  // An explicit null means as many as there are heads, in all of them.
  const int64_t heads_of_type = model_type == "llama" ? model.heads : mistral ? 8 : 32;
  const bool absent = fields.absent("num_key_value_heads");
  model.kv_heads = width(fields, "num_key_value_heads", absent ? heads_of_type : model.heads);
  model.width = width(fields, "hidden_size", 4096);
  model.hidden = width(fields, "intermediate_size", mistral ? 14336 : qwen2 || qwen3 ? 22016 : 11008);
  model.positions = tokens(fields, "max_position_embeddings", mistral ? 131072 : qwen2 || qwen3 ? 32768 : 2048);
  model.original_positions = fields.integer("original_max_position_embeddings", 0, 1, kMostVocabulary);
  model.norm_epsilon = epsilon(fields, "rms_norm_eps", model.norm_epsilon);
  check(model.heads % model.kv_heads == 0, "{}: num_attention_heads {} does not divide into num_key_value_heads {}",
        fields.where(), model.heads, model.kv_heads);
  const bool own_dim = fields.has("head_dim") || (qwen3 && fields.absent("head_dim"));
  check(own_dim || model.width % model.heads == 0, "{}: hidden_size {} does not divide into num_attention_heads {}",
        fields.where(), model.width, model.heads);
  model.head_dim = width(fields, "head_dim", own_dim ? 128 : model.width / model.heads);
  check(model.head_dim % 2 == 0, "{}: a head is {} wide; rotary positions turn pairs", fields.where(), model.head_dim);
  model.rope = parse_rope(fields, model.head_dim);

  const bool attention_bias = !mistral && fields.flag("attention_bias", false);
  model.query_key_value_bias = qwen2 || attention_bias;
  model.output_bias = !qwen2 && attention_bias;
  model.mlp_bias = model_type == "llama" && fields.flag("mlp_bias", false);
  model.query_key_norm = qwen3;
  model.windows = parse_windows(fields, model);
  check_layer_types(fields, model);
  return model;
}

BertConfig parse_bert(const Fields& fields) {
  BertConfig model;
  refuse_where_set(fields, {"is_decoder", "add_cross_attention"});
  const std::string positions = fields.word("position_embedding_type", "absolute");
  check(positions == "absolute", "{}: position_embedding_type '{}' is not supported; there is absolute", fields.where(),
        positions);
  model.layers = layers(fields, "num_hidden_layers", model.layers);
  model.heads = width(fields, "num_attention_heads", model.heads);
  model.width = width(fields, "hidden_size", model.width);
  model.hidden = width(fields, "intermediate_size", model.hidden);
  model.positions = tokens(fields, "max_position_embeddings", model.positions);
  model.token_types = width(fields, "type_vocab_size", model.token_types);
  model.norm_epsilon = epsilon(fields, "layer_norm_eps", model.norm_epsilon);
  model.activation = activation(fields.word("hidden_act", "gelu"), fields.where(), kAnyActivation);
  check(model.width % model.heads == 0, "{}: hidden_size {} does not divide into num_attention_heads {}",
        fields.where(), model.width, model.heads);
  return model;
}

T5Config parse_t5(const Fields& fields, bool tied) {
  T5Config model;
  model.layers = layers(fields, "num_layers", model.layers);
  model.decoder_layers = layers(fields, "num_decoder_layers", model.layers);
  model.heads = width(fields, "num_heads", model.heads);
  model.head_dim = width(fields, "d_kv", model.head_dim);
  model.width = width(fields, "d_model", model.width);
  model.hidden = width(fields, "d_ff", model.hidden);
  model.buckets = fields.integer("relative_attention_num_buckets", model.buckets, 4, kMostConfigWidth);
  model.max_distance = tokens(fields, "relative_attention_max_distance", model.max_distance);
  // Buckets beyond the exact ones grow up to this distance: they need some of it.
  check(model.max_distance > model.buckets / 2,
        "{}: relative_attention_max_distance {} is within the {} exact buckets of relative_attention_num_buckets",
        fields.where(), model.max_distance, model.buckets / 2);
  model.norm_epsilon = epsilon(fields, "layer_norm_epsilon", model.norm_epsilon);
  std::string forward = fields.word("feed_forward_proj", "relu");
  const std::string whole = forward;
  model.gated = forward.starts_with("gated-");
  if (model.gated) forward.erase(0, 6);
  if (whole == "gated-gelu") forward = "gelu_new";  // transformers reads this word so, and no other
  model.activation = activation(forward, fields.where(), kAnyActivation);
  // Derived keys, which some files have beside it.
  const std::string derived = fields.word("dense_act_fn", forward);
  check(activation(derived, fields.where(), kAnyActivation) == model.activation,
        "{}: dense_act_fn '{}' contradicts feed_forward_proj '{}'", fields.where(), derived, whole);
  check(fields.flag("is_gated_act", model.gated) == model.gated, "{}: is_gated_act contradicts feed_forward_proj '{}'",
        fields.where(), whole);
  model.scale_head = fields.flag("scale_decoder_outputs", tied);
  return model;
}

}  // namespace

const char* name(Family family) {
  constexpr const char* kNames[] = {"gpt2", "llama", "bert", "t5"};
  return kNames[size_t(family)];
}

const char* name(Activation activation) {
  constexpr const char* kNames[] = {"gelu", "gelu_tanh", "relu", "silu"};
  return kNames[size_t(activation)];
}

const char* name(RopeType type) {
  constexpr const char* kNames[] = {"default", "linear", "dynamic", "yarn", "longrope", "llama3"};
  return kNames[size_t(type)];
}

Config parse_config(const json& object, const std::string& where) {
  check(object.is_object(), "{} is not a JSON object", where);
  const Fields fields(object, where);
  const ModelTypeRow& row = type_row(fields);
  const json* quantization = fields.find("quantization_config");
  check(quantization == nullptr, "{}: weights that are quantized another way ({}) are not supported; GGUF is", where,
        quantization == nullptr ? "" : Fields(*quantization, where).word("quant_method", "quantization_config"));
  Config config;
  config.head = parse_head(fields, row, config.architecture);
  config.tied = fields.flag("tie_word_embeddings", row.tied);
  config.vocabulary = tokens(fields, "vocab_size", row.vocabulary);
  config.dtype = fields.word("torch_dtype", fields.word("dtype", ""));
  config.tokens = parse_tokens(fields, row.tokens);
  parse_labels(fields, config);
  switch (row.family) {
    case Family::gpt2:
      config.model = parse_gpt2(fields);
      break;
    case Family::llama:
      config.model = parse_llama(fields, row.model_type);
      break;
    case Family::bert:
      config.model = parse_bert(fields);
      break;
    case Family::t5:
      config.model = parse_t5(fields, config.tied);
      break;
  }
  return config;
}

Config parse_config_text(std::string_view text, const std::string& where) {
  return parse_config(parse_strict_json(text, where, kConfigDepth), where);
}

}  // namespace surtsey::experiments::hub
