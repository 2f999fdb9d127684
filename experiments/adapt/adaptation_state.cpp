// Where an adaptation starts, and what is frozen of it.
#include "experiments/adapt/adaptation.h"

#include "experiments/adapt/quantize.h"
#include "experiments/formats/quant.h"
#include "experiments/models/hub/import.h"
#include "graph/random.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

using graph::HostTensor;

constexpr std::string_view kNorm = ".weight_norm";
constexpr std::string_view kMagnitude = ".lora_magnitude_vector";

// Rounded to what a storage keeps.
HostTensor rounded(HostTensor tensor, const std::string& storage) {
  if (storage == "int8" || storage == "int4") {
    const int64_t columns = tensor.type.shape.back();
    const int bits = storage == "int8" ? 8 : 4;
    for (size_t at = 0; at < tensor.values.size(); at += size_t(columns)) {
      const float scale = row_scale(tensor.values.data() + at, columns, bits);
      for (size_t i = at; i < at + size_t(columns); ++i)
        tensor.values[i] = double(scale) * double(row_level(tensor.values[i], scale, bits));
    }
    tensor.round_to_storage();
    return tensor;
  }
  const std::optional<StoredType> type = stored_type(storage);
  if (!type || *type == StoredType::f32) return tensor;
  std::vector<float> numbers(tensor.values.begin(), tensor.values.end());
  const int64_t columns = tensor.type.shape.back();
  std::vector<std::byte> bytes(size_t(row_bytes(*type, columns)) * (numbers.size() / size_t(columns)));
  quantize_row(*type, numbers, bytes);
  dequantize_row(*type, bytes, numbers);
  return {tensor.type, {numbers.begin(), numbers.end()}};
}

}  // namespace

// A tensor of the base as the model keeps it.
HostTensor Adaptation::kept(const Model& model, const std::string& parameter) const {
  const graph::ParameterSpec& spec = model.store().spec(parameter);
  HostTensor tensor = base_(parameter);
  if (!spec.frozen()) return tensor;
  if (source_ != nullptr) {
    const std::string name = hub::source_name(model_, parameter);
    for (const hub::TensorInfo& info : source_->tensors())
      if (info.name == name && stored_type(spec.storage->name) == info.type) return tensor;
  }
  return rounded(std::move(tensor), spec.storage->name);
}

std::vector<double> Adaptation::squared_norms(const Model& model, const Module& module) const {
  const auto [found, fresh] = norms_.try_emplace(module.name);
  if (!fresh) return found->second;
  std::vector<double>& norms = found->second;
  norms.assign(size_t(module.out), 0);
  for (const ModulePart& part : module.parts) {
    const HostTensor weight = kept(model, part.weight);
    for (int64_t row = 0; row < part.rows; ++row) {
      const double* const values = weight.values.data() + row * module.in;
      double sum = 0;
      for (int64_t i = 0; i < module.in; ++i) sum += values[i] * values[i];
      norms[size_t(part.first_row + row)] = sum;
    }
  }
  return norms;
}

// Embeddings of tokens: of a text's, or drawn.
HostTensor Adaptation::prompt_start(const AdaptStart& start) const {
  const bool text = config_.prompt_tuning_init == "TEXT";
  const int64_t count = config_.num_virtual_tokens, V = model_.vocab_size, C = model_.n_embd;
  check(!text || !start.prompt_tokens.empty(), "prompt_tuning_init_text has no tokens");
  const HostTensor table = base_(stack_prefix() + "embed.token");
  HostTensor rows = HostTensor::zeros({graph::DType::f32, {count, C}});
  const uint32_t key = graph::stream_seed(start.seed, "prompt_embeddings.tokens");
  for (int64_t i = 0; i < count; ++i) {
    int64_t token = int64_t(graph::random_bits(key, 0, uint32_t(i)) % uint64_t(V));
    if (text) token = start.prompt_tokens[size_t(i) % start.prompt_tokens.size()];
    check(token >= 0 && token < V, "prompt_tuning_init_text has the token {}; there are 0 to {}", token, V - 1);
    std::copy_n(table.values.begin() + token * C, C, rows.values.begin() + i * C);
  }
  return rows;
}

HostTensor Adaptation::start(const Model& model, const AdaptStart& start) const {
  graph::State state = model.store().unpack(model.store().initialise(start.seed));
  for (const std::string& name : trained_)
    if (!is_new(name)) state[name] = base_(name);
  for (const Target& target : targets_) {
    if (!config_.use_dora || config_.method != AdaptMethod::lora) break;
    const Module& module = modules_[target.module];
    HostTensor& magnitude = state.at(hub::kAdapterPrefix + module.name + std::string(kMagnitude));
    magnitude.values = squared_norms(model, module);
    for (double& value : magnitude.values) value = std::sqrt(value);
    magnitude.round_to_storage();
  }
  if (config_.method == AdaptMethod::prompt && config_.prompt_tuning_init != "RANDOM")
    state[std::string(hub::kAdapterPrefix) + "prompt_embeddings"] = prompt_start(start);
  for (const auto& [name, tensor] : tensors_) state[name] = tensor;
  return model.store().pack(state);
}

// Tensors that are made of the base.
void Adaptation::write_made(const Model& model,
                            const std::function<void(const std::string&, const HostTensor&)>& write) const {
  for (const Target& target : targets_) {
    const Module& module = modules_[target.module];
    const std::string name = hub::kAdapterPrefix + module.name + std::string(kNorm);
    if (!model.store().contains(name)) continue;
    HostTensor norms({graph::DType::f32, {module.out}}, squared_norms(model, module));
    norms.round_to_storage();
    write(graph::kFrozen + name, norms);
  }
}

void Adaptation::write_base(const Model& model,
                            const std::function<void(const std::string&, std::span<const std::byte>)>& write) const {
  write_made(model, [&](const std::string& name, const HostTensor& tensor) { write(name, tensor.to_bytes()); });
  if (source_ != nullptr) return hub::read_frozen(*source_, model, write);
  for (const graph::ParameterSpec& spec : model.store().specs()) {
    if (!spec.frozen() || spec.name.starts_with(hub::kAdapterPrefix)) continue;
    const std::vector<graph::StoredPart> parts = spec.storage->parts(spec.shape);
    const std::vector<HostTensor> stored = spec.storage->pack(base_(spec.name));
    for (size_t i = 0; i < parts.size(); ++i) write(graph::kFrozen + spec.name + parts[i].suffix, stored[i].to_bytes());
  }
}

std::vector<LowRankChange> Adaptation::low_rank_changes() const {
  std::vector<LowRankChange> changes;
  for (const Target& target : targets_) {
    const Module& module = modules_[target.module];
    const std::string name = hub::kAdapterPrefix + module.name;
    const HostTensor& a = tensors_.at(name + ".lora_A.weight");
    const HostTensor& b = tensors_.at(name + ".lora_B.weight");
    for (const ModulePart& part : module.parts) {
      const auto first = b.values.begin() + part.first_row * target.rank;
      const HostTensor rows({graph::DType::f32, {part.rows, target.rank}}, {first, first + part.rows * target.rank});
      changes.push_back({part.matrix, a, rows, target.scale});
    }
  }
  return changes;
}

void Adaptation::write(const Model& model,
                       const std::function<void(const std::string&, const HostTensor&)>& write) const {
  write_made(model, write);
  for (const auto& [name, tensor] : tensors_) {
    const graph::ParameterSpec& spec = model.store().spec(name);
    ensure(spec.frozen(), "[adapt] {} trains: it is written as \"parameters\"", name);
    const std::vector<graph::StoredPart> parts = spec.storage->parts(spec.shape);
    const std::vector<HostTensor> stored = spec.storage->pack(tensor);
    for (size_t i = 0; i < parts.size(); ++i) write(graph::kFrozen + name + parts[i].suffix, stored[i]);
  }
}

}  // namespace surtsey::experiments
