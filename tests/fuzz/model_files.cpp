#include "tests/fuzz/model_files.h"

#include "experiments/models/hub/export.h"
#include "graph/error.h"
#include "tests/fuzz/mutate.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstring>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;
namespace hub = experiments::hub;
using nlohmann::json;

struct Seed {
  fs::path open;     // what open_model() is given
  fs::path mutated;  // the file that is changed
  std::string content;
  size_t header = 0;  // of the content: where its structure stands
};

size_t header_of(const std::string& safetensors) {
  uint64_t length = 0;
  std::memcpy(&length, safetensors.data(), sizeof(length));
  return 8 + size_t(length);
}

// A tiny T5 and a tiny BERT: the families that GGUF does not have. Weights are whatever their table asks for.
void write_model(const fs::path& folder, const json& config) {
  json header = json::object();
  uint64_t end = 0;
  for (const hub::TensorRow& row : hub::hugging_face_layout(hub::parse_config(config, "a seed"))) {
    const uint64_t begin = end;
    end += 4 * uint64_t(graph::element_count(row.file_shape()));
    header[row.file_name] = {{"dtype", "F32"}, {"shape", row.file_shape()}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  fs::create_directory(folder);
  write(folder / "config.json", config.dump(1));
  write(folder / "model.safetensors",
        std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text + std::string(end, '\1'));
}

// A folder whose one shard stands behind an index.
void shard(const fs::path& folder) {
  json map;
  for (const auto& [name, tensor] : experiments::open_safetensors(folder / "model.safetensors")) {
    map[name] = "model-00001-of-00001.safetensors";
  }
  fs::rename(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors");
  write(folder / "model.safetensors.index.json",
        json({{"metadata", {{"total_size", 1}}}, {"weight_map", map}}).dump(1));
}

std::vector<Seed> make_seeds(const std::string& kind, const std::string& golden, const Folder& folder) {
  std::vector<Seed> seeds;
  if (kind == "gguf") {
    for (const char* name : {"llama-headdim-q4_0", "llama-headdim-q8_0", "llama-tied-bias", "llama-rope-llama3"}) {
      const fs::path path = folder / (std::string(name) + ".gguf");
      seeds.push_back({path, path, slurp(fs::path(golden) / (std::string(name) + ".gguf"))});
      seeds.back().header = 6000;
    }
    return seeds;
  }
  std::vector<fs::path> folders;
  for (const char* name : {"gpt2", "qwen2", "llama-rope-llama3"}) {
    folders.push_back(folder / name);
    hub::export_folder(*hub::open_model(fs::path(golden) / (std::string(name) + ".gguf")), folders.back());
  }
  const json t5 = {{"model_type", "t5"},
                   {"d_model", 8},
                   {"d_kv", 4},
                   {"d_ff", 12},
                   {"num_heads", 2},
                   {"num_layers", 2},
                   {"vocab_size", 9},
                   {"feed_forward_proj", "gated-gelu"},
                   {"tie_word_embeddings", false}};
  const json bert = {{"model_type", "bert"},
                     {"architectures", {"BertForSequenceClassification"}},
                     {"hidden_size", 8},
                     {"num_attention_heads", 2},
                     {"num_hidden_layers", 2},
                     {"intermediate_size", 12},
                     {"max_position_embeddings", 6},
                     {"vocab_size", 9},
                     {"id2label", {{"0", "a"}, {"1", "b"}}}};
  for (const auto& [name, config] : {std::pair("t5", t5), std::pair("bert", bert)}) {
    folders.push_back(folder / name);
    write_model(folders.back(), config);
  }
  for (const fs::path& model : folders) {
    if (kind == "index.json") shard(model);
    const fs::path file = model / (kind == "config.json"   ? "config.json"
                                   : kind == "safetensors" ? "model.safetensors"
                                                           : "model.safetensors.index.json");
    seeds.push_back({model, file, slurp(file)});
    seeds.back().header = kind == "safetensors" ? header_of(seeds.back().content) : seeds.back().content.size();
  }
  return seeds;
}

bool read_whole(const fs::path& path) {
  std::unique_ptr<hub::Source> source;
  try {
    source = hub::open_model(path);
    for (const hub::TensorInfo& info : source->tensors()) {
      ensure(int64_t(source->read_floats(info.name).size()) == graph::element_count(info.shape), "{}", info.name);
    }
    return true;
  } catch (const UserError& error) {
    ensure(source == nullptr, "{} opened, and then: {}", path.string(), error.what());
    const std::string message = error.what();
    ensure(message.find(path.string()) != message.npos && message.size() < 20'000, "a message without the file: {}",
           message.substr(0, 400));
    return false;
  }
}

}  // namespace

FuzzCount fuzz_models(const std::string& kind, uint64_t first, uint64_t count, const std::string& golden,
                      const Folder& folder,
                      const std::function<void(uint64_t size, const std::function<void()>& work)>& around) {
  const std::vector<Seed> seeds = make_seeds(kind, golden, folder);
  // What is refused as it is would tell nothing of what is changed in it.
  for (const Seed& seed : seeds) {
    write(seed.mutated, seed.content);
    ensure(read_whole(seed.open), "{} is refused as it is", seed.open.string());
  }
  FuzzCount counts;
  for (uint64_t number = first; number < first + count; ++number) {
    Draws draws(number);
    const Seed& seed = seeds[size_t(draws.below(seeds.size()))];
    const std::string content = mutated(seed.content, seed.header, kind.ends_with("json"), draws);
    write(seed.mutated, content);
    around(content.size(), [&] { ++(read_whole(seed.open) ? counts.accepted : counts.refused); });
    write(seed.mutated, seed.content);
  }
  return counts;
}

}  // namespace surtsey::tests
