#include "experiments/models/model.h"

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
class Layout {
 public:
  Layout(ParameterStore& store, const ModelConfig& config, const Stack& stack)
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
    } else {
      store_.add(stack_.prefix + "embed.token", {config_.vocab_size, C}, embedding);
    }
    if (config_.position == Position::learned) {
      store_.add(stack_.prefix + "embed.position", {stack_.length, C}, embedding);
    }
    if (config_.embedding_norm) norm(stack_.prefix + "embed.norm");
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
    weight(name + "out", C, queries, residual_);
    if (config_.has_output_bias()) bias(name + "out", C);
  }

  void mlp(const std::string& name) {
    const int64_t C = config_.n_embd;
    const bool gated = config_.activation == Activation::swiglu;
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
    Layout(store_, config_, source).build();
  }
  const Stack stack = main_stack(config_);
  Layout(store_, config_, stack).build();
  if (!config_.tied) {
    const bool recipe = config_.initialisation == InitialisationScheme::recipe;
    const double deviation = recipe ? 1 / std::sqrt(double(config_.n_embd)) : 0.02;
    store_.add(stack.prefix + "head.weight", {config_.vocab_size, config_.n_embd},
               Initialisation::normal(config_.scaling.zero_readout ? 0 : deviation));
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
    const int64_t width = config_.head_width();
    const auto angle = [&](double t, int64_t i) {
      return t * std::pow(config_.rotary_base, -2.0 * double(i) / double(width));
    };
    table("constants.rotary_cos", width / 2, [&](double t, int64_t i) { return std::cos(angle(t, i)); });
    table("constants.rotary_sin", width / 2, [&](double t, int64_t i) { return std::sin(angle(t, i)); });
  }
  if (config_.position == Position::sinusoidal) {
    table("constants.sinusoidal", config_.n_embd, [&](double t, int64_t i) {
      const double rate = std::pow(10000.0, -double(i / 2 * 2) / double(config_.n_embd));
      return i % 2 == 0 ? std::sin(t * rate) : std::cos(t * rate);
    });
  }
  return state;
}

}  // namespace surtsey::experiments
