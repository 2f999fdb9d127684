#include "experiments/models/hub/config.h"
#include "experiments/models/hub/rope.h"

#include "graph/error.h"

#include <algorithm>

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;

// As transformers calls them; see the table of config.cpp.
const char* word_of(Activation activation) {
  constexpr const char* kNames[] = {"gelu", "gelu_new", "relu", "silu"};
  return kNames[size_t(activation)];
}

json token_or_null(int64_t token) { return token < 0 ? json() : json(token); }

void add_tokens(json& object, const SpecialTokens& tokens) {
  object["bos_token_id"] = token_or_null(tokens.bos);
  object["pad_token_id"] = token_or_null(tokens.pad);
  object["eos_token_id"] = tokens.eos.empty()       ? json()
                           : tokens.eos.size() == 1 ? json(tokens.eos[0])
                                                    : json(tokens.eos);
  if (tokens.decoder_start >= 0) object["decoder_start_token_id"] = tokens.decoder_start;
}

void add(json& object, const Gpt2Config& model) {
  object["n_layer"] = model.layers;
  object["n_head"] = model.heads;
  object["n_embd"] = model.width;
  object["n_inner"] = model.hidden == 4 * model.width ? json() : json(model.hidden);
  object["n_positions"] = model.positions;
  object["layer_norm_epsilon"] = model.norm_epsilon;
  object["activation_function"] = word_of(model.activation);
  object["scale_attn_weights"] = model.scale_scores;
  object["scale_attn_by_inverse_layer_idx"] = model.scale_scores_by_layer;
}

void add(json& object, const LlamaConfig& model) {
  object["num_hidden_layers"] = model.layers;
  object["num_attention_heads"] = model.heads;
  object["num_key_value_heads"] = model.kv_heads;
  object["head_dim"] = model.head_dim;
  object["hidden_size"] = model.width;
  object["intermediate_size"] = model.hidden;
  object["max_position_embeddings"] = model.positions;
  if (model.original_positions > 0) object["original_max_position_embeddings"] = model.original_positions;
  object["rms_norm_eps"] = model.norm_epsilon;
  object["hidden_act"] = "silu";
  add_rope(object, model.rope);
  if (model.model_type == "llama" || model.model_type == "qwen3") {
    object["attention_bias"] = model.query_key_value_bias;
  }
  if (model.model_type == "llama") {
    object["mlp_bias"] = model.mlp_bias;
    return;
  }
  const auto first = std::find_if(model.windows.begin(), model.windows.end(), [](int64_t n) { return n > 0; });
  const bool windowed = first != model.windows.end();
  object["sliding_window"] = windowed ? json(*first) : json();
  if (model.model_type == "mistral") return;
  object["use_sliding_window"] = windowed;
  object["max_window_layers"] = first - model.windows.begin();
}

void add(json& object, const BertConfig& model) {
  object["num_hidden_layers"] = model.layers;
  object["num_attention_heads"] = model.heads;
  object["hidden_size"] = model.width;
  object["intermediate_size"] = model.hidden;
  object["max_position_embeddings"] = model.positions;
  object["type_vocab_size"] = model.token_types;
  object["layer_norm_eps"] = model.norm_epsilon;
  object["hidden_act"] = word_of(model.activation);
  object["position_embedding_type"] = "absolute";
}

void add(json& object, const T5Config& model) {
  object["num_layers"] = model.layers;
  object["num_decoder_layers"] = model.decoder_layers;
  object["num_heads"] = model.heads;
  object["d_kv"] = model.head_dim;
  object["d_model"] = model.width;
  object["d_ff"] = model.hidden;
  object["relative_attention_num_buckets"] = model.buckets;
  object["relative_attention_max_distance"] = model.max_distance;
  object["layer_norm_epsilon"] = model.norm_epsilon;
  // "gated-gelu" is gelu_tanh to transformers, which has no word for the erf form there.
  const bool tanh = model.gated && model.activation == Activation::gelu_tanh;
  object["feed_forward_proj"] = (model.gated ? "gated-" : "") + std::string(tanh ? "gelu" : word_of(model.activation));
  object["is_encoder_decoder"] = true;
}

// The class of a head, where the configuration came without one.
std::string architecture(const Config& config) {
  if (!config.architecture.empty()) return config.architecture;
  const bool labels = config.head == Head::classification, head = config.head == Head::language_model;
  ensure(head || labels || config.head == Head::none, "a head without a class");
  const auto of = [&](const std::string& model, const char* with_head) {
    return model + (labels ? "ForSequenceClassification" : head ? with_head : "Model");
  };
  switch (config.family()) {
    case Family::gpt2:
      return of("GPT2", "LMHeadModel");
    case Family::llama: {
      std::string type = config.llama().model_type;
      type[0] = char(type[0] - 'a' + 'A');
      return of(type, "ForCausalLM");
    }
    case Family::bert:
      return of("Bert", "ForMaskedLM");
    case Family::t5:
      return of("T5", "ForConditionalGeneration");
  }
  return "";
}

}  // namespace

json config_json(const Config& config) {
  json object = json::object();
  object["architectures"] = {architecture(config)};
  object["model_type"] = config.family() == Family::llama ? config.llama().model_type : name(config.family());
  object["vocab_size"] = config.vocabulary;
  object["tie_word_embeddings"] = config.tied;
  if (!config.dtype.empty()) object["torch_dtype"] = config.dtype;
  if (config.labels > 0) object["num_labels"] = config.labels;
  if (!config.problem_type.empty()) object["problem_type"] = config.problem_type;
  for (size_t i = 0; i < config.label_names.size(); ++i) {
    object["id2label"][std::to_string(i)] = config.label_names[i];
    object["label2id"][config.label_names[i]] = i;
  }
  add_tokens(object, config.tokens);
  std::visit([&](const auto& model) { add(object, model); }, config.model);
  if (config.family() == Family::t5 && config.t5().scale_head != config.tied) {
    object["scale_decoder_outputs"] = config.t5().scale_head;
  }
  return object;
}

}  // namespace surtsey::experiments::hub
