// A model in a file's or a folder's form, opened and not read: its configuration, and its tensors by our names.
#pragma once

#include "experiments/formats/gguf_tokenizer.h"
#include "experiments/models/hub/config.h"
#include "experiments/models/hub/generation.h"
#include "experiments/models/hub/layout.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::hub {

struct TensorInfo {
  std::string name;    // README.md has them all
  graph::Shape shape;  // matrices [out, in], whatever the file has
  StoredType type = StoredType::f32;
  uint64_t bytes = 0;
};

// Rows behind each other as the file stores them (formats/quant.h).
struct Stored {
  StoredType type = StoredType::f32;
  graph::Shape shape;
  std::vector<std::byte> bytes;
};

// What a model comes with beside its weights.
struct Description {
  Config config;
  GenerationConfig generation;
  std::filesystem::path folder;            // where tokenizer files stand; empty of a GGUF file
  std::optional<GgufTokenizer> tokenizer;  // of a GGUF file that has one, or of a checkpoint of ours
  bool has_other_head = false;             // `config` has another head than the folder's config.json
};

struct Source {
  Source(std::filesystem::path path, Description description, std::vector<Placement> placements);

  const std::filesystem::path& path() const { return path_; }  // as it was given to open_model()
  const Config& config() const { return description_.config; }
  const GenerationConfig& generation() const { return description_.generation; }
  const Description& description() const { return description_; }

  // From now on reading this tensor gives what `change` makes of its numbers (f32, as many): an adapter is merged, a
  // run has trained it. tensors() still has the type of the file, for whoever stores it again. UserError: no such
  // tensor.
  using Change = std::function<std::vector<float>(std::vector<float> numbers)>;
  void change(const std::string& name, Change change);

  // From now on it is a model of this configuration, with the same body and another head: label_head.h.
  void replace_head(Config config, std::vector<Placement> placements);
  const std::vector<Placement>& placements() const { return placements_; }
  // Whether no file has this tensor: its numbers are zeros. UserError: no such tensor.
  bool is_new(std::string_view name) const { return find(name).from.file == nullptr; }

  // In the order of the family's table.
  std::vector<TensorInfo> tensors() const;
  bool has(std::string_view name) const;
  // One tensor, read now. UserError: no tensor of this name, or the file cannot be read any more.
  Stored read_stored(std::string_view name) const;
  std::vector<float> read_floats(std::string_view name) const;

 private:
  const Placement& find(std::string_view name) const;

  std::filesystem::path path_;
  Description description_;
  std::vector<Placement> placements_;
  std::map<std::string, Change, std::less<>> changes_;
};

// A folder (config.json, generation_config.json or none, model.safetensors or model.safetensors.index.json with its
// shards), one safetensors file or index with config.json beside it, a GGUF file, or one save of a
// checkpoint of ours (own.h). UserError: what is not there or
// breaks the rules of its format; a configuration that is not supported; tensors that do not fit it, all in one
// message.
std::unique_ptr<Source> open_model(const std::filesystem::path& path);

}  // namespace surtsey::experiments::hub
