// What a model costs, in closed form, and what others call its parameters.
#include "experiments/models/model.h"

#include <array>

namespace surtsey::experiments {
namespace {

struct Counts {
  double matmul = 0;  // weights that every token of the stack meets
  double memory = 0;  // weights that every token of the source meets (cross k and v)
  int64_t parameters = 0;
};

Counts count_stack(const ModelConfig& config, int64_t layers, int64_t length, bool cross) {
  const int64_t C = config.n_embd;
  const int64_t F = config.hidden();
  const int64_t queries = config.query_width();
  const int64_t kv = config.kv_heads() * config.head_width();
  const int64_t norm = config.norm == Norm::none ? 0 : C * (config.has_norm_bias() ? 2 : 1);
  const int64_t attention_bias =
      (config.has_attention_bias() ? queries + 2 * kv : 0) + (config.has_attention_output_bias() ? C : 0);
  const int64_t qk_norm = config.qk_norm ? 2 * config.head_width() : 0;
  const int64_t attention = 2 * C * queries + 2 * C * kv;
  const int64_t up = config.is_gated() ? 2 : 1;
  const int64_t mlp = (up + 1) * C * F;
  const int64_t mlp_bias = (config.has_hidden_bias() ? up * F : 0) + (config.has_output_bias() ? C : 0);
  const int64_t attentions = cross ? 2 : 1;

  Counts counts;
  counts.parameters = layers * attentions * (attention + attention_bias + qk_norm + norm);
  if (config.mlp) counts.parameters += layers * (norm + mlp + mlp_bias);
  // The stack that reads a source is the one without cross-attention of two.
  const bool borrows = config.shared_embedding && !cross;
  if (!borrows) counts.parameters += (config.input_size > 0 ? config.input_size : config.vocab_size) * C;
  counts.parameters += config.n_types * C;
  if (config.position == Position::relative) counts.parameters += config.relative_buckets * config.n_head;
  if (config.position == Position::learned) counts.parameters += length * C;
  if (config.norm_placement == NormPlacement::pre) counts.parameters += norm;
  if (config.embedding_norm) counts.parameters += norm;
  counts.matmul = double(layers * (attention + (config.mlp ? mlp : 0) + (cross ? 2 * C * queries : 0)));
  counts.matmul += double(config.input_size * C);
  counts.memory = cross ? double(layers * 2 * C * kv) : 0;
  return counts;
}

int64_t count_head(const ModelConfig& config) {
  const int64_t C = config.n_embd;
  int64_t count = 0;
  if (config.head == HeadKind::masked_language) {
    count += C * C + C + (config.norm == Norm::none ? 0 : C * (config.has_norm_bias() ? 2 : 1));
  }
  if (config.has_pooler()) count += C * C + C;
  if (!config.has_logits()) return count;
  const int64_t out = config.head == HeadKind::classify ? config.n_labels : config.vocab_size;
  if (!config.tied) count += out * C;
  if (config.has_head_bias()) count += out;
  return count;
}

}  // namespace

void decay_matrices_only(graph::ParameterStore& store) {
  store.for_each([](graph::ParameterSpec& spec) { spec.decay_multiplier = spec.shape.size() < 2 ? 0 : 1; });
}

double estimated_training_flops(int64_t parameters, double tokens) { return 6 * double(parameters) * tokens; }

double forward_flops(const ModelConfig& config, int64_t batch, int64_t tokens, int64_t source) {
  const bool two = config.architecture == Architecture::encoder_decoder;
  const double C = double(config.n_embd);
  const double B = double(batch);
  const double T = double(tokens);
  const double S = double(source);
  const auto scores = [&](double queries, double keys, int64_t layers) {
    return 4 * B * queries * keys * double(config.query_width() * layers);  // q k^T and p v
  };
  const Counts main = count_stack(config, config.n_layer, config.block_size, two);
  double flops = 2 * B * T * main.matmul;
  if (config.head == HeadKind::language || config.head == HeadKind::masked_language) {
    flops += 2 * B * T * C * double(config.vocab_size);
  }
  if (config.head == HeadKind::masked_language) flops += 2 * B * T * C * C;
  if (config.has_pooler()) flops += 2 * B * C * C;
  if (config.head == HeadKind::classify) flops += 2 * B * C * double(config.n_labels);
  flops += scores(T, T, config.n_layer);
  if (two) {
    const int64_t layers = config.encoder_layers();
    const Counts encoder = count_stack(config, layers, config.source_length(), false);
    flops += 2 * B * S * (encoder.matmul + main.memory);
    flops += scores(S, S, layers) + scores(T, S, config.n_layer);
  }
  return flops;
}

int64_t analytic_parameter_count(const ModelConfig& config) {
  const bool two = config.architecture == Architecture::encoder_decoder;
  int64_t count = count_stack(config, config.n_layer, config.block_size, two).parameters;
  if (two) {
    count += count_stack(config, config.encoder_layers(), config.source_length(), false).parameters;
  }
  return count + count_head(config);
}

std::string hugging_face_name(std::string_view name) {
  if (name == "embed.token") return "model.embed_tokens.weight";
  if (name == "head.weight") return "lm_head.weight";
  if (name.starts_with("norm.")) return fmt::format("model.{}", name);
  constexpr std::string_view blocks = "blocks.";
  if (!name.starts_with(blocks)) return {};
  name.remove_prefix(blocks.size());
  const size_t dot = name.find('.');
  const size_t last = name.rfind('.');
  if (dot == std::string_view::npos || last == dot) return {};
  const std::string_view layer = name.substr(0, dot);
  const std::string_view part = name.substr(dot + 1, last - dot - 1);
  const std::string_view suffix = name.substr(last);

  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> table = {{
      {"norm1", "input_layernorm"},
      {"attention.q", "self_attn.q_proj"},
      {"attention.k", "self_attn.k_proj"},
      {"attention.v", "self_attn.v_proj"},
      {"attention.out", "self_attn.o_proj"},
      {"norm2", "post_attention_layernorm"},
      {"mlp.up", "mlp.up_proj"},
      {"mlp.gate", "mlp.gate_proj"},
      {"mlp.down", "mlp.down_proj"},
  }};
  for (const auto& [ours, theirs] : table) {
    if (part == ours) return fmt::format("model.layers.{}.{}{}", layer, theirs, suffix);
  }
  return {};
}

}  // namespace surtsey::experiments
