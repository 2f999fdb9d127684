#include "experiments/models/hub/gguf_model.h"

#include "experiments/base/join.h"
#include "experiments/models/hub/layout_table.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;

constexpr const char* kFrequencies = "rope_freqs.weight";
constexpr const char* kShort = "rope_factors_short.weight";
constexpr const char* kLong = "rope_factors_long.weight";

// Keys that change the results, and are only understood where they are absent, 0 or, of scales, 1.
constexpr const char* kRefused[] = {"expert_count",
                                    "attention.max_alibi_bias",
                                    "attention.clamp_kqv",
                                    "attention.scale",
                                    "attention.sliding_window_pattern",
                                    "attn_logit_softcapping",
                                    "final_logit_softcapping",
                                    "logit_scale",
                                    "residual_scale",
                                    "embedding_scale",
                                    "use_parallel_residual",
                                    "rope.dimension_sections",
                                    "rope.freq_base_swa",
                                    "rope.scaling.alpha",
                                    "rope.scaling.yarn_log_multiplier",
                                    "rope.scaling.yarn_ext_factor",
                                    "rope.scaling.yarn_attn_factor"};

// GGUF stores f32 of what was written as a decimal: the shortest decimal that is the same f32 is that number again.
double decimal(double number) { return std::strtod(fmt::format("{}", float(number)).c_str(), nullptr); }

class GgufKeys {
 public:
  GgufKeys(const Gguf& file, const std::string& where, std::string architecture)
      : file_(file), where_(where), prefix_(std::move(architecture) + ".") {}

  bool has(const char* key) const { return file_.find(prefix_ + key) != nullptr; }
  int64_t integer(const char* key, std::optional<int64_t> fallback = {}) const {
    return gguf_integer(file_, where_, prefix_ + key, fallback);
  }
  double number(const char* key, std::optional<double> fallback = {}) const {
    return decimal(gguf_number(file_, where_, prefix_ + key, fallback));
  }
  std::string text(const char* key, const std::string& fallback) const {
    return gguf_text(file_, where_, prefix_ + key, fallback);
  }
  bool has_tensor(const std::string& name) const { return file_.tensors.contains(name); }
  std::vector<double> factors(const char* tensor) const {
    const FileTensor& from = file_.tensors.at(tensor);
    check(from.shape.size() == 1 && from.type == StoredType::f32 && from.bytes <= (1u << 20),
          "{}: tensor {} is {}{}, and no short list of F32", where_, tensor, from.type_name,
          graph::to_string(from.shape));
    std::vector<float> numbers(size_t(from.shape[0]));
    from.file->read(from.offset, std::as_writable_bytes(std::span(numbers)));
    return {numbers.begin(), numbers.end()};
  }
  void refuse_unsupported() const {
    for (const char* key : kRefused) {
      const GgufValue* value = file_.find(prefix_ + key);
      const bool neutral =
          value == nullptr ||
          (!value->array && value->texts.empty() &&
           (value->floats.empty() ? value->integers[0] == 0 : value->floats[0] == 0 || value->floats[0] == 1));
      check(neutral, "{}: key {}{} is not supported", where_, prefix_, key);
    }
  }

 private:
  const Gguf& file_;
  const std::string& where_;
  std::string prefix_;
};

json rope_scaling(const GgufKeys& keys, const std::string& where) {
  const bool frequencies = keys.has_tensor(kFrequencies),
             long_short = keys.has_tensor(kShort) || keys.has_tensor(kLong);
  std::string type = keys.text("rope.scaling.type", "none");
  if (type == "none" && keys.has("rope.scale_linear")) type = "linear";  // of older files
  if (frequencies || long_short) {
    check((type == "none" || type == "longrope") && frequencies != long_short,
          "{}: rope factors in tensors together with the scaling '{}' are not supported", where, type);
    check(frequencies || (keys.has_tensor(kShort) && keys.has_tensor(kLong)), "{}: there is one of {} and {}", where,
          kShort, kLong);
    json rope = {{"rope_type", "longrope"}, {"attention_factor", keys.number("rope.scaling.attn_factor", 1)}};
    rope["short_factor"] = keys.factors(frequencies ? kFrequencies : kShort);
    rope["long_factor"] = frequencies ? rope["short_factor"] : json(keys.factors(kLong));
    if (keys.has("rope.scaling.original_context_length")) {
      rope["original_max_position_embeddings"] = keys.integer("rope.scaling.original_context_length");
    }
    return rope;
  }
  check(type == "none" || type == "linear" || type == "yarn",
        "{}: the rope scaling '{}' is not supported; there are "
        "none, linear, yarn, longrope",
        where, type);
  if (type == "none") return nullptr;
  json rope = {{"rope_type", type},
               {"factor", keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1))}};
  if (type == "linear") return rope;
  if (keys.has("rope.scaling.original_context_length")) {
    rope["original_max_position_embeddings"] = keys.integer("rope.scaling.original_context_length");
  }
  rope["beta_fast"] = keys.number("rope.scaling.yarn_beta_fast", 32);
  rope["beta_slow"] = keys.number("rope.scaling.yarn_beta_slow", 1);
  return rope;
}

// What parse_config() reads: its checks and limits hold here too.
json llama_json(const GgufKeys& keys, const std::string& where, const std::string& architecture) {
  json object;
  const int64_t heads = keys.integer("attention.head_count"), width = keys.integer("embedding_length");
  check(heads > 0 && width > 0, "{}: {} heads of a model {} wide", where, heads, width);
  const int64_t head_dim = keys.integer("attention.key_length", width / heads);
  check(keys.integer("attention.value_length", head_dim) == head_dim,
        "{}: values {} wide beside keys of {} are not supported", where,
        keys.integer("attention.value_length", head_dim), head_dim);
  check(keys.integer("rope.dimension_count", head_dim) == head_dim,
        "{}: rotary positions of {} in heads of {} are not supported", where, keys.integer("rope.dimension_count", 0),
        head_dim);
  const int64_t window = keys.integer("attention.sliding_window", 0);
  object["model_type"] = architecture == "llama" && window > 0 ? "mistral" : architecture;
  object["num_hidden_layers"] = keys.integer("block_count");
  object["num_attention_heads"] = heads;
  object["num_key_value_heads"] = keys.integer("attention.head_count_kv", heads);
  object["head_dim"] = head_dim;
  object["hidden_size"] = width;
  object["intermediate_size"] = keys.integer("feed_forward_length");
  object["max_position_embeddings"] = keys.integer("context_length");
  object["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon");
  object["rope_theta"] = keys.number("rope.freq_base", 10000);
  object["rope_scaling"] = rope_scaling(keys, where);
  object["sliding_window"] = window > 0 ? json(window) : json();
  object["use_sliding_window"] = window > 0;
  object["max_window_layers"] = 0;
  return object;
}

json gpt2_json(const GgufKeys& keys) {
  json object = {{"model_type", "gpt2"}, {"activation_function", "gelu_new"}};
  object["n_layer"] = keys.integer("block_count");
  object["n_head"] = keys.integer("attention.head_count");
  object["n_embd"] = keys.integer("embedding_length");
  object["n_inner"] = keys.integer("feed_forward_length");
  object["n_positions"] = keys.integer("context_length");
  object["layer_norm_epsilon"] = keys.number("attention.layer_norm_epsilon");
  return object;
}

void add_tensors(const LayoutTable& table, const Config& config, const Gpt2Config& model) {
  const int64_t c = model.width;
  table.tensor("embedding.position", "position_embd.weight", {model.positions, c});
  for (int64_t i = 0; i < model.layers; ++i) {
    const LayoutTable layer = table.below(fmt::format("layers.{}.", i), fmt::format("blk.{}.", i));
    layer.norm("norm1", "attn_norm", c, true);
    for (int64_t part = 0; part < 3; ++part) {
      const std::string ours = std::string("attention.") + "qkv"[part];
      for (const char* end : {".weight", ".bias"}) {
        const bool matrix = end == std::string_view(".weight");
        TensorRow& row =
            layer.tensor(ours + end, std::string("attn_qkv") + end, matrix ? graph::Shape{c, c} : graph::Shape{c});
        row.first_row = part * c;
        row.file_rows = 3 * c;
      }
    }
    layer.linear("attention.out", "attn_output", c, c, true);
    layer.norm("norm2", "ffn_norm", c, true);
    layer.linear("mlp.up", "ffn_up", model.hidden, c, true);
    layer.linear("mlp.down", "ffn_down", c, model.hidden, true);
  }
  table.norm("norm", "output_norm", c, true);
  if (!config.tied) table.tensor("head.weight", "output.weight", {config.vocabulary, c});
}

void add_tensors(const LayoutTable& table, const Config& config, const LlamaConfig& model) {
  const int64_t c = model.width, q = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
  const bool interleaved = model.model_type == "llama" || model.model_type == "mistral";
  for (int64_t i = 0; i < model.layers; ++i) {
    const LayoutTable layer = table.below(fmt::format("layers.{}.", i), fmt::format("blk.{}.", i));
    layer.norm("norm1", "attn_norm", c, false);
    const auto turned = [&](const char* ours, const char* theirs, int64_t rows, int64_t heads) {
      TensorRow& weight = layer.tensor(std::string(ours) + ".weight", std::string(theirs) + ".weight", {rows, c});
      weight.permuted_heads = interleaved ? heads : 0;
      if (!model.query_key_value_bias) return;
      TensorRow& bias = layer.tensor(std::string(ours) + ".bias", std::string(theirs) + ".bias", {rows});
      bias.permuted_heads = interleaved ? heads : 0;
    };
    turned("attention.q", "attn_q", q, model.heads);
    turned("attention.k", "attn_k", kv, model.kv_heads);
    layer.linear("attention.v", "attn_v", kv, c, model.query_key_value_bias);
    layer.linear("attention.out", "attn_output", c, q, model.output_bias);
    if (model.query_key_norm) {
      layer.norm("attention.q_norm", "attn_q_norm", model.head_dim, false);
      layer.norm("attention.k_norm", "attn_k_norm", model.head_dim, false);
    }
    layer.norm("norm2", "ffn_norm", c, false);
    layer.linear("mlp.gate", "ffn_gate", model.hidden, c, model.mlp_bias);
    layer.linear("mlp.up", "ffn_up", model.hidden, c, model.mlp_bias);
    layer.linear("mlp.down", "ffn_down", c, model.hidden, model.mlp_bias);
  }
  table.norm("norm", "output_norm", c, false);
  if (!config.tied) table.tensor("head.weight", "output.weight", {config.vocabulary, c});
}

template <typename Model>
void add_tensors(const LayoutTable&, const Config& config, const Model&) {
  throw UserError(fmt::format("GGUF of the family {} is not supported; there are gpt2, llama", name(config.family())));
}

}  // namespace

Config gguf_config(const Gguf& file, const std::string& where) {
  const std::string architecture = gguf_text(file, where, "general.architecture");
  const std::vector<std::string> supported = {"llama", "qwen2", "qwen3", "gpt2"};
  check(std::find(supported.begin(), supported.end(), architecture) != supported.end(),
        "{}: general.architecture '{}' is not supported; there are {}", where, architecture, join(supported, ", "));
  const GgufKeys keys(file, where, architecture);
  keys.refuse_unsupported();
  json object = architecture == "gpt2" ? gpt2_json(keys) : llama_json(keys, where, architecture);
  const auto embedding = file.tensors.find("token_embd.weight");
  check(embedding != file.tensors.end() && embedding->second.shape.size() == 2,
        "{}: tensor token_embd.weight is missing or no matrix", where);
  object["vocab_size"] = embedding->second.shape[0];
  object["tie_word_embeddings"] = !keys.has_tensor("output.weight");
  check(gguf_integer(file, where, "split.count", 1) <= 1, "{}: a model in several GGUF files is not supported", where);
  const std::pair<const char*, const char*> tokens[] = {{"bos", "bos"}, {"eos", "eos"}, {"pad", "padding"}};
  for (const auto& [ours, theirs] : tokens) {
    const int64_t token = gguf_integer(file, where, fmt::format("tokenizer.ggml.{}_token_id", theirs), UINT32_MAX);
    if (token != UINT32_MAX) object[ours + std::string("_token_id")] = token;  // all bits set stands for none
  }
  Config config = parse_config(object, where + ", as a config.json");
  if (auto* llama = std::get_if<LlamaConfig>(&config.model); llama != nullptr && architecture == "llama") {
    llama->query_key_value_bias = keys.has_tensor("blk.0.attn_q.bias");
    llama->output_bias = keys.has_tensor("blk.0.attn_output.bias");
    llama->mlp_bias = keys.has_tensor("blk.0.ffn_up.bias");
  }
  return config;
}

Layout gguf_layout(const Config& config) {
  Layout layout;
  const LayoutTable table(layout);
  const int64_t width = std::visit([](const auto& model) { return model.width; }, config.model);
  table.tensor("embedding.weight", "token_embd.weight", {config.vocabulary, width});
  std::visit([&](const auto& model) { add_tensors(table, config, model); }, config.model);
  return layout;
}

bool is_gguf_constant(const std::string& name) { return name == kFrequencies || name == kShort || name == kLong; }

}  // namespace surtsey::experiments::hub
