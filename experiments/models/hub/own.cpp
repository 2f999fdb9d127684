#include "experiments/models/hub/own.h"

#include "experiments/base/utf8.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using OwnActivation = experiments::Activation;

// Everything that is looked at below, and what matters to training alone. A key that is not among them and not at its
// default would be lost.
ModelConfig looked_at(const ModelConfig& model) {
  ModelConfig known;
  known.n_layer = model.n_layer;
  known.n_head = model.n_head;
  known.n_kv_head = model.n_kv_head;
  known.n_embd = model.n_embd;
  known.head_dim = model.head_dim;
  known.n_hidden = model.n_hidden;
  known.block_size = model.block_size;
  known.vocab_size = model.vocab_size;
  known.dropout = model.dropout;
  known.bias = model.bias;
  known.norm_bias = model.norm_bias;
  known.attention_bias = model.attention_bias;
  known.hidden_bias = model.hidden_bias;
  known.output_bias = model.output_bias;
  known.position = model.position;
  known.rotary_base = model.rotary_base;
  known.norm = model.norm;
  known.norm_epsilon = model.norm_epsilon;
  known.activation = model.activation;
  known.tied = model.tied;
  known.window = model.window;
  known.initialisation = model.initialisation;
  known.scaling.hidden_rate = model.scaling.hidden_rate;
  known.scaling.zero_query = model.scaling.zero_query;
  known.scaling.zero_readout = model.scaling.zero_readout;
  return known;
}

void check_known(const ModelConfig& model) {
  const json ours = to_json(model), known = to_json(looked_at(model));
  for (const auto& [key, value] : ours.items()) {
    check(known.contains(key) && known.at(key) == value, "a model with {}={} is neither a GPT-2 nor a LLaMA", key,
          value.dump());
  }
}

Gpt2Config gpt2_of(const ModelConfig& model) {
  check(
      model.norm == Norm::layer_norm && model.window == 0 && model.kv_heads() == model.n_head &&
          model.query_width() == model.n_embd &&
          (model.activation == OwnActivation::gelu || model.activation == OwnActivation::gelu_tanh),
      "a model with learned positions is a GPT-2 with layer_norm, gelu or gelu_tanh, no window, as many heads of keys "
      "as of queries, and heads that fill n_embd");
  Gpt2Config config;
  config.layers = model.n_layer;
  config.heads = model.n_head;
  config.width = model.n_embd;
  config.hidden = model.hidden();
  config.positions = model.block_size;
  config.norm_epsilon = model.norm_epsilon;
  config.activation = model.activation == OwnActivation::gelu ? Activation::gelu : Activation::gelu_tanh;
  return config;
}

LlamaConfig llama_of(const ModelConfig& model) {
  check(
      model.position == Position::rotary && model.norm == Norm::rms_norm && !model.has_norm_bias() &&
          model.activation == OwnActivation::swiglu,
      "a model is a GPT-2 with learned positions, or a LLaMA with rotary ones, rms_norm without norm_bias, and swiglu");
  LlamaConfig config;
  const bool attention = model.has_attention_bias(), out = model.has_output_bias(), hidden = model.has_hidden_bias();
  const bool qwen2 = attention && !out && !hidden && model.window == 0;
  config.model_type = qwen2 ? "qwen2" : model.window > 0 ? "mistral" : "llama";
  check(model.window == 0 || !(attention || out || hidden), "a model with a window is a Mistral, which has no biases");
  config.layers = model.n_layer;
  config.heads = model.n_head;
  config.kv_heads = model.kv_heads();
  config.head_dim = model.head_width();
  config.width = model.n_embd;
  config.hidden = model.hidden();
  config.positions = model.block_size;
  config.norm_epsilon = model.norm_epsilon;
  config.rope.theta = model.rotary_base;
  config.query_key_value_bias = attention || out;
  config.output_bias = (attention || out) && !qwen2;
  config.mlp_bias = hidden || out;
  config.windows.assign(size_t(model.n_layer), model.window);
  return config;
}

void replace_begin(std::string& name, std::string_view old_begin, std::string_view new_begin) {
  if (name.starts_with(old_begin)) name.replace(0, old_begin.size(), new_begin);
}

// As models/model.h has it.
std::string parameter_name(std::string name) {
  replace_begin(name, "embedding.weight", "embed.token");
  replace_begin(name, "embedding.", "embed.");
  replace_begin(name, "layers.", "blocks.");
  return name;
}

// Every character of the vocabulary is a token, in its order.
std::string by_characters(const std::string& vocabulary, const std::string& where) {
  json tokens = json::object();
  for (size_t at = 0; at < vocabulary.size();) {
    const size_t length = code_point_at(vocabulary, at).length;
    check(length > 0, "{}: the vocabulary is not UTF-8", where);
    tokens[vocabulary.substr(at, length)] = tokens.size();
    at += length;
  }
  return json{{"version", "1.0"},
              {"model", {{"type", "BPE"}, {"vocab", std::move(tokens)}, {"merges", json::array()}}},
              {"decoder", {{"type", "Fuse"}}}}
      .dump();
}

// What the model's text is made of, where it was trained on text.
std::optional<GgufTokenizer> tokenizer_of(const json& inner, const std::string& where) {
  const auto text = [&](const char* key) {
    const auto found = inner.find(key);
    return found != inner.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  GgufTokenizer tokenizer;
  tokenizer.hugging_face_json = text("tokenizer");
  if (tokenizer.hugging_face_json.empty() && !text("vocabulary").empty()) {
    tokenizer.hugging_face_json = by_characters(text("vocabulary"), where);
  }
  return tokenizer.hugging_face_json.empty() ? std::nullopt : std::optional(std::move(tokenizer));
}

}  // namespace

bool is_own_config(const json& config) {
  return config.is_object() && config.value("format", json()) == kCheckpointFormat;
}

Config config_of(const ModelConfig& model) {
  check(model.architecture == Architecture::decoder, "only decoders have a counterpart in GPT-2 or LLaMA");
  check_known(model);
  Config config;
  if (model.position == Position::learned) {
    config.model = gpt2_of(model);
  } else {
    config.model = llama_of(model);
  }
  config.vocabulary = model.vocab_size;
  config.tied = model.tied;
  config.dtype = "float32";
  return config;
}

std::unique_ptr<Source> open_own(const fs::path& path, const fs::path& folder, const json& config) {
  const std::string where = (folder / "config.json").string();
  const auto inner = config.find("config");
  check(inner != config.end() && inner->is_object() && inner->contains("model"),
        "{}: this checkpoint is not of `surtsey train`: it has no \"model\"", where);
  Description description;
  std::vector<Placement> zeros;
  Layout layout;
  try {
    description.config = config_of(model_config_from_json(inner->at("model")));
    for (TensorRow row : hugging_face_layout(description.config)) {
      // The family's shapes; ours are never joined or turned.
      row.file_name = parameter_name(row.name);
      row.first_row = 0;
      row.file_rows = row.shape[0];
      row.transposed = false;
      row.required = !row.name.ends_with(".bias");
      layout.push_back(std::move(row));
    }
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", where, error.what()));
  }
  description.tokenizer = tokenizer_of(*inner, where);
  const fs::path weights = folder / "model.safetensors";
  std::vector<Placement> placements = place(layout, open_safetensors(weights), weights.string());
  for (const TensorRow& row : layout) {
    const auto there = [&](const Placement& placement) { return placement.row.name == row.name; };
    if (std::none_of(placements.begin(), placements.end(), there)) zeros.push_back(zero_placement(row));
  }
  placements.insert(placements.end(), zeros.begin(), zeros.end());
  description.generation.tokens = description.config.tokens;
  return std::make_unique<Source>(path, std::move(description), std::move(placements));
}

}  // namespace surtsey::experiments::hub
