#include "experiments/adapt/peft.h"

#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/hub/layout.h"
#include "graph/functions.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

namespace surtsey::experiments {
namespace {

using graph::HostTensor;
using nlohmann::json;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kTensors = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";
constexpr size_t kDepth = 16;

struct Settings {
  double alpha = 0;
  bool rank_stabilized = false;
  std::map<std::string, double> alphas;  // of modules whose name ends so

  double scale(const std::string& module, int64_t rank) const {
    double own = alpha;
    for (const auto& [name, value] : alphas)
      if (module == name || module.ends_with("." + name)) own = value;
    return own / (rank_stabilized ? std::sqrt(double(rank)) : double(rank));
  }
};

bool is_given(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return false;
  if (found->is_boolean()) return found->get<bool>();
  return !((found->is_array() || found->is_object() || found->is_string()) && found->empty());
}

// A key as the file has it, for messages.
std::string shown(const json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() ? "missing" : found->dump();
}

double number_of(const json& value, const std::string& where) {
  check(value.is_number() && std::isfinite(value.get<double>()), "{} is {}, not a number", where, value.dump());
  return value.get<double>();
}

Settings read_settings(const std::filesystem::path& file) {
  const std::string where = file.string();
  const json config = parse_strict_json(read_file(file), where, kDepth);
  check(config.is_object(), "{}: is no object", where);
  check(shown(config, "peft_type") == "\"LORA\"", "{}: peft_type is {}; adapters of LORA are supported", where,
        shown(config, "peft_type"));
  for (const char* key : {"use_dora", "lora_bias", "modules_to_save", "layer_replication", "trainable_token_indices"})
    check(!is_given(config, key), "{}: {} is {}, which is not supported", where, key, shown(config, key));
  check(!is_given(config, "bias") || shown(config, "bias") == "\"none\"",
        "{}: bias is {}; adapters without are supported", where, shown(config, "bias"));
  Settings settings;
  check(config.contains("lora_alpha"), "{}: has no lora_alpha", where);
  settings.alpha = number_of(config.at("lora_alpha"), where + ": lora_alpha");
  settings.rank_stabilized = is_given(config, "use_rslora");
  if (is_given(config, "alpha_pattern")) {
    const json& pattern = config.at("alpha_pattern");
    check(pattern.is_object(), "{}: alpha_pattern is no object", where);
    for (const auto& [module, value] : pattern.items())
      settings.alphas[module] = number_of(value, fmt::format("{}: alpha_pattern.{}", where, module));
  }
  return settings;
}

// Rows [first, first + count) of a tensor [rows, columns], as f32.
HostTensor read_rows(const FileTensor& from, const std::string& name, int64_t first, int64_t count) {
  const hub::TensorRow row{
      .name = name, .shape = {count, from.shape[1]}, .file_name = name, .first_row = first, .file_rows = from.shape[0]};
  const std::vector<std::byte> bytes = hub::read_placement({row, from});
  std::vector<float> numbers(size_t(graph::element_count(row.shape)));
  dequantize_row(*from.type, bytes, numbers);
  return HostTensor({graph::DType::f32, row.shape}, {numbers.begin(), numbers.end()});
}

// Our matrices that a module of theirs is, with the rows that each has of it.
struct Part {
  std::string matrix;
  hub::TensorRow row;
};

std::vector<Part> parts_of(const std::string& module, const hub::Source& source, const Model& model,
                           const hub::Layout& layout) {
  std::vector<Part> parts;
  const std::string file_name = hub::canonical_file_name(source.config(), module + ".weight");
  for (const hub::TensorRow& row : layout) {
    if (row.file_name != file_name || row.shape.size() != 2) continue;
    for (const graph::ParameterSpec& spec : model.store().specs()) {
      constexpr std::string_view kWeight = ".weight";
      if (hub::source_name(model.config(), spec.name) != row.name || !spec.name.ends_with(kWeight)) continue;
      parts.push_back({spec.name.substr(0, spec.name.size() - kWeight.size()), row});
    }
  }
  return parts;
}

std::string parameter(const std::string& matrix, const char* which) {
  return fmt::format("{}{}.{}", hub::kAdapterPrefix, matrix, which);
}

}  // namespace

LoraAdapter::LoraAdapter(const std::filesystem::path& folder, const hub::Source& source, const Model& model) {
  const Settings settings = read_settings(folder / kConfig);
  const std::filesystem::path file = folder / kTensors;
  const std::string where = file.string();
  const TensorDirectory tensors = open_safetensors(file);
  const hub::Layout layout = hub::hugging_face_layout(source.config());
  std::vector<std::string> wrong;
  size_t used = 0;
  for (const auto& [name, a] : tensors) {
    if (!name.ends_with(kA)) continue;
    const std::string whole = name.substr(0, name.size() - kA.size());
    const std::string module = whole.starts_with(kPrefix) ? whole.substr(kPrefix.size()) : whole;
    const auto b = tensors.find(whole + std::string(kB));
    const std::vector<Part> parts = parts_of(module, source, model, layout);
    if (b == tensors.end() || parts.empty()) continue;
    used += 2;
    const hub::TensorRow& row = parts.front().row;
    const int64_t in = row.shape[1], out = row.file_rows;
    const bool fits = a.type && b->second.type && a.shape.size() == 2 && b->second.shape.size() == 2 &&
                      a.shape[1] == in && b->second.shape[0] == out && b->second.shape[1] == a.shape[0] &&
                      a.shape[0] > 0;
    if (!fits) {
      wrong.push_back(fmt::format("{}: A {} and B {} over a matrix [{},{}]", module, graph::to_string(a.shape),
                                  graph::to_string(b->second.shape), out, in));
      continue;
    }
    for (const Part& part : parts) {
      pairs_.push_back({part.matrix, read_rows(a, name, 0, a.shape[0]),
                        read_rows(b->second, b->first, part.row.first_row, part.row.shape[0]),
                        settings.scale(module, a.shape[0])});
    }
  }
  if (used < tensors.size()) {
    for (const auto& [name, tensor] : tensors) {
      const bool is_a = name.ends_with(kA), is_b = name.ends_with(kB);
      const std::string whole = is_a || is_b ? name.substr(0, name.size() - kA.size()) : name;
      const std::string module = whole.starts_with(kPrefix) ? whole.substr(kPrefix.size()) : whole;
      const bool paired =
          (is_a && tensors.contains(whole + std::string(kB))) || (is_b && tensors.contains(whole + std::string(kA)));
      if (!paired || parts_of(module, source, model, layout).empty())
        wrong.push_back(fmt::format("{} {}", name, graph::to_string(tensor.shape)));
    }
  }
  check(wrong.empty(), "{}: does not fit {}: {}", where, source.path().string(), join(wrong, "; "));
  check(!pairs_.empty(), "{}: has no pair of lora_A and lora_B", where);
  std::sort(pairs_.begin(), pairs_.end(), [](const Pair& one, const Pair& other) { return one.matrix < other.matrix; });
}

void LoraAdapter::install(Model& model) const {
  std::map<std::string, double> scales;
  for (const Pair& pair : pairs_) {
    for (const auto& [which, tensor] : {std::pair("a", &pair.a), std::pair("b", &pair.b)})
      model.store().add(parameter(pair.matrix, which), tensor->type.shape, graph::Initialisation::constant(0));
    scales[pair.matrix] = pair.scale;
  }
  model.store().freeze([](const graph::ParameterSpec& spec) { return spec.name.starts_with(hub::kAdapterPrefix); });
  model.on_projection([scales](const Projection& matrix) -> graph::Value {
    const auto found = scales.find(matrix.name);
    if (found == scales.end()) return {};
    const graph::Value down = graph::linear(matrix.x, matrix.parameters.get(parameter(matrix.name, "a")));
    const graph::Value up = graph::linear(down, matrix.parameters.get(parameter(matrix.name, "b")));
    return matrix.plain() + up * found->second;
  });
}

void LoraAdapter::write(
    const std::function<void(const std::string& name, const graph::HostTensor& tensor)>& write) const {
  for (const Pair& pair : pairs_) {
    write(graph::kFrozen + parameter(pair.matrix, "a"), pair.a);
    write(graph::kFrozen + parameter(pair.matrix, "b"), pair.b);
  }
}

std::vector<std::string> LoraAdapter::matrices() const {
  std::vector<std::string> names;
  for (const Pair& pair : pairs_) names.push_back(pair.matrix);
  return names;
}

}  // namespace surtsey::experiments
