// The forward pass of a model as a graph.
#include "experiments/base/join.h"
#include "experiments/models/model.h"
#include "experiments/models/row_layout.h"
#include "experiments/models/stack.h"
#include "graph/attention.h"
#include "graph/functions.h"

#include <algorithm>
#include <source_location>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Parameters;
using graph::ScopeGuard;
using graph::Shape;
using graph::Value;

class Forward {
 public:
  Forward(Parameters& parameters, const Model& model, const Stack& stack, const ForwardOptions& options)
      : parameters_(parameters), model_(model), config_(model.config()), stack_(stack), options_(options) {}

  // tokens [B, T] -> [B, T, C]. `key_mask` masks self-attention, `memory` [B, S, C] and its mask
  // are what cross-attention reads.
  Value run(Value tokens, Value key_mask, Value memory, Value memory_mask) {
    if (config_.input_size > 0) {
      check(tokens.rank() == 3 && tokens.dtype() == DType::f32 && tokens.dim(2) == config_.input_size,
            "[model] the input is {}, not f32[B,T,{}]", to_string(tokens.type()), config_.input_size);
    } else {
      check(tokens.rank() == 2 && tokens.dtype() == DType::u32, "[model] tokens are {}, not u32[B,T]",
            to_string(tokens.type()));
    }
    check(tokens.dim(1) + before() <= stack_.length, "[model] {} tokens exceed the {} positions of the {}",
          tokens.dim(1) + before(), stack_.length, stack_.prefix.empty() ? "model" : stack_.prefix);
    check_cache(tokens.dim(1));
    Value x = blocks(embed(tokens), with_before(key_mask, 1), memory, memory_mask);
    if (prompted()) x = slice(x, 1, before(), x.dim(1));
    if (config_.norm_placement == NormPlacement::pre) x = norm(x, stack_.prefix + "norm");
    return x;
  }

  // What the blocks make of embeddings [B, T, C].
  Value blocks(Value x, Value key_mask, Value memory, Value memory_mask) {
    x = point("embed", x);
    if (config_.position == Position::relative) bias_ = relative_bias(x.dim(1));
    for (int64_t i = 0; i < stack_.layers; ++i) {
      const std::string block = fmt::format("{}blocks.{}", stack_.prefix, i);
      ScopeGuard scope(graph(), block);
      x = branch(x, block, "norm1", "attention",
                 [&](Value h, const std::string& name) { return attention(h, h, key_mask, name, true); });
      if (stack_.cross) {
        x = branch(x, block, "norm_cross", "cross",
                   [&](Value h, const std::string& name) { return attention(h, memory, memory_mask, name, false); });
      }
      if (config_.mlp) {
        x = branch(x, block, "norm2", "mlp", [&](Value h, const std::string& name) { return mlp(h, name); });
      }
      x = point(fmt::format("blocks.{}.residual", i), x);
    }
    return x;
  }

  // The activations [.., C] behind the layer that a masked language model has before its logits.
  Value transform(Value x) {
    ScopeGuard scope(graph(), "head");
    return norm(graph::gelu_erf(project(x, stack_.prefix + "head.transform", true)), stack_.prefix + "head.norm");
  }

  // x [.., in] by one matrix, through the hooks: [.., out]. The scope is the last word of its name.
  Value project(Value x, const std::string& name, const std::string& weight, const std::string& bias,
                std::source_location where = std::source_location::current()) {
    ScopeGuard scope(graph(), name.substr(name.rfind('.') + 1), where);
    const Projection one = matrix(x, name, weight, bias);
    const Value value = hooked(one);
    return value ? value : one.plain();
  }
  Value project(Value x, const std::string& name, bool biased,
                std::source_location where = std::source_location::current()) {
    return project(x, name, name + ".weight", biased ? name + ".bias" : "", where);
  }

  // Keys and values of `memory` [B, S, C] for the cross-attention of every block, into the cache.
  void remember_memory(Value memory) {
    for (int64_t i = 0; i < stack_.layers; ++i) {
      const std::string name = fmt::format("{}blocks.{}.cross", stack_.prefix, i);
      ScopeGuard scope(graph(), name);
      const std::vector<Value> kv = cross_keys(memory, name);
      for (size_t part = 0; part < 2; ++part) {
        const Value value = by_head(kv[part]);
        const std::vector<Value> kept = model_.cache_storage().keep(value);
        const std::vector<Value> states = cache(name, kCached[part], value.dim(0), value.dim(2));
        for (size_t i = 0; i < kept.size(); ++i) graph().assign(states[i], kept[i]);
      }
    }
  }

  // Virtual tokens into the caches of so many rows.
  void remember_virtual(int64_t rows) {
    if (model_.virtual_tokens().embeddings) {
      filling_ = true;
      Value x = of_all_rows(model_.virtual_tokens().embeddings(parameters_), rows);
      blocks(with_places(x, {}), {}, {}, {});
      return;
    }
    for (int64_t i = 0; i < stack_.layers; ++i) {
      const std::string name = fmt::format("{}blocks.{}.attention", stack_.prefix, i);
      ScopeGuard scope(graph(), name);
      const std::array<Value, 2> kv = model_.virtual_tokens().keys(parameters_, name);
      for (size_t part = 0; part < 2; ++part) {
        written(name, kCached[part], of_all_rows(kv[part], rows), graph::scalar(graph(), 0, DType::u32));
      }
    }
  }

 private:
  static constexpr const char* kCached[] = {"key", "value"};

  graph::Graph& graph() const { return parameters_.graph(); }

  bool cached() const { return options_.cache_length > 0 && stack_.causal; }
  // Columns of a cache's state: each row of the batch begins where devices bind a part of it (engine::Members).
  int64_t cache_length() const {
    constexpr int64_t kAligned = 16;
    const auto aligned = [&](int64_t columns) {
      const auto parts = model_.cache_storage().parts({config_.kv_heads(), columns, config_.head_width()});
      return std::all_of(parts.begin(), parts.end(), [](const graph::StoredPart& part) {
        return graph::element_count(part.type.shape) * graph::storage_bytes(part.type.dtype) % kAligned == 0;
      });
    };
    int64_t length = options_.cache_length + before();
    while (!aligned(length)) ++length;
    return length;
  }
  // Columns of the cache that are looked at.
  int64_t visible() const {
    if (filling_) return before();
    return before() + (options_.visible_length > 0 ? options_.visible_length : options_.cache_length);
  }
  // Where the first token at hand stands.
  Value position() const {
    if (filling_) return graph::scalar(graph(), 0, DType::u32);
    if (!cached()) return graph::scalar(graph(), double(before()), DType::u32);
    return before() > 0 ? options_.position + graph::scalar(graph(), double(before()), DType::u32) : options_.position;
  }

  // ---- virtual tokens ----

  int64_t before() const { return model_.virtual_tokens().count; }
  // They go through the blocks in front of a text.
  bool prompted() const { return before() > 0 && model_.virtual_tokens().embeddings && !cached(); }
  // Their keys and values stand before those of a text that is read as a whole.
  bool prefixed() const { return before() > 0 && model_.virtual_tokens().keys && !cached(); }

  Value of_all_rows(Value x, int64_t rows) const {
    Shape shape = x.shape();
    shape.insert(shape.begin(), rows);
    return broadcast(x, shape);
  }
  // What a text has for each of its tokens, [B, T], with `value` for those before it; empty stays empty.
  Value with_before(Value of_tokens, double value) const {
    if (!of_tokens || (!prompted() && !prefixed())) return of_tokens;
    const Value first = graph::constant(graph(), value, {of_tokens.dtype(), {of_tokens.dim(0), before()}});
    return graph::concat({first, of_tokens}, 1);
  }

  void check_cache(int64_t tokens) const {
    if (options_.cache_length == 0) return;
    check(options_.position && options_.position.type() == graph::Type{DType::u32, {}},
          "[model] a key/value cache needs a position, u32 []");
    check(config_.architecture != Architecture::encoder, "[model] an encoder has no cache");
    const int64_t seen = visible() - before();
    check(tokens <= seen && seen <= options_.cache_length,
          "[model] {} tokens exceed the {} positions of the cache, or what is seen of it, {}", tokens,
          options_.cache_length, seen);
  }

  // What the options put in the place of a value of the residual stream.
  Value point(const std::string& name, Value x) const {
    return options_.residual ? options_.residual(stack_.prefix + name, x) : x;
  }

  bool training() const { return config_.dropout > 0 && options_.seed && options_.step; }

  Value drop(Value x, const std::string& place) const {
    if (!training()) return x;
    return dropout(x, config_.dropout, options_.seed, options_.step, "dropout." + place);
  }

  // The rows of a table by position that `length` tokens stand at: [length, ..], or [B, length, ..] where each row of
  // the batch has positions of its own.
  Value rows_at(Value table, int64_t length) const {
    if (options_.positions) return gather(table, positions());
    const int64_t first = prefixed() ? before() : 0;
    if (!cached()) return slice(table, 0, first, first + length);
    return gather(table, iota(graph(), {DType::u32, {length}}, 0) + position());
  }

  // ForwardOptions::positions behind virtual tokens, and theirs.
  Value positions() const {
    if (before() == 0) return options_.positions;
    const Value shifted = options_.positions + graph::scalar(graph(), double(before()), DType::u32);
    if (!prompted()) return shifted;
    const Value first = iota(graph(), {DType::u32, {before()}}, 0);
    return graph::concat({of_all_rows(first, shifted.dim(0)), shifted}, 1);
  }

  Value table(const char* name, int64_t rows, int64_t columns, int64_t length) const {
    return rows_at(graph().parameter(name, {DType::f32, {rows, columns}}), length);
  }

  int64_t table_rows() const { return std::max(config_.block_size, config_.source_length()); }

  Value embed(Value tokens) {
    ScopeGuard scope(graph(), stack_.prefix + "embed");
    const std::string input = stack_.prefix + "embed.input";
    const std::string owner = config_.shared_embedding ? main_stack(config_).prefix : stack_.prefix;
    Value x =
        config_.input_size > 0 ? project(tokens, input, input, "") : parameters_.rows(owner + "embed.token", tokens);
    if (prompted()) x = graph::concat({of_all_rows(model_.virtual_tokens().embeddings(parameters_), x.dim(0)), x}, 1);
    return with_places(x, prompted() ? with_before(options_.token_types, 0) : options_.token_types);
  }

  // Embeddings [B, T, C] with what kinds (u32 [B, T] or empty) and positions add to them.
  Value with_places(Value x, Value token_types) {
    const int64_t length = x.dim(1);
    if (config_.n_types > 0) {
      const std::string types = stack_.prefix + "embed.type";
      x = x + (token_types ? parameters_.rows(types, token_types) : slice(parameters_.get(types), 0, 0, 1));
    }
    if (config_.position == Position::learned) {
      x = x + rows_at(parameters_.get(stack_.prefix + "embed.position"), length);
    } else if (config_.position == Position::sinusoidal) {
      x = x + table("constants.sinusoidal", table_rows(), config_.n_embd, length);
    }
    if (config_.embedding_norm) x = norm(x, stack_.prefix + "embed.norm");
    return drop(x, stack_.prefix + "embed");
  }

  // What a key's distance adds to its scores, [1, H, T, S].
  Value relative_bias(int64_t queries) {
    ScopeGuard scope(graph(), stack_.prefix + "relative");
    const int64_t rows = table_rows();
    const int64_t keys = cached() ? visible() : queries;
    const Value buckets =
        graph().parameter(fmt::format("constants.{}relative", stack_.prefix), {DType::u32, {2 * rows - 1}});
    const Value by_distance = gather(parameters_.get(stack_.prefix + "relative.weight"), buckets);  // [2R - 1, H]
    Value query = iota(graph(), {DType::u32, {queries, 1}}, 0);
    if (cached()) query = query + position();
    const Value key = iota(graph(), {DType::u32, {1, keys}}, 1) + graph::scalar(graph(), double(rows - 1), DType::u32);
    return reshape(permute(gather(by_distance, key - query), {2, 0, 1}), {1, config_.n_head, queries, keys});
  }

  // x + f(norm(x)), or norm(x + f(x)).
  template <typename Function>
  Value branch(Value x, const std::string& block, const std::string& norm_name, const std::string& name,
               Function&& function, std::source_location where = std::source_location::current()) {
    ScopeGuard scope(graph(), name, where);
    const std::string path = fmt::format("{}.{}", block, name);
    const std::string norm_path = fmt::format("{}.{}", block, norm_name);
    const bool pre = config_.norm_placement == NormPlacement::pre;
    const Value change = drop(function(pre ? norm(x, norm_path) : x, path), path);
    return pre ? x + change : norm(x + change, norm_path);
  }

  Value norm(Value x, const std::string& name) {
    if (config_.norm == Norm::none) return x;
    ScopeGuard scope(graph(), name.substr(name.rfind('.') + 1));
    const Value weight = parameters_.get(name + ".weight");
    const Value bias = config_.has_norm_bias() ? parameters_.get(name + ".bias") : Value{};
    return config_.norm == Norm::layer_norm ? layer_norm(x, weight, bias, config_.norm_epsilon)
                                            : rms_norm(x, weight, bias, config_.norm_epsilon);
  }

  // What the first `count` hooks make of a matrix; an empty value where all of them leave it as it is.
  Value hooked(const Projection& matrix, size_t count) const {
    if (count == 0) return {};
    Projection inner = matrix;
    inner.of = [this, matrix, count](Value x) {
      Projection other = matrix;
      other.x = x;
      const Value value = hooked(other, count - 1);
      return value ? value : other.plain();
    };
    const Value value = model_.hooks()[count - 1](inner);
    return value ? value : hooked(matrix, count - 1);
  }

  Value hooked(const Projection& matrix) const { return hooked(matrix, model_.hooks().size()); }

  Projection matrix(Value x, const std::string& name, const std::string& weight, const std::string& bias) const {
    const auto of = [&parameters = parameters_, weight, bias](Value input) {
      return linear(input, parameters.get(weight), bias.empty() ? Value{} : parameters.get(bias));
    };
    const bool draws = options_.seed && options_.step;
    return {
        parameters_,     name, weight, bias, x, of, draws ? options_.seed : Value{}, draws ? options_.step : Value{},
        options_.adapter};
  }

  Projection matrix(Value x, const std::string& name, bool biased) const {
    return matrix(x, name, name + ".weight", biased ? name + ".bias" : "");
  }

  // The projections of x by prefix + part, [.., out] each. Empty, and nothing built, where they can be one product.
  std::vector<Value> separate(Value x, const std::string& prefix, const std::vector<std::string>& parts, bool biased) {
    std::vector<Value> results;
    std::vector<std::string> weights, biases;
    bool apart = false;
    for (const std::string& part : parts) {
      ScopeGuard scope(graph(), part);
      const Projection one = matrix(x, prefix + part, biased);
      results.push_back(hooked(one));
      apart = apart || results.back();
      weights.push_back(one.weight);
      if (biased) biases.push_back(one.bias);
    }
    if (!apart && parameters_.joins(weights) && parameters_.joins(biases)) return {};
    for (size_t i = 0; i < parts.size(); ++i) {
      ScopeGuard scope(graph(), parts[i]);
      if (!results[i]) results[i] = matrix(x, prefix + parts[i], biased).plain();
    }
    return results;
  }

  // One matmul for several projections that lie side by side; its scope is named after them.
  Value fused(Value x, const std::string& prefix, const std::vector<std::string>& parts, bool biased,
              std::source_location where = std::source_location::current()) {
    ScopeGuard scope(graph(), join(parts, "_"), where);
    const auto names = [&](const char* suffix) {
      std::vector<std::string> list;
      for (const std::string& part : parts) list.push_back(prefix + part + suffix);
      return list;
    };
    return linear(x, parameters_.joined(names(".weight")), biased ? parameters_.joined(names(".bias")) : Value{});
  }

  // [B, T, n D] -> [B, T, n, D]
  Value heads(Value x) const { return reshape(x, {x.dim(0), x.dim(1), -1, config_.head_width()}); }

  Value rotate(Value x) const {
    const int64_t half = config_.head_width() / 2;
    const auto read = [&](const char* name) {
      const Value rows = table(name, table_rows(), half, x.dim(1));
      Shape shape = rows.shape();
      shape.insert(shape.end() - 1, 1);
      return reshape(rows, shape);
    };
    return rotary(x, read("constants.rotary_cos"), read("constants.rotary_sin"));
  }

  static Value by_head(Value x) { return permute(x, {0, 2, 1, 3}); }

  std::vector<Value> heads(const std::vector<Value>& list) const {
    std::vector<Value> result;
    for (const Value& x : list) result.push_back(heads(x));
    return result;
  }

  // The keys and the values of cross-attention, [B, S, K, D] each.
  std::vector<Value> cross_keys(Value memory, const std::string& name) {
    const int64_t K = config_.kv_heads();
    const bool biased = config_.has_attention_bias();
    const std::vector<Value> apart = separate(memory, name + ".", {"k", "v"}, biased);
    if (!apart.empty()) return heads(apart);
    return split(heads(fused(memory, name + ".", {"k", "v"}, biased)), 2, {K, K});
  }

  // The RMSNorm over each head that qk_norm asks for.
  Value normed(Value x, const std::string& name, const char* part) {
    if (!config_.qk_norm) return x;
    ScopeGuard scope(graph(), part);
    return rms_norm(x, parameters_.get(fmt::format("{}.{}.weight", name, part)), {}, config_.norm_epsilon);
  }

  // The queries, keys and values of self-attention, turned by their positions where these are rotary:
  // [B, T, H, D] and [B, T, K, D] twice.
  std::vector<Value> self_heads(Value x, const std::string& name) {
    const int64_t H = config_.n_head;
    const int64_t K = config_.kv_heads();
    const bool biased = config_.has_attention_bias();
    const bool turns = config_.position == Position::rotary;
    const auto turned_apart = [&](const std::vector<Value>& parts) {
      const Value q = normed(parts[0], name, "q_norm"), k = normed(parts[1], name, "k_norm");
      return turns ? std::vector<Value>{rotate(q), rotate(k), parts[2]} : std::vector<Value>{q, k, parts[2]};
    };
    const std::vector<Value> apart = heads(separate(x, name + ".", {"q", "k", "v"}, biased));
    if (!apart.empty()) return turned_apart(apart);
    const Value qkv = heads(fused(x, name + ".", {"q", "k", "v"}, biased));
    if (config_.qk_norm || !turns) return turned_apart(split(qkv, 2, {H, K, K}));
    // Queries and keys turn by the same angles, so they turn together.
    const std::vector<Value> parts = split(qkv, 2, {H + K, K});
    const std::vector<Value> turned = split(rotate(parts[0]), 2, {H, K});
    return {turned[0], turned[1], parts[1]};
  }

  // The state tensors that keys or values [rows, K, length, D] are kept in.
  std::vector<Value> cache(const std::string& name, const char* part, int64_t rows, int64_t length) const {
    std::vector<Value> states;
    for (const graph::StoredPart& stored :
         model_.cache_storage().parts({rows, config_.kv_heads(), length, config_.head_width()}))
      states.push_back(graph().parameter(fmt::format("cache.{}.{}{}", name, part, stored.suffix), stored.type));
    return states;
  }

  // Those of self-attention, with x [B, K, T, D] written into them from column `start` on.
  std::vector<Value> written(const std::string& name, const char* part, Value x, Value start) const {
    std::vector<Value> states = cache(name, part, x.dim(0), cache_length());
    const std::vector<Value> kept = model_.cache_storage().keep(x);
    for (size_t i = 0; i < states.size(); ++i) {
      const Value whole = slice_update(states[i], kept[i], start, 2);
      graph().assign(states[i], whole);
      states[i] = whole;
    }
    return states;
  }

  // x [B, K, T, D] written into the cache at the position; what is looked at of it, [B, K, S, D]. Of x too that is what
  // the cache holds, so that a column is the same to the token at it and to those behind.
  Value remember(const std::string& name, const char* part, Value x) const {
    std::vector<Value> states = written(name, part, x, position());
    for (Value& state : states)
      if (visible() < state.dim(2)) state = slice(state, 2, 0, visible());
    return model_.cache_storage().unpack(states, config_.head_width());
  }

  // What a program before has put there.
  Value remembered(const std::string& name, const char* part, int64_t rows, int64_t length) const {
    return model_.cache_storage().unpack(cache(name, part, rows, length), config_.head_width());
  }

  Value attention(Value x, Value memory, Value key_mask, const std::string& name, bool self) {
    Value q, k, v;  // [B, heads, T, D]
    if (self) {
      const std::vector<Value> parts = self_heads(x, name);
      q = by_head(parts[0]);
      k = by_head(parts[1]);
      v = by_head(parts[2]);
      if (cached()) {
        k = remember(name, kCached[0], k);
        v = remember(name, kCached[1], v);
      }
      if (prefixed()) {
        const std::array<Value, 2> kv = model_.virtual_tokens().keys(parameters_, name);
        k = graph::concat({of_all_rows(kv[0], x.dim(0)), k}, 2);
        v = graph::concat({of_all_rows(kv[1], x.dim(0)), v}, 2);
      }
    } else {
      if (memory) {
        const std::vector<Value> kv = cross_keys(memory, name);
        k = by_head(kv[0]);
        v = by_head(kv[1]);
      } else {
        k = remembered(name, kCached[0], x.dim(0), config_.source_length());
        v = remembered(name, kCached[1], x.dim(0), config_.source_length());
      }
      q = by_head(heads(project(x, name + ".q", config_.has_attention_bias())));
    }
    graph::AttentionOptions options;
    options.causal = self && stack_.causal;
    options.window = self ? config_.window : 0;
    if (self && (cached() || (prefixed() && (options.causal || options.window > 0)))) options.position = position();
    options.key_mask = key_mask;
    if (self) options.first_key = options_.starts;
    if (self) options.bias = bias_;
    const bool linear = config_.attention == AttentionKind::linear;
    if (linear) options.scale = 1 / double(config_.block_size);
    if (config_.scaling.attention_scale > 0) options.scale = config_.scaling.attention_scale;
    if (training() && !linear) {
      options.dropout = config_.dropout;
      options.seed = options_.seed;
      options.step = options_.step;
      options.stream = "dropout." + name + ".probabilities";
    }
    const Value mixed = mix(q, k, v, options);
    return project(reshape(by_head(mixed), {x.dim(0), x.dim(1), -1}), name + ".out",
                   config_.has_attention_output_bias());
  }

  // The scores, their softmax or not, times the values.
  Value mix(Value q, Value k, Value v, const graph::AttentionOptions& options) {
    ScopeGuard scope(graph(), "mix");
    return config_.attention == AttentionKind::linear ? linear_attention(q, k, v, options)
                                                      : scaled_dot_product_attention(q, k, v, options).out;
  }

  Value activate(Value x) {
    ScopeGuard scope(graph(), "activation");
    if (config_.activation == Activation::relu) return graph::max(x, graph::scalar(graph(), 0, x.dtype()));
    return config_.activation == Activation::gelu ? gelu_erf(x) : graph::gelu_tanh(x);
  }

  Value mlp(Value x, const std::string& name) {
    const bool biased = config_.has_hidden_bias();
    const int64_t F = config_.hidden();
    Value h;
    if (config_.is_gated()) {
      std::vector<Value> parts = separate(x, name + ".", {"up", "gate"}, biased);
      if (parts.empty()) parts = split(fused(x, name + ".", {"up", "gate"}, biased), -1, {F, F});
      ScopeGuard scope(graph(), "activation");
      h = config_.activation == Activation::swiglu ? graph::swiglu(parts[1], parts[0])
                                                   : graph::gelu_tanh(parts[1]) * parts[0];
    } else {
      h = activate(project(x, name + ".up", biased));
    }
    return project(h, name + ".down", config_.has_output_bias());
  }

  Parameters& parameters_;
  const Model& model_;
  const ModelConfig& config_;
  const Stack& stack_;
  const ForwardOptions& options_;
  Value bias_;            // of the scores of self-attention, with relative positions
  bool filling_ = false;  // virtual tokens go through the blocks alone, into the caches
};

}  // namespace

Value Model::encode(Parameters& parameters, Value source, Value source_mask) const {
  check(config_.architecture == Architecture::encoder_decoder, "[model] only an encoder_decoder encodes a source");
  const ForwardOptions options;
  return Forward(parameters, *this, source_stack(config_), options).run(source, source_mask, {}, {});
}

Value Model::hidden(Parameters& parameters, Value tokens, const ForwardOptions& given) const {
  const ForwardOptions options = with_positions(*this, tokens, given);
  const bool two = config_.architecture == Architecture::encoder_decoder;
  const bool reads_source = two && options.cache_length == 0 && !options.memory;
  check(reads_source == bool(options.source), "[model] {}",
        reads_source ? "an encoder_decoder needs a source" : "only an encoder_decoder without a cache reads a source");
  Value memory = options.memory;
  if (reads_source) {
    const Stack source = source_stack(config_);
    memory = Forward(parameters, *this, source, options).run(options.source, options.source_mask, {}, {});
  }
  const Stack stack = main_stack(config_);
  const Value mask = mask_of(*this, tokens, options);
  return Forward(parameters, *this, stack, options).run(tokens, mask, memory, options.source_mask);
}

void Model::remember_source(Parameters& parameters, Value source, Value source_mask) const {
  check(config_.architecture == Architecture::encoder_decoder && source.rank() == 2 &&
            source.dim(1) == config_.source_length(),
        "[model] an encoder_decoder's cache takes a source u32[B,{}]", config_.source_length());
  const ForwardOptions options;
  const Value memory = encode(parameters, source, source_mask);
  Forward(parameters, *this, main_stack(config_), options).remember_memory(memory);
}

void Model::remember_virtual(Parameters& parameters, int64_t rows, int64_t cache_length) const {
  check(virtual_.count > 0 && cache_length > 0, "[model] virtual tokens are remembered where there are some");
  ForwardOptions options;
  options.cache_length = cache_length;
  Forward(parameters, *this, main_stack(config_), options).remember_virtual(rows);
}

Value Model::pooled(Parameters& parameters, Value hidden) const {
  check(config_.has_pooler(), "[model] a model without a pooler");
  const Stack stack = main_stack(config_);
  const ForwardOptions options;
  const Value first = reshape(slice(hidden, 1, 0, 1), {hidden.dim(0), hidden.dim(2)});
  return tanh(Forward(parameters, *this, stack, options).project(first, stack.prefix + "pooler", true));
}

Value Model::head(Parameters& parameters, Value hidden, const ForwardOptions& given) const {
  check(config_.has_logits(), "[model] a model without logits");
  const Stack stack = main_stack(config_);
  const ForwardOptions options;
  Forward forward(parameters, *this, stack, options);
  if (config_.head == HeadKind::masked_language) hidden = forward.transform(hidden);
  if (config_.head == HeadKind::classify)
    hidden = config_.classifies_first() ? pooled(parameters, hidden) : last_of(hidden, given.lengths);
  const std::string weight = config_.tied ? "embed.token" : "head.weight";
  const Value logits = forward.project(hidden, stack.prefix + "head", stack.prefix + weight,
                                       config_.has_head_bias() ? stack.prefix + "head.bias" : "");
  if (config_.scaling.readout_multiplier == 1) return logits;
  ScopeGuard scope(parameters.graph(), "head");
  return logits * config_.scaling.readout_multiplier;
}

Value Model::logits(Parameters& parameters, Value tokens, const ForwardOptions& options) const {
  return head(parameters, hidden(parameters, tokens, options), options);
}

}  // namespace surtsey::experiments
