#include "experiments/models/hub/import.h"

#include "experiments/models/hub/stored_weights.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace surtsey::experiments::hub {
namespace {

constexpr int64_t kUsualContext = 2048;

experiments::Activation ungated(Activation activation, const std::string& where) {
  check(activation != Activation::silu,
        "{}: the activation {} stands behind a gate only; without one gelu, gelu_tanh and relu are supported", where,
        name(activation));
  if (activation == Activation::relu) return experiments::Activation::relu;
  return activation == Activation::gelu ? experiments::Activation::gelu : experiments::Activation::gelu_tanh;
}

RotaryScaling rotary_scaling(const LlamaConfig& model) {
  static_assert(int(RopeType::llama3) == int(RotaryKind::llama3) && int(RopeType::plain) == int(RotaryKind::plain));
  const RopeConfig& rope = model.rope;
  RotaryScaling scaling;
  scaling.kind = RotaryKind(rope.type);
  if (scaling.kind == RotaryKind::plain) return scaling;
  scaling.factor = rope.factor;
  // A length of training beside max_position_embeddings stands for the whole model (Phi's longrope).
  scaling.original = rope.original_positions;
  if (scaling.kind == RotaryKind::longrope && model.original_positions > 0) {
    scaling.original = model.original_positions;
    scaling.factor = std::max(1.0, double(model.positions) / double(model.original_positions));
  }
  if (scaling.original == 0) scaling.original = model.positions;
  scaling.low_frequency = rope.low_frequency_factor;
  scaling.high_frequency = rope.high_frequency_factor;
  scaling.beta_fast = rope.beta_fast;
  scaling.beta_slow = rope.beta_slow;
  scaling.attention_factor = rope.attention_factor;
  scaling.short_factors = rope.short_factor;
  scaling.long_factors = rope.long_factor;
  return scaling;
}

class Maker {
 public:
  Maker(const Source& source, const ContextLength& length)
      : source_(source), given_(source.config()), length_(length), where_(source.path().string()) {}

  ModelConfig make() {
    made_.vocab_size = given_.vocabulary;
    made_.tied = given_.tied;
    std::visit([this](const auto& model) { fill(model); }, given_.model);
    head();
    check_config(made_);
    return made_;
  }

 private:
  void fill(const Gpt2Config& model) {
    size(model.layers, model.heads, model.width, model.hidden, model.norm_epsilon);
    made_.block_size = learned_positions(model.positions);
    made_.activation = ungated(model.activation, where_);
    check(!model.scale_scores_by_layer, "{}: scale_attn_by_inverse_layer_idx is not supported", where_);
    if (!model.scale_scores) made_.scaling.attention_scale = 1;
  }

  void fill(const LlamaConfig& model) {
    size(model.layers, model.heads, model.width, model.hidden, model.norm_epsilon);
    made_.n_kv_head = model.kv_heads;
    made_.head_dim = model.head_dim;
    made_.block_size = length_.tokens > 0 ? length_.tokens : std::min(model.positions, kUsualContext);
    made_.position = Position::rotary;
    made_.rotary_base = model.rope.theta;
    made_.rotary_scaling = rotary_scaling(model);
    made_.norm = Norm::rms_norm;
    made_.activation = experiments::Activation::swiglu;
    made_.bias = false;
    made_.attention_bias = model.query_key_value_bias;
    made_.hidden_bias = model.mlp_bias;
    made_.output_bias = model.mlp_bias;
    made_.attention_output_bias = model.output_bias;
    made_.qk_norm = model.query_key_norm;
    if (model.windows.empty()) return;
    made_.window = model.windows.front();
    const bool same =
        std::all_of(model.windows.begin(), model.windows.end(), [&](int64_t window) { return window == made_.window; });
    check(same, "{}: layers with different windows of attention are not supported", where_);
  }

  void fill(const BertConfig& model) {
    size(model.layers, model.heads, model.width, model.hidden, model.norm_epsilon);
    made_.architecture = Architecture::encoder;
    made_.block_size = learned_positions(model.positions);
    made_.n_types = model.token_types;
    made_.norm_placement = NormPlacement::post;
    made_.embedding_norm = true;
    made_.activation = ungated(model.activation, where_);
  }

  void fill(const T5Config& model) {
    size(model.decoder_layers, model.heads, model.width, model.hidden, model.norm_epsilon);
    made_.architecture = Architecture::encoder_decoder;
    made_.n_encoder_layer = model.layers;
    made_.head_dim = model.head_dim;
    made_.block_size = length_.tokens > 0 ? length_.tokens : kUsualContext / 4;
    made_.source_size = length_.source > 0 ? length_.source : kUsualContext / 4;
    made_.position = Position::relative;
    made_.relative_buckets = model.buckets;
    made_.relative_distance = model.max_distance;
    made_.norm = Norm::rms_norm;
    made_.bias = false;
    made_.shared_embedding = true;
    made_.scaling.attention_scale = 1;
    if (model.scale_head) made_.scaling.readout_multiplier = 1 / std::sqrt(double(model.width));
    if (!model.gated) {
      made_.activation = ungated(model.activation, where_);
      return;
    }
    check(model.activation == Activation::gelu_tanh || model.activation == Activation::silu,
          "{}: a gate with the activation {} is not supported; gelu_tanh and silu are", where_, name(model.activation));
    made_.activation =
        model.activation == Activation::silu ? experiments::Activation::swiglu : experiments::Activation::geglu;
  }

  void size(int64_t layers, int64_t heads, int64_t width, int64_t hidden, double epsilon) {
    made_.n_layer = layers;
    made_.n_head = heads;
    made_.n_embd = width;
    made_.n_hidden = hidden;
    made_.norm_epsilon = epsilon;
  }

  int64_t learned_positions(int64_t positions) const {
    check(length_.tokens <= positions, "{}: {} tokens, and the model has learned {} positions", where_, length_.tokens,
          positions);
    return length_.tokens > 0 ? length_.tokens : positions;
  }

  void head() {
    const bool encoder = made_.architecture == Architecture::encoder;
    switch (given_.head) {
      case Head::language_model:
      case Head::pretraining:  // the prediction of the next sentence is left out
        made_.head = encoder ? HeadKind::masked_language : HeadKind::language;
        return;
      case Head::classification:
        made_.head = HeadKind::classify;
        made_.n_labels = given_.labels;
        made_.tied = false;
        return;
      case Head::none:
        made_.head = encoder && source_.has("pooler.weight") ? HeadKind::pooled : HeadKind::none;
        made_.tied = false;
        return;
      case Head::token_classification:
      case Head::next_sentence:
        check(false,
              "{}: a model with the head of {} is not supported; language models, masked language models, "
              "classifications of texts and models without a head are",
              where_, given_.architecture);
    }
  }

  const Source& source_;
  const Config& given_;
  const ContextLength length_;
  const std::string where_;
  ModelConfig made_;
};

}  // namespace

ModelConfig model_config(const Source& source, const ContextLength& length) { return Maker(source, length).make(); }

std::string source_name(const ModelConfig& config, std::string_view parameter) {
  const bool two = config.architecture == Architecture::encoder_decoder;
  constexpr std::string_view kDecoder = "decoder.", kEmbed = "embed.";
  std::string_view rest = parameter;
  const bool main = !two || rest.starts_with(kDecoder);
  if (two && main) rest.remove_prefix(kDecoder.size());
  if (main && rest == "embed.token") return "embedding.weight";
  if (main && rest.starts_with(kEmbed)) return fmt::format("embedding.{}", rest.substr(kEmbed.size()));
  if (main && (rest.starts_with("head.") || rest.starts_with("pooler."))) return std::string(rest);
  std::string name(parameter);
  const size_t blocks = name.find("blocks.");
  if (blocks != std::string::npos) name.replace(blocks, 7, "layers.");
  return name;
}

namespace {

using Write = std::function<void(const std::string& state, std::span<const std::byte> bytes)>;

// Writes parts of frozen tensors; those of tensors that are kept together once they are all there, rows below rows.
class FrozenWriter {
 public:
  FrozenWriter(const Model& model, const Write& write) : write_(write) {
    for (const auto& [name, type] : model.store().frozen_state())
      bytes_[name] = size_t(graph::element_count(type.shape) * graph::storage_bytes(type.dtype));
  }

  void write(const graph::FrozenPart& part, std::span<const std::byte> bytes) {
    const size_t all = bytes_.at(part.state);
    if (bytes.size() == all) return write_(part.state, bytes);
    std::vector<std::byte>& rows = begun_[part.state];
    ensure(rows.size() == size_t(part.first * graph::storage_bytes(part.type.dtype)), "{} is read out of order",
           part.state);
    rows.insert(rows.end(), bytes.begin(), bytes.end());
    if (rows.size() < all) return;
    write_(part.state, rows);
    begun_.erase(part.state);
  }

 private:
  const Write& write_;
  std::map<std::string, size_t> bytes_;                  // by state tensor
  std::map<std::string, std::vector<std::byte>> begun_;  // what there is of one so far
};

// The bytes of a frozen tensor's parts as its storage has them.
std::vector<std::vector<std::byte>> part_bytes(const graph::ParameterSpec& spec, const Stored& stored) {
  const auto count = size_t(graph::element_count(spec.shape));
  const std::optional<StoredType> kept = stored_type(spec.storage->name);
  if (kept == stored.type && is_block_type(*kept)) return block_part_bytes(*kept, spec.shape, stored.bytes);
  std::vector<float> numbers(size_t(graph::element_count(stored.shape)));
  dequantize_row(stored.type, stored.bytes, numbers);
  numbers.resize(count);
  if (kept == StoredType::f32) {
    const auto bytes = std::as_bytes(std::span(numbers));
    return {{bytes.begin(), bytes.end()}};
  }
  std::vector<std::vector<std::byte>> parts;
  const graph::HostTensor tensor({graph::DType::f32, spec.shape}, {numbers.begin(), numbers.end()});
  for (const graph::HostTensor& part : spec.storage->pack(tensor)) parts.push_back(part.to_bytes());
  return parts;
}

Stored read_parameter(const Source& source, const Model& model, const graph::ParameterSpec& spec) {
  const std::string name = source_name(model.config(), spec.name);
  Stored stored = source.read_stored(name);
  // A table of positions may be longer than texts are to be.
  const int64_t count = graph::element_count(spec.shape), given = graph::element_count(stored.shape);
  ensure(given == count || (name == "embedding.position" && given > count), "{}: {} has {} numbers, {} wants {}",
         source.path().string(), name, given, spec.name, count);
  return stored;
}

}  // namespace

void read_frozen(const Source& source, const Model& model, const Write& write) {
  FrozenWriter frozen(model, write);
  for (const graph::ParameterSpec& spec : model.store().specs()) {
    if (!spec.frozen() || spec.name.starts_with(kAdapterPrefix)) continue;
    const Stored stored = read_parameter(source, model, spec);
    if (stored_type(spec.storage->name) == stored.type && !is_block_type(stored.type)) {
      // As it is: the most of a large model, copied no more than it must be.
      const auto count = graph::element_count(spec.shape);
      frozen.write(model.store().frozen_parts(spec)[0],
                   std::span(stored.bytes).first(size_t(count * block_bytes(stored.type))));
      continue;
    }
    const std::vector<graph::FrozenPart> parts = model.store().frozen_parts(spec);
    const std::vector<std::vector<std::byte>> bytes = part_bytes(spec, stored);
    for (size_t i = 0; i < parts.size(); ++i) frozen.write(parts[i], bytes[i]);
  }
}

void read_weights(const Source& source, const Model& model, const Write& write) {
  read_frozen(source, model, write);
  graph::State trained;
  for (const graph::ParameterSpec& spec : model.store().specs()) {
    if (spec.frozen() || spec.name.starts_with(kAdapterPrefix)) continue;
    const Stored stored = read_parameter(source, model, spec);
    std::vector<float> numbers(size_t(graph::element_count(stored.shape)));
    dequantize_row(stored.type, stored.bytes, numbers);
    graph::HostTensor tensor = graph::HostTensor::zeros({graph::DType::f32, spec.shape});
    std::copy_n(numbers.begin(), tensor.values.size(), tensor.values.begin());
    trained.emplace(spec.name, std::move(tensor));
  }
  if (!trained.empty()) write(graph::kParameters, model.store().pack(trained).to_bytes());
}

}  // namespace surtsey::experiments::hub
