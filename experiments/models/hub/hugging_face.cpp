// The tables of Hugging Face's names, one a family: our name, theirs, the shape.
#include "experiments/models/hub/layout_table.h"

#include "graph/error.h"

namespace surtsey::experiments::hub {
namespace {

void add(const LayoutTable& table, const Config& config, const Gpt2Config& model) {
  const int64_t c = model.width;
  table.tensor("embedding.weight", "wte.weight", {config.vocabulary, c});
  table.tensor("embedding.position", "wpe.weight", {model.positions, c});
  for (int64_t i = 0; i < model.layers; ++i) {
    const LayoutTable layer = table.below(fmt::format("layers.{}.", i), fmt::format("h.{}.", i));
    layer.norm("norm1", "ln_1", c, true);
    layer.conv1d("attention.q", "attn.c_attn", c, c, 0, 3);
    layer.conv1d("attention.k", "attn.c_attn", c, c, 1, 3);
    layer.conv1d("attention.v", "attn.c_attn", c, c, 2, 3);
    layer.conv1d("attention.out", "attn.c_proj", c, c);
    layer.norm("norm2", "ln_2", c, true);
    layer.conv1d("mlp.up", "mlp.c_fc", model.hidden, c);
    layer.conv1d("mlp.down", "mlp.c_proj", c, model.hidden);
  }
  table.norm("norm", "ln_f", c, true);
  if (config.head == Head::language_model && !config.tied) {
    table.tensor("head.weight", "lm_head.weight", {config.vocabulary, c});
  }
  if (config.head == Head::classification) table.linear("head", "score", config.labels, c, false);
}

void add(const LayoutTable& table, const Config& config, const LlamaConfig& model) {
  const int64_t c = model.width, q = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
  table.tensor("embedding.weight", "embed_tokens.weight", {config.vocabulary, c});
  for (int64_t i = 0; i < model.layers; ++i) {
    const LayoutTable layer = table.below(fmt::format("layers.{}.", i), fmt::format("layers.{}.", i));
    layer.norm("norm1", "input_layernorm", c, false);
    layer.linear("attention.q", "self_attn.q_proj", q, c, model.query_key_value_bias);
    layer.linear("attention.k", "self_attn.k_proj", kv, c, model.query_key_value_bias);
    layer.linear("attention.v", "self_attn.v_proj", kv, c, model.query_key_value_bias);
    layer.linear("attention.out", "self_attn.o_proj", c, q, model.output_bias);
    if (model.query_key_norm) {
      layer.norm("attention.q_norm", "self_attn.q_norm", model.head_dim, false);
      layer.norm("attention.k_norm", "self_attn.k_norm", model.head_dim, false);
    }
    layer.norm("norm2", "post_attention_layernorm", c, false);
    layer.linear("mlp.gate", "mlp.gate_proj", model.hidden, c, model.mlp_bias);
    layer.linear("mlp.up", "mlp.up_proj", model.hidden, c, model.mlp_bias);
    layer.linear("mlp.down", "mlp.down_proj", c, model.hidden, model.mlp_bias);
  }
  table.norm("norm", "norm", c, false);
  if (config.head == Head::language_model && !config.tied) {
    table.tensor("head.weight", "lm_head.weight", {config.vocabulary, c});
  }
  if (config.head == Head::classification) table.linear("head", "score", config.labels, c, false);
}

void add(const LayoutTable& table, const Config& config, const BertConfig& model) {
  const int64_t c = model.width;
  table.tensor("embedding.weight", "embeddings.word_embeddings.weight", {config.vocabulary, c});
  table.tensor("embedding.position", "embeddings.position_embeddings.weight", {model.positions, c});
  table.tensor("embedding.type", "embeddings.token_type_embeddings.weight", {model.token_types, c});
  table.norm("embedding.norm", "embeddings.LayerNorm", c, true);
  for (int64_t i = 0; i < model.layers; ++i) {
    const LayoutTable layer = table.below(fmt::format("layers.{}.", i), fmt::format("encoder.layer.{}.", i));
    layer.linear("attention.q", "attention.self.query", c, c, true);
    layer.linear("attention.k", "attention.self.key", c, c, true);
    layer.linear("attention.v", "attention.self.value", c, c, true);
    layer.linear("attention.out", "attention.output.dense", c, c, true);
    layer.norm("norm1", "attention.output.LayerNorm", c, true);
    layer.linear("mlp.up", "intermediate.dense", model.hidden, c, true);
    layer.linear("mlp.down", "output.dense", c, model.hidden, true);
    layer.norm("norm2", "output.LayerNorm", c, true);
  }
  // Files have a pooler where their class does not use it: bert-base's has.
  const Head head = config.head;
  const bool pooled = head == Head::classification || head == Head::pretraining || head == Head::next_sentence;
  table.where(pooled).linear("pooler", "pooler.dense", c, c, true);
  if (head == Head::language_model || head == Head::pretraining) {
    table.linear("head.transform", "cls.predictions.transform.dense", c, c, true);
    table.norm("head.norm", "cls.predictions.transform.LayerNorm", c, true);
    table.tensor("head.bias", "cls.predictions.bias", {config.vocabulary});
    if (!config.tied) table.tensor("head.weight", "cls.predictions.decoder.weight", {config.vocabulary, c});
  }
  if (head == Head::pretraining || head == Head::next_sentence) {
    table.linear("next_sentence", "cls.seq_relationship", 2, c, true);
  }
  if (config.labels > 0) table.linear("head", "classifier", config.labels, c, true);
}

void add_t5_attention(const LayoutTable& layer, const std::string& ours, const std::string& theirs,
                      const T5Config& model) {
  const int64_t inner = model.heads * model.head_dim;
  for (const char* matrix : {"q", "k", "v"}) {
    layer.linear(ours + "." + matrix, theirs + "." + matrix, inner, model.width, false);
  }
  layer.linear(ours + ".out", theirs + ".o", model.width, inner, false);
}

void add_t5_stack(const LayoutTable& stack, const T5Config& model, bool decoder) {
  stack.tensor("relative.weight", "block.0.layer.0.SelfAttention.relative_attention_bias.weight",
               {model.buckets, model.heads});
  const int64_t layers = decoder ? model.decoder_layers : model.layers;
  for (int64_t i = 0; i < layers; ++i) {
    const LayoutTable layer = stack.below(fmt::format("layers.{}.", i), fmt::format("block.{}.layer.", i));
    layer.norm("norm1", "0.layer_norm", model.width, false);
    add_t5_attention(layer, "attention", "0.SelfAttention", model);
    if (decoder) {
      layer.norm("norm_cross", "1.layer_norm", model.width, false);
      add_t5_attention(layer, "cross", "1.EncDecAttention", model);
    }
    const std::string last = decoder ? "2." : "1.", dense = last + "DenseReluDense.";
    layer.norm("norm2", last + "layer_norm", model.width, false);
    if (model.gated) layer.linear("mlp.gate", dense + "wi_0", model.hidden, model.width, false);
    layer.linear("mlp.up", dense + (model.gated ? "wi_1" : "wi"), model.hidden, model.width, false);
    layer.linear("mlp.down", dense + "wo", model.width, model.hidden, false);
  }
  stack.norm("norm", "final_layer_norm", model.width, false);
}

void add(const LayoutTable& table, const Config& config, const T5Config& model) {
  table.tensor("embedding.weight", "shared.weight", {config.vocabulary, model.width});
  add_t5_stack(table.below("encoder.", "encoder."), model, false);
  add_t5_stack(table.below("decoder.", "decoder."), model, true);
  if (config.head == Head::language_model && !config.tied) {
    table.tensor("head.weight", "lm_head.weight", {config.vocabulary, model.width});
  }
}

// What classes with a head put before the names of the model that they have.
const char* prefix(Family family) {
  constexpr const char* kPrefixes[] = {"transformer.", "model.", "bert.", ""};
  return kPrefixes[size_t(family)];
}

// Heads stand beside the model.
bool is_of_head(const std::string& name) {
  return name.starts_with("lm_head.") || name.starts_with("score.") || name.starts_with("cls.") ||
         name.starts_with("classifier.");
}

// Masks, tables that are computed, copies of tied tensors, and heads that the configuration's class does not have.
bool is_ignored(const Config& config, const std::string& name) {
  if (name == "lm_head.weight" && (config.tied || config.head != Head::language_model)) return true;
  switch (config.family()) {
    case Family::gpt2:
      return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    case Family::llama:
      return name.ends_with(".rotary_emb.inv_freq");
    case Family::bert: {
      const bool predicts = config.head == Head::language_model || config.head == Head::pretraining;
      const bool next = config.head == Head::next_sentence || config.head == Head::pretraining;
      return name == "embeddings.position_ids" || name == "embeddings.token_type_ids" ||
             name == "cls.predictions.decoder.bias" || (name == "cls.predictions.decoder.weight" && config.tied) ||
             (!predicts && name.starts_with("cls.predictions.")) ||
             (!next && name.starts_with("cls.seq_relationship."));
    }
    case Family::t5:
      return name == "encoder.embed_tokens.weight" || name == "decoder.embed_tokens.weight" ||
             name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";
  }
  return false;
}

void replace_end(std::string& name, std::string_view old_end, std::string_view new_end) {
  if (name.ends_with(old_end)) name.replace(name.size() - old_end.size(), old_end.size(), new_end);
}

}  // namespace

Layout hugging_face_layout(const Config& config) {
  Layout layout;
  std::visit([&](const auto& model) { add(LayoutTable(layout), config, model); }, config.model);
  return layout;
}

std::string canonical_file_name(const Config& config, const std::string& name) {
  std::string canonical = name;
  const std::string_view before = prefix(config.family());
  if (canonical.starts_with(before)) canonical.erase(0, before.size());
  if (config.family() == Family::bert) {
    replace_end(canonical, ".gamma", ".weight");
    replace_end(canonical, ".beta", ".bias");
  }
  return is_ignored(config, canonical) ? "" : canonical;
}

std::string saved_name(const Config& config, const std::string& file_name) {
  const bool bare = config.head == Head::none || is_of_head(file_name);
  return (bare ? "" : prefix(config.family())) + file_name;
}

}  // namespace surtsey::experiments::hub
