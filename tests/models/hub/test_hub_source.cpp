// Models in the form of Hugging Face's folders: names, transposes, cuts, shards, and what does not fit.
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/source.h"
#include "graph/error.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/tensors.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::hub {
namespace {

using Catch::Matchers::ContainsSubstring;
using graph::DType;
using graph::HostTensor;
using nlohmann::json;
using tests::Folder;
using tests::slurp;
using tests::write;
using tests::write_tensors;
namespace fs = std::filesystem;

std::string refusal(const fs::path& path) {
  try {
    open_model(path);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

// A GPT-2 whose numbers say where they stand.
Safetensors gpt2_tensors() {
  Safetensors content;
  const auto add = [&](const std::string& name, graph::Shape shape, DType dtype = DType::f32) {
    content.tensors[name] = HostTensor::random({dtype, std::move(shape)}, -1, 1, uint32_t(content.tensors.size()));
  };
  add("transformer.wte.weight", {11, 4});
  add("transformer.wpe.weight", {6, 4});
  add("transformer.h.0.ln_1.weight", {4});
  add("transformer.h.0.ln_1.bias", {4});
  add("transformer.h.0.attn.c_attn.weight", {4, 12}, DType::f16);
  add("transformer.h.0.attn.c_attn.bias", {12});
  add("transformer.h.0.attn.c_proj.weight", {4, 4});
  add("transformer.h.0.attn.c_proj.bias", {4});
  add("transformer.h.0.ln_2.weight", {4});
  add("transformer.h.0.ln_2.bias", {4});
  add("transformer.h.0.mlp.c_fc.weight", {4, 16}, DType::bf16);
  add("transformer.h.0.mlp.c_fc.bias", {16});
  add("transformer.h.0.mlp.c_proj.weight", {16, 4});
  add("transformer.h.0.mlp.c_proj.bias", {4});
  add("transformer.ln_f.weight", {4});
  add("transformer.ln_f.bias", {4});
  for (auto& [name, tensor] : content.tensors) tensor.round_to_storage();
  return content;
}

constexpr const char* kGpt2 = R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_embd": 4,
  "n_head": 2, "n_positions": 6, "vocab_size": 11})";

TEST_CASE("hub: Conv1D is cut into q, k and v and turned, in every type", "[hub]") {
  const Folder folder;
  const Safetensors content = gpt2_tensors();
  write(folder / "config.json", kGpt2);
  write_tensors(folder / "model.safetensors", content);
  const std::unique_ptr<Source> source = open_model(folder.path());
  const HostTensor& joined = content.tensors.at("transformer.h.0.attn.c_attn.weight");
  const HostTensor& bias = content.tensors.at("transformer.h.0.attn.c_attn.bias");
  for (int64_t part = 0; part < 3; ++part) {
    const std::string name = std::string("layers.0.attention.") + "qkv"[part];
    const std::vector<float> weight = source->read_floats(name + ".weight");
    REQUIRE(weight.size() == 16);
    for (int64_t out = 0; out < 4; ++out) {
      for (int64_t in = 0; in < 4; ++in) {
        CHECK(double(weight[size_t(out * 4 + in)]) == joined.values[size_t(in * 12 + part * 4 + out)]);
      }
      CHECK(double(source->read_floats(name + ".bias")[size_t(out)]) == bias.values[size_t(part * 4 + out)]);
    }
    CHECK(source->read_stored(name + ".weight").type == StoredType::f16);
  }
  const std::vector<float> up = source->read_floats("layers.0.mlp.up.weight");
  CHECK(double(up[2 * 4 + 3]) == content.tensors.at("transformer.h.0.mlp.c_fc.weight").values[3 * 16 + 2]);
  CHECK(source->read_stored("layers.0.mlp.up.weight").shape == graph::Shape{16, 4});
  CHECK_FALSE(source->has("head.weight"));
  CHECK_THROWS_WITH(source->read_floats("head.weight"), ContainsSubstring("head.weight"));
  uint64_t bytes = 0;
  for (const TensorInfo& info : source->tensors()) bytes += info.bytes;
  CHECK(bytes + 8 < fs::file_size(folder / "model.safetensors"));
}

TEST_CASE("hub: files of the hub have no prefix, masks, and old names of gains", "[hub]") {
  const Folder folder;
  Safetensors content;
  for (const auto& [name, tensor] : gpt2_tensors().tensors) content.tensors[name.substr(12)] = tensor;
  content.tensors["h.0.attn.bias"] = HostTensor::zeros({DType::boolean, {1, 1, 6, 6}});
  content.tensors["lm_head.weight"] = content.tensors["wte.weight"];  // tied: a copy
  write(folder / "config.json", kGpt2);
  write_tensors(folder / "model.safetensors", content);
  CHECK(open_model(folder.path())->tensors().size() == 20);
  // One file, the configuration beside it.
  CHECK(open_model(folder / "model.safetensors")->tensors().size() == 20);

  content.tensors["transformer.ln_f.weight"] = content.tensors["ln_f.weight"];
  write_tensors(folder / "model.safetensors", content);
  CHECK_THAT(refusal(folder.path()), ContainsSubstring("ln_f.weight is there twice"));
}

TEST_CASE("hub: everything that does not fit stands in one message", "[hub]") {
  const Folder folder;
  Safetensors content = gpt2_tensors();
  content.tensors.erase("transformer.h.0.ln_1.bias");
  content.tensors["transformer.h.1.ln_1.bias"] = HostTensor::zeros({DType::f32, {4}});
  content.tensors["transformer.wpe.weight"] = HostTensor::zeros({DType::f32, {7, 4}});
  content.tensors["transformer.h.0.attn.c_attn.bias"] = HostTensor::zeros({DType::i32, {12}});
  write(folder / "config.json", kGpt2);
  write_tensors(folder / "model.safetensors", content);
  const std::string message = refusal(folder.path());
  CHECK_THAT(message, ContainsSubstring("missing: h.0.ln_1.bias\n") &&
                          ContainsSubstring("left over: h.1.ln_1.bias\n") &&
                          ContainsSubstring("wpe.weight is [7,4] and not [6,4]") &&
                          ContainsSubstring("h.0.attn.c_attn.bias is I32"));
}

TEST_CASE("hub: shards are read by their index, and held against it", "[hub]") {
  const Folder folder;
  const Safetensors whole = gpt2_tensors();
  write(folder / "config.json", kGpt2);
  write_tensors(folder / "model.safetensors", whole);
  const std::unique_ptr<Source> one = open_model(folder.path());
  json map;
  Safetensors parts[3];
  size_t n = 0;
  for (const auto& [name, tensor] : whole.tensors) {
    const size_t part = n++ % 3;
    parts[part].tensors[name] = tensor;
    map[name] = "part-" + std::to_string(part) + ".safetensors";
  }
  for (size_t i = 0; i < 3; ++i) write_tensors(folder / ("part-" + std::to_string(i) + ".safetensors"), parts[i]);
  const Folder sharded;
  const auto index = [&](const json& weight_map) {
    write(sharded / "model.safetensors.index.json",
          json({{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}}).dump());
  };
  write(sharded / "config.json", kGpt2);
  for (const char* part : {"part-0.safetensors", "part-1.safetensors", "part-2.safetensors"}) {
    fs::copy(folder / part, sharded / part);
  }
  index(map);
  const std::unique_ptr<Source> many = open_model(sharded.path());
  REQUIRE(many->tensors().size() == one->tensors().size());
  for (const TensorInfo& info : one->tensors()) {
    CHECK(many->read_stored(info.name).bytes == one->read_stored(info.name).bytes);
  }

  json moved = map;
  moved["transformer.wte.weight"] = moved["transformer.wpe.weight"];
  index(moved);
  CHECK_THAT(refusal(sharded.path()), ContainsSubstring("transformer.wte.weight") && ContainsSubstring("part-"));
  json fewer = map;
  fewer.erase("transformer.wte.weight");
  index(fewer);
  CHECK_THAT(refusal(sharded.path()), ContainsSubstring("does not place there"));
  for (const char* bad : {"../config.json", "/etc/passwd", "", ".hidden", "a/b"}) {
    json outside = map;
    outside["transformer.wte.weight"] = bad;
    index(outside);
    CHECK_THAT(refusal(sharded.path()), ContainsSubstring("no file beside the index"));
  }
  json absent = map;
  absent["transformer.wte.weight"] = "part-9.safetensors";
  index(absent);
  CHECK_THAT(refusal(sharded.path()), ContainsSubstring("part-9.safetensors"));
  write(sharded / "model.safetensors.index.json", "{}");
  CHECK_THAT(refusal(sharded.path()), ContainsSubstring("weight_map"));
}

TEST_CASE("hub: what is not there is said", "[hub]") {
  const Folder folder;
  CHECK_THAT(refusal(folder / "none"), ContainsSubstring("none"));
  CHECK_THAT(refusal(folder.path()), ContainsSubstring("model.safetensors"));
  write(folder / "pytorch_model.bin", "x");
  CHECK_THAT(refusal(folder.path()), ContainsSubstring("pytorch_model.bin"));
  write_tensors(folder / "model.safetensors", gpt2_tensors());
  CHECK_THAT(refusal(folder.path()), ContainsSubstring("config.json"));
  // A file that becomes shorter after it was opened.
  write(folder / "config.json", kGpt2);
  const std::unique_ptr<Source> source = open_model(folder.path());
  fs::resize_file(folder / "model.safetensors", 2000);
  CHECK_THROWS_WITH(source->read_floats("norm.weight"), ContainsSubstring("shorter"));
}

TEST_CASE("hub: the goldens open, and every number of their files is some tensor's", "[hub]") {
  const fs::path goldens = tests::shared_folder("goldens");
  for (const char* name : {"gpt2", "llama", "llama-headdim", "llama-rope-llama3", "llama-tied-bias", "mistral-window4",
                           "qwen2", "bert-mlm", "bert-classify", "t5"}) {
    INFO(name);
    const std::unique_ptr<Source> source = open_model(goldens / name);
    const Safetensors file = read_safetensors((goldens / name / "model.safetensors").string());
    // As multisets, whatever is turned and cut.
    std::vector<double> in_file, in_model;
    for (const auto& [tensor, content] : file.tensors) {
      in_file.insert(in_file.end(), content.values.begin(), content.values.end());
    }
    for (const TensorInfo& info : source->tensors()) {
      const std::vector<float> numbers = source->read_floats(info.name);
      REQUIRE(int64_t(numbers.size()) == graph::element_count(info.shape));
      in_model.insert(in_model.end(), numbers.begin(), numbers.end());
    }
    std::sort(in_file.begin(), in_file.end());
    std::sort(in_model.begin(), in_model.end());
    CHECK(in_file == in_model);
    const Config& config = source->config();
    CHECK(parse_config(config_json(config), "BACK") == config);
    CHECK(source->has("head.weight") == (!config.tied || config.head == Head::classification));
  }
  CHECK(open_model(goldens / "qwen2")->generation().tokens.eos == std::vector<int64_t>{60});
  CHECK(open_model(goldens / "mistral-window4")->config().llama().windows == std::vector<int64_t>{4, 4});
  CHECK(open_model(goldens / "llama-rope-llama3")->config().llama().rope.type == RopeType::llama3);
  CHECK_THAT(refusal(goldens / "vit"), ContainsSubstring("'vit' is not supported"));
}

}  // namespace
}  // namespace surtsey::experiments::hub
