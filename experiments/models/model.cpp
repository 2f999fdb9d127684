#include "experiments/models/model.h"

#include "experiments/base/join.h"
#include "experiments/models/rotary.h"
#include "experiments/models/stack.h"

#include <cmath>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Initialisation;
using graph::ParameterStore;

// ---- parameters ----

// Adds the parameters of a stack in the order of the names in the header.
class StackParameters {
 public:
  StackParameters(ParameterStore& store, const ModelConfig& config, const Stack& stack)
      : store_(store), config_(config), stack_(stack) {
    // Residual branches of a block.
    const int branches = 1 + (stack.cross ? 1 : 0) + (config.mlp ? 1 : 0);
    residual_ = 1 / std::sqrt(branches * double(stack.layers));
  }

  void build() {
    const int64_t C = config_.n_embd;
    const bool recipe = config_.initialisation == InitialisationScheme::recipe;
    const Initialisation embedding = Initialisation::normal(recipe ? 0.5 : 0.02);
    if (config_.input_size > 0) {
      const double deviation = recipe ? 1 / std::sqrt(double(config_.input_size)) : 0.02;
      store_.add(stack_.prefix + "embed.input", {C, config_.input_size}, Initialisation::normal(deviation));
    } else if (!config_.shared_embedding || stack_.cross) {
      store_.add(stack_.prefix + "embed.token", {config_.vocab_size, C}, embedding);
    }
    if (config_.n_types > 0) store_.add(stack_.prefix + "embed.type", {config_.n_types, C}, embedding);
    if (config_.position == Position::learned) {
      store_.add(stack_.prefix + "embed.position", {stack_.length, C}, embedding);
    }
    if (config_.embedding_norm) norm(stack_.prefix + "embed.norm");
    if (config_.position == Position::relative) {
      store_.add(stack_.prefix + "relative.weight", {config_.relative_buckets, config_.n_head}, embedding);
    }
    for (int64_t i = 0; i < stack_.layers; ++i) {
      const std::string block = fmt::format("{}blocks.{}.", stack_.prefix, i);
      norm(block + "norm1");
      attention(block + "attention.");
      if (stack_.cross) {
        norm(block + "norm_cross");
        attention(block + "cross.");
      }
      if (!config_.mlp) continue;
      norm(block + "norm2");
      mlp(block + "mlp.");
    }
    if (config_.norm_placement == NormPlacement::pre) norm(stack_.prefix + "norm");
  }

  // What stands on the blocks of this stack.
  void build_head() {
    const int64_t C = config_.n_embd;
    const std::string head = stack_.prefix + "head";
    if (config_.head == HeadKind::masked_language) {
      weight(head + ".transform", C, C);
      bias(head + ".transform", C);
      norm(head + ".norm");
    }
    if (config_.has_pooler()) {
      weight(stack_.prefix + "pooler", C, C);
      bias(stack_.prefix + "pooler", C);
    }
    if (!config_.has_logits()) return;
    const int64_t out = config_.head == HeadKind::classify ? config_.n_labels : config_.vocab_size;
    if (!config_.tied) {
      const bool recipe = config_.initialisation == InitialisationScheme::recipe;
      const double deviation = recipe ? 1 / std::sqrt(double(C)) : 0.02;
      store_.add(head + ".weight", {out, C}, Initialisation::normal(config_.scaling.zero_readout ? 0 : deviation));
    }
    if (config_.has_head_bias()) bias(head, out);
  }

 private:
  void norm(const std::string& name) {
    if (config_.norm == Norm::none) return;
    store_.add(name + ".weight", {config_.n_embd}, Initialisation::constant(1));
    if (config_.has_norm_bias()) bias(name, config_.n_embd);
  }

  void weight(const std::string& name, int64_t out, int64_t in, double factor = 1) {
    const bool recipe = config_.initialisation == InitialisationScheme::recipe;
    const double deviation = recipe ? 1 / std::sqrt(double(in)) : 0.02;
    store_.add(name + ".weight", {out, in}, Initialisation::normal(deviation * factor)).learning_rate_multiplier =
        config_.scaling.hidden_rate;
  }

  void bias(const std::string& name, int64_t out) { store_.add(name + ".bias", {out}, Initialisation::constant(0)); }

  void attention(const std::string& name) {
    const int64_t C = config_.n_embd;
    const int64_t queries = config_.query_width();
    const int64_t kv = config_.kv_heads() * config_.head_width();
    weight(name + "q", queries, C, config_.scaling.zero_query ? 0 : 1);
    weight(name + "k", kv, C);
    weight(name + "v", kv, C);
    if (config_.has_attention_bias()) {
      bias(name + "q", queries);
      bias(name + "k", kv);
      bias(name + "v", kv);
    }
    if (config_.qk_norm) {
      store_.add(name + "q_norm.weight", {config_.head_width()}, Initialisation::constant(1));
      store_.add(name + "k_norm.weight", {config_.head_width()}, Initialisation::constant(1));
    }
    weight(name + "out", C, queries, residual_);
    if (config_.has_attention_output_bias()) bias(name + "out", C);
  }

  void mlp(const std::string& name) {
    const int64_t C = config_.n_embd;
    const bool gated = config_.is_gated();
    weight(name + "up", config_.hidden(), C);
    if (gated) weight(name + "gate", config_.hidden(), C);
    if (config_.has_hidden_bias()) {
      bias(name + "up", config_.hidden());
      if (gated) bias(name + "gate", config_.hidden());
    }
    weight(name + "down", C, config_.hidden(), residual_);
    if (config_.has_output_bias()) bias(name + "down", C);
  }

  ParameterStore& store_;
  const ModelConfig& config_;
  const Stack& stack_;
  double residual_ = 1;
};

}  // namespace

Model::Model(ModelConfig config) : config_(std::move(config)) {
  check_config(config_);
  if (config_.architecture == Architecture::encoder_decoder) {
    const Stack source = source_stack(config_);
    StackParameters(store_, config_, source).build();
  }
  const Stack stack = main_stack(config_);
  StackParameters layout(store_, config_, stack);
  layout.build();
  layout.build_head();
}

void Model::keep_cache_as(graph::Storage storage) {
  ensure(storage.keep != nullptr, "a cache in {}, which no graph writes", storage.name);
  storage.parts({config_.kv_heads(), 1, config_.head_width()});
  cache_ = std::move(storage);
}

void Model::set_virtual_tokens(VirtualTokens tokens) {
  check(config_.architecture != Architecture::encoder_decoder, "[model] virtual tokens before two stacks");
  check(config_.position != Position::relative, "[model] virtual tokens have no relative positions");
  check(tokens.count > 0 && tokens.count < config_.block_size,
        "[model] {} virtual tokens leave no room for a text in {} positions", tokens.count, config_.block_size);
  ensure(bool(tokens.embeddings) != bool(tokens.keys), "[model] virtual tokens are embeddings, or keys and values");
  virtual_ = std::move(tokens);
}

namespace {

// The row of the table of distances that a key `offset` positions after its query has (Raffel et al. 2020): one a
// distance up to half of the rows there are, then by the logarithm. In f32, as the reference has it.
int64_t relative_bucket(int64_t offset, int64_t buckets, int64_t most, bool both_directions) {
  int64_t first = 0;
  int64_t distance = std::max<int64_t>(0, -offset);
  if (both_directions) {
    buckets /= 2;
    first = offset > 0 ? buckets : 0;
    distance = std::abs(offset);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  const float share = std::log(float(distance) / float(exact)) / std::log(float(most) / float(exact));
  return first + std::min(buckets - 1, exact + int64_t(share * float(buckets - exact)));
}

}  // namespace

void Model::keep_projections_together() {
  const auto keep = [&](const std::string& attention, const std::vector<std::string>& parts) {
    for (const char* kind : {".weight", ".bias"}) {
      std::vector<std::string> names;
      for (const std::string& part : parts) names.push_back(attention + part + kind);
      if (store_.contains(names[0]) && store_.can_keep_together(names))
        store_.keep_together(names, attention + join(parts, "_") + kind);
    }
  };
  std::vector<Stack> stacks = {main_stack(config_)};
  if (config_.architecture == Architecture::encoder_decoder) stacks.push_back(source_stack(config_));
  for (const Stack& stack : stacks) {
    for (int64_t i = 0; i < stack.layers; ++i) {
      const std::string block = fmt::format("{}blocks.{}.", stack.prefix, i);
      keep(block + "attention.", {"q", "k", "v"});
      if (stack.cross) keep(block + "cross.", {"k", "v"});
    }
  }
}

graph::State Model::constants() const {
  graph::State state;
  const int64_t rows = std::max(config_.block_size, config_.source_length());
  // value(t, i) over `columns` columns.
  const auto table = [&](const char* name, int64_t columns, auto&& value) {
    HostTensor tensor = HostTensor::zeros({DType::f32, {rows, columns}});
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t i = 0; i < columns; ++i) {
        tensor.values[size_t(t * columns + i)] = value(double(t), i);
      }
    }
    tensor.round_to_storage();
    state.emplace(name, std::move(tensor));
  };
  if (config_.position == Position::rotary) {
    const RotaryAngles angles = rotary_angles(config_, config_.block_size);
    const auto pairs = int64_t(angles.frequencies.size());
    const auto angle = [&](double t, int64_t i) { return t * angles.frequencies[size_t(i)]; };
    table("constants.rotary_cos", pairs, [&](double t, int64_t i) { return std::cos(angle(t, i)) * angles.amplitude; });
    table("constants.rotary_sin", pairs, [&](double t, int64_t i) { return std::sin(angle(t, i)) * angles.amplitude; });
  }
  if (config_.position == Position::sinusoidal) {
    table("constants.sinusoidal", config_.n_embd, [&](double t, int64_t i) {
      const double rate = std::pow(10000.0, -double(i / 2 * 2) / double(config_.n_embd));
      return i % 2 == 0 ? std::sin(t * rate) : std::cos(t * rate);
    });
  }
  if (config_.position == Position::relative) {
    const auto distances = [&](const Stack& stack) {
      HostTensor tensor = HostTensor::zeros({DType::u32, {2 * rows - 1}});
      for (int64_t i = 0; i < 2 * rows - 1; ++i) {
        tensor.values[size_t(i)] =
            double(relative_bucket(i - (rows - 1), config_.relative_buckets, config_.relative_distance, !stack.causal));
      }
      state.emplace(fmt::format("constants.{}relative", stack.prefix), std::move(tensor));
    };
    if (config_.architecture == Architecture::encoder_decoder) distances(source_stack(config_));
    distances(main_stack(config_));
  }
  return state;
}

}  // namespace surtsey::experiments
