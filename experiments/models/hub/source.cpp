#include "experiments/models/hub/source.h"

#include "experiments/base/file.h"
#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/gguf_model.h"
#include "experiments/models/hub/own.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace surtsey::experiments::hub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// The file of a folder that has the weights, or the index of several.
fs::path weights_of(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {kWeights, kIndex}) {
    if (fs::exists(folder / name, error)) return folder / name;
  }
  const bool pickled =
      fs::exists(folder / "pytorch_model.bin", error) || fs::exists(folder / "pytorch_model.bin.index.json", error);
  throw UserError(fmt::format("'{}' has neither {} nor {}{}", folder.string(), kWeights, kIndex,
                              pickled ? "; pytorch_model.bin is a program and is not read" : ""));
}

// Every tensor under the name that the layout has.
TensorDirectory canonical(const Config& config, TensorDirectory directory, const std::string& where) {
  TensorDirectory named;
  for (auto& [name, tensor] : directory) {
    const std::string key = canonical_file_name(config, name);
    if (key.empty()) continue;
    const bool added = named.emplace(key, std::move(tensor)).second;
    check(added, "{}: {} is there twice, with a prefix and without", where, key);
  }
  return named;
}

std::unique_ptr<Source> open_folder(const fs::path& path, const fs::path& folder, const fs::path& weights) {
  const fs::path config_path = folder / "config.json", generation_path = folder / "generation_config.json";
  const std::optional<std::string> text = read_file_if_exists(config_path);
  check(text.has_value(), "'{}' {}", path.string(),
        path == folder ? "has no config.json" : "is no GGUF file, and there is no config.json beside it");
  const nlohmann::json object = parse_strict_json(*text, config_path.string(), kConfigDepth);
  if (is_own_config(object)) return open_own(path, folder, object);
  Description description;
  description.folder = folder;
  description.config = parse_config(object, config_path.string());
  const Config& config = description.config;
  const std::optional<std::string> generation = read_file_if_exists(generation_path);
  // Older models have these keys in config.json.
  description.generation = generation ? parse_generation_text(*generation, generation_path.string(), config.tokens)
                                      : parse_generation(object, config_path.string(), config.tokens);
  TensorDirectory directory =
      weights.extension() == ".json" ? open_safetensors_index(weights) : open_safetensors(weights);
  directory = canonical(config, std::move(directory), weights.string());
  std::vector<Placement> placements = place(hugging_face_layout(config), directory, weights.string());
  return std::make_unique<Source>(path, std::move(description), std::move(placements));
}

std::unique_ptr<Source> open_gguf_model(const fs::path& path) {
  const std::string where = path.string();
  Gguf file = open_gguf(path);
  Description description;
  description.config = gguf_config(file, where);
  description.generation = parse_generation_text("{}", where, description.config.tokens);
  description.tokenizer = gguf_tokenizer(file, where);
  if (description.tokenizer && description.tokenizer->end_of_turn >= 0) {
    std::vector<int64_t>& ends = description.generation.tokens.eos;
    const int64_t turn = description.tokenizer->end_of_turn;
    if (std::find(ends.begin(), ends.end(), turn) == ends.end()) ends.push_back(turn);
  }
  std::erase_if(file.tensors, [](const auto& entry) { return is_gguf_constant(entry.first); });
  std::vector<Placement> placements = place(gguf_layout(description.config), file.tensors, where);
  return std::make_unique<Source>(path, std::move(description), std::move(placements));
}

}  // namespace

Source::Source(fs::path path, Description description, std::vector<Placement> placements)
    : path_(std::move(path)), description_(std::move(description)), placements_(std::move(placements)) {}

std::vector<TensorInfo> Source::tensors() const {
  std::vector<TensorInfo> infos;
  for (const Placement& placement : placements_) {
    const TensorRow& row = placement.row;
    const int64_t width = row.shape.size() == 2 ? row.shape[1] : 1;
    infos.push_back({row.name, row.shape, *placement.from.type,
                     uint64_t(row.shape[0]) * uint64_t(row_bytes(*placement.from.type, width))});
  }
  return infos;
}

const Placement& Source::find(std::string_view name) const {
  const auto found = std::find_if(placements_.begin(), placements_.end(),
                                  [&](const Placement& placement) { return placement.row.name == name; });
  check(found != placements_.end(), "'{}' has no tensor {}", path_.string(), name);
  return *found;
}

bool Source::has(std::string_view name) const {
  return std::any_of(placements_.begin(), placements_.end(),
                     [&](const Placement& placement) { return placement.row.name == name; });
}

void Source::replace_head(Config config, std::vector<Placement> placements) {
  description_.config = std::move(config);
  description_.has_other_head = true;
  placements_ = std::move(placements);
}

void Source::change(const std::string& name, Change change) {
  find(name);
  changes_[name] = std::move(change);
}

Stored Source::read_stored(std::string_view name) const {
  const Placement& placement = find(name);
  Stored stored{*placement.from.type, placement.row.shape, read_placement(placement)};
  const auto change = changes_.find(name);
  if (change == changes_.end()) return stored;
  std::vector<float> numbers(size_t(graph::element_count(stored.shape)));
  dequantize_row(stored.type, stored.bytes, numbers);
  const size_t count = numbers.size();
  numbers = change->second(std::move(numbers));
  ensure(numbers.size() == count, "[hub] {} changed from {} numbers to {}", name, count, numbers.size());
  const auto bytes = std::as_bytes(std::span(numbers));
  return {StoredType::f32, stored.shape, {bytes.begin(), bytes.end()}};
}

std::vector<float> Source::read_floats(std::string_view name) const {
  const Stored stored = read_stored(name);
  std::vector<float> numbers(size_t(graph::element_count(stored.shape)));
  dequantize_row(stored.type, stored.bytes, numbers);
  return numbers;
}

std::unique_ptr<Source> open_model(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(fs::exists(status), "'{}' cannot be read: there is no such file or folder", path.string());
  if (fs::is_directory(status)) return open_folder(path, path, weights_of(path));
  if (is_gguf(path)) return open_gguf_model(path);
  return open_folder(path, path.parent_path(), path);
}

}  // namespace surtsey::experiments::hub
