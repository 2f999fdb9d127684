#include "experiments/model.h"

#include "experiments/join.h"
#include "graph/attention.h"
#include "graph/functions.h"

#include <cmath>
#include <source_location>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Initialisation;
using graph::Parameters;
using graph::ParameterStore;
using graph::ScopeGuard;
using graph::Shape;
using graph::Value;

// One stack of blocks: the encoder or the decoder.
struct Stack {
  std::string prefix;
  int64_t layers = 0;
  int64_t length = 0;  // positions at most
  bool causal = false;
  bool cross = false;
};

Stack main_stack(const ModelConfig& config) {
  const bool two = config.architecture == Architecture::encoder_decoder;
  return {two ? "decoder." : "", config.n_layer, config.block_size,
          config.architecture != Architecture::encoder, two};
}

Stack source_stack(const ModelConfig& config) {
  return {"encoder.", config.encoder_layers(), config.source_length(), false, false};
}

// ---- parameters ----

// Adds the parameters of a stack in the order of the names in the header.
class Layout {
 public:
  Layout(ParameterStore& store, const ModelConfig& config, const Stack& stack)
      : store_(store), config_(config), stack_(stack) {
    const double branches = stack.cross ? 3 : 2;  // residual branches of a block
    residual_ = 1 / std::sqrt(branches * double(stack.layers));
  }

  void build() {
    const int64_t C = config_.n_embd;
    const bool recipe = config_.initialisation == InitialisationScheme::recipe;
    const Initialisation embedding = Initialisation::normal(recipe ? 0.5 : 0.02);
    store_.add(stack_.prefix + "embed.token", {config_.vocab_size, C}, embedding);
    if (config_.position == Position::learned) {
      store_.add(stack_.prefix + "embed.position", {stack_.length, C}, embedding);
    }
    for (int64_t i = 0; i < stack_.layers; ++i) {
      const std::string block = fmt::format("{}blocks.{}.", stack_.prefix, i);
      norm(block + "norm1");
      attention(block + "attention.");
      if (stack_.cross) {
        norm(block + "norm_cross");
        attention(block + "cross.");
      }
      norm(block + "norm2");
      mlp(block + "mlp.");
    }
    if (config_.norm_placement == NormPlacement::pre) norm(stack_.prefix + "norm");
  }

 private:
  void norm(const std::string& name) {
    store_.add(name + ".weight", {config_.n_embd}, Initialisation::constant(1));
    if (config_.has_norm_bias()) bias(name, config_.n_embd);
  }

  void weight(const std::string& name, int64_t out, int64_t in, double factor = 1) {
    const bool recipe = config_.initialisation == InitialisationScheme::recipe;
    const double deviation = recipe ? 1 / std::sqrt(double(in)) : 0.02;
    store_.add(name + ".weight", {out, in}, Initialisation::normal(deviation * factor));
  }

  void bias(const std::string& name, int64_t out) {
    store_.add(name + ".bias", {out}, Initialisation::constant(0));
  }

  void attention(const std::string& name) {
    const int64_t C = config_.n_embd;
    const int64_t kv = config_.kv_heads() * config_.head_width();
    weight(name + "q", C, C);
    weight(name + "k", kv, C);
    weight(name + "v", kv, C);
    if (config_.has_attention_bias()) {
      bias(name + "q", C);
      bias(name + "k", kv);
      bias(name + "v", kv);
    }
    weight(name + "out", C, C, residual_);
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

// ---- forward ----

class Forward {
 public:
  Forward(Parameters& parameters, const ModelConfig& config, const Stack& stack,
          const ForwardOptions& options)
      : parameters_(parameters), config_(config), stack_(stack), options_(options) {}

  // tokens [B, T] -> [B, T, C]. `key_mask` masks self-attention, `memory` [B, S, C] and its mask
  // are what cross-attention reads.
  Value run(Value tokens, Value key_mask, Value memory, Value memory_mask) {
    check(tokens.rank() == 2 && tokens.dtype() == DType::u32, "[model] tokens are {}, not u32[B,T]",
          to_string(tokens.type()));
    check(tokens.dim(1) <= stack_.length, "[model] {} tokens exceed the {} positions of the {}",
          tokens.dim(1), stack_.length, stack_.prefix.empty() ? "model" : stack_.prefix);
    Value x = embed(tokens);
    for (int64_t i = 0; i < stack_.layers; ++i) {
      const std::string block = fmt::format("{}blocks.{}", stack_.prefix, i);
      ScopeGuard scope(graph(), block);
      x = branch(x, block, "norm1", "attention", [&](Value h, const std::string& name) {
        return attention(h, h, key_mask, name, true);
      });
      if (stack_.cross) {
        x = branch(x, block, "norm_cross", "cross", [&](Value h, const std::string& name) {
          return attention(h, memory, memory_mask, name, false);
        });
      }
      x = branch(x, block, "norm2", "mlp",
                 [&](Value h, const std::string& name) { return mlp(h, name); });
    }
    if (config_.norm_placement == NormPlacement::pre) x = norm(x, stack_.prefix + "norm");
    return x;
  }

 private:
  graph::Graph& graph() const { return parameters_.graph(); }

  bool training() const { return config_.dropout > 0 && options_.seed && options_.step; }

  Value drop(Value x, const std::string& place) const {
    if (!training()) return x;
    return dropout(x, config_.dropout, options_.seed, options_.step, "dropout." + place);
  }

  Value table(const char* name, int64_t rows, int64_t columns, int64_t length) const {
    const Value whole = graph().parameter(name, {DType::f32, {rows, columns}});
    return slice(whole, 0, 0, length);
  }

  int64_t table_rows() const { return std::max(config_.block_size, config_.source_length()); }

  Value embed(Value tokens) {
    ScopeGuard scope(graph(), stack_.prefix + "embed");
    const int64_t length = tokens.dim(1);
    Value x = embedding(parameters_.get(stack_.prefix + "embed.token"), tokens);
    if (config_.position == Position::learned) {
      x = x + slice(parameters_.get(stack_.prefix + "embed.position"), 0, 0, length);
    } else if (config_.position == Position::sinusoidal) {
      x = x + table("constants.sinusoidal", table_rows(), config_.n_embd, length);
    }
    return drop(x, stack_.prefix + "embed");
  }

  // x + f(norm(x)), or norm(x + f(x)).
  template <typename Function>
  Value branch(Value x, const std::string& block, const std::string& norm_name,
               const std::string& name, Function&& function,
               std::source_location where = std::source_location::current()) {
    ScopeGuard scope(graph(), name, where);
    const std::string path = fmt::format("{}.{}", block, name);
    const std::string norm_path = fmt::format("{}.{}", block, norm_name);
    const bool pre = config_.norm_placement == NormPlacement::pre;
    const Value change = drop(function(pre ? norm(x, norm_path) : x, path), path);
    return pre ? x + change : norm(x + change, norm_path);
  }

  Value norm(Value x, const std::string& name) {
    ScopeGuard scope(graph(), name.substr(name.rfind('.') + 1));
    const Value weight = parameters_.get(name + ".weight");
    const Value bias = config_.has_norm_bias() ? parameters_.get(name + ".bias") : Value{};
    return config_.norm == Norm::layer_norm ? layer_norm(x, weight, bias, config_.norm_epsilon)
                                            : rms_norm(x, weight, bias, config_.norm_epsilon);
  }

  // One matmul for several projections that lie side by side; its scope is named after them.
  Value project(Value x, const std::string& prefix, const std::vector<std::string>& parts,
                bool biased, std::source_location where = std::source_location::current()) {
    ScopeGuard scope(graph(), join(parts, "_"), where);
    const auto names = [&](const char* suffix) {
      std::vector<std::string> list;
      for (const std::string& part : parts) list.push_back(prefix + part + suffix);
      return list;
    };
    return linear(x, parameters_.joined(names(".weight")),
                  biased ? parameters_.joined(names(".bias")) : Value{});
  }

  // [B, T, n D] -> [B, T, n, D]
  Value heads(Value x) const { return reshape(x, {x.dim(0), x.dim(1), -1, config_.head_width()}); }

  Value rotate(Value x) const {
    const int64_t half = config_.head_width() / 2;
    const auto read = [&](const char* name) {
      return reshape(table(name, table_rows(), half, x.dim(1)), {x.dim(1), 1, half});
    };
    return rotary(x, read("constants.rotary_cos"), read("constants.rotary_sin"));
  }

  Value attention(Value x, Value memory, Value key_mask, const std::string& name, bool self) {
    const int64_t H = config_.n_head;
    const int64_t K = config_.kv_heads();
    const bool biased = config_.has_attention_bias();
    Value q, k, v;  // [B, T, heads, D]
    if (self) {
      const Value qkv = heads(project(x, name + ".", {"q", "k", "v"}, biased));
      if (config_.position == Position::rotary) {
        // Queries and keys turn by the same angles, so they turn together.
        const std::vector<Value> parts = split(qkv, 2, {H + K, K});
        const std::vector<Value> turned = split(rotate(parts[0]), 2, {H, K});
        q = turned[0];
        k = turned[1];
        v = parts[1];
      } else {
        const std::vector<Value> parts = split(qkv, 2, {H, K, K});
        q = parts[0];
        k = parts[1];
        v = parts[2];
      }
    } else {
      const Value both = heads(project(memory, name + ".", {"k", "v"}, biased));
      const std::vector<Value> kv = split(both, 2, {K, K});
      q = heads(project(x, name + ".", {"q"}, biased));
      k = kv[0];
      v = kv[1];
    }
    graph::AttentionOptions options;
    options.causal = self && stack_.causal;
    options.window = self ? config_.window : 0;
    options.key_mask = key_mask;
    if (training()) {
      options.dropout = config_.dropout;
      options.seed = options_.seed;
      options.step = options_.step;
      options.stream = "dropout." + name + ".probabilities";
    }
    const auto by_head = [](Value t) { return permute(t, {0, 2, 1, 3}); };
    const Value mixed = mix(by_head(q), by_head(k), by_head(v), options);
    return project(reshape(by_head(mixed), x.shape()), name + ".", {"out"},
                   config_.has_output_bias());
  }

  // Softmax of the scores times the values.
  Value mix(Value q, Value k, Value v, const graph::AttentionOptions& options) {
    ScopeGuard scope(graph(), "mix");
    return scaled_dot_product_attention(q, k, v, options).out;
  }

  Value activate(Value x) {
    ScopeGuard scope(graph(), "activation");
    return config_.activation == Activation::gelu ? gelu_erf(x) : graph::gelu_tanh(x);
  }

  Value mlp(Value x, const std::string& name) {
    const bool biased = config_.has_hidden_bias();
    const int64_t F = config_.hidden();
    Value h;
    if (config_.activation == Activation::swiglu) {
      const Value both = project(x, name + ".", {"up", "gate"}, biased);
      const std::vector<Value> parts = split(both, -1, {F, F});
      ScopeGuard scope(graph(), "activation");
      h = graph::swiglu(parts[1], parts[0]);
    } else {
      h = activate(project(x, name + ".", {"up"}, biased));
    }
    return project(h, name + ".", {"down"}, config_.has_output_bias());
  }

  Parameters& parameters_;
  const ModelConfig& config_;
  const Stack& stack_;
  const ForwardOptions& options_;
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
               Initialisation::normal(deviation));
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
    table("constants.rotary_cos", width / 2,
          [&](double t, int64_t i) { return std::cos(angle(t, i)); });
    table("constants.rotary_sin", width / 2,
          [&](double t, int64_t i) { return std::sin(angle(t, i)); });
  }
  if (config_.position == Position::sinusoidal) {
    table("constants.sinusoidal", config_.n_embd, [&](double t, int64_t i) {
      const double rate = std::pow(10000.0, -double(i / 2 * 2) / double(config_.n_embd));
      return i % 2 == 0 ? std::sin(t * rate) : std::cos(t * rate);
    });
  }
  return state;
}

Value Model::hidden(Parameters& parameters, Value tokens, const ForwardOptions& options) const {
  const bool two = config_.architecture == Architecture::encoder_decoder;
  check(two == bool(options.source), "[model] {}",
        two ? "an encoder_decoder needs a source" : "only an encoder_decoder reads a source");
  Value memory;
  if (two) {
    const Stack source = source_stack(config_);
    memory = Forward(parameters, config_, source, options)
                 .run(options.source, options.source_mask, {}, {});
  }
  const Stack stack = main_stack(config_);
  return Forward(parameters, config_, stack, options)
      .run(tokens, options.token_mask, memory, options.source_mask);
}

Value Model::head(Parameters& parameters, Value hidden) const {
  ScopeGuard scope(parameters.graph(), "head");
  const std::string prefix = main_stack(config_).prefix;
  return linear(hidden, parameters.get(prefix + (config_.tied ? "embed.token" : "head.weight")));
}

Value Model::logits(Parameters& parameters, Value tokens, const ForwardOptions& options) const {
  return head(parameters, hidden(parameters, tokens, options));
}

}  // namespace surtsey::experiments
