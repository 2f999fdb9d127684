// Models out again: folders and GGUF files, against the bytes that went in and files of ggml's own Python package
// (golden/gguf: ../shared/goldens by gguf-py's writer and quantizers, q and k permuted as its converter does).
#include "experiments/formats/gguf.h"
#include "experiments/formats/half.h"
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/export.h"
#include "graph/error.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

namespace surtsey::experiments::hub {
namespace {

using Catch::Matchers::ContainsSubstring;
using tests::Folder;
using tests::slurp;
namespace fs = std::filesystem;

fs::path golden(const std::string& name) {
  return fs::path(SURTSEY_SOURCE_ROOT) / "tests" / "golden" / "gguf" / (name + ".gguf");
}

// The bytes of every tensor of a safetensors or GGUF file, by the file's own names.
std::map<std::string, std::string> contents(const TensorDirectory& directory) {
  std::map<std::string, std::string> found;
  for (const auto& [name, tensor] : directory) {
    std::string bytes(tensor.bytes, ' ');
    tensor.file->read(tensor.offset, std::as_writable_bytes(std::span(bytes)));
    found[name] = tensor.type_name + graph::to_string(tensor.shape) + bytes;
  }
  return found;
}

void check_same_tensors(const Source& a, const Source& b) {
  REQUIRE(a.tensors().size() == b.tensors().size());
  for (const TensorInfo& info : a.tensors()) {
    INFO(info.name);
    REQUIRE(b.has(info.name));
    CHECK(a.read_stored(info.name).type == b.read_stored(info.name).type);
    CHECK(a.read_stored(info.name).shape == b.read_stored(info.name).shape);
    CHECK(a.read_stored(info.name).bytes == b.read_stored(info.name).bytes);
  }
}

TEST_CASE("hub: GGUF files of ggml's writer have the tensors and the configuration of their folders", "[hub]") {
  const fs::path goldens = tests::shared_folder("goldens");
  for (const char* name : {"gpt2", "qwen2", "llama-rope-llama3", "llama-tied-bias"}) {
    INFO(name);
    const std::unique_ptr<Source> folder = open_model(goldens / name), gguf = open_model(golden(name));
    check_same_tensors(*folder, *gguf);
    Config a = folder->config(), b = gguf->config();
    CHECK(a.vocabulary == b.vocabulary);
    CHECK(a.tied == b.tied);
    if (a.family() != Family::llama) {
      CHECK(a.model == b.model);
      continue;
    }
    LlamaConfig of_folder = a.llama(), of_gguf = b.llama();
    if (of_folder.rope.type == RopeType::llama3) {
      // The same frequencies, as factors.
      CHECK(of_gguf.rope.type == RopeType::longrope);
      CHECK(of_gguf.rope.short_factor == of_gguf.rope.long_factor);
      CHECK(of_gguf.rope.attention_factor == 1.0);
      CHECK(of_gguf.rope.short_factor.front() < of_gguf.rope.short_factor.back());
      CHECK(of_gguf.rope.short_factor.back() == of_folder.rope.factor);
      of_gguf.rope = of_folder.rope;
    }
    CHECK(of_folder == of_gguf);
  }
  CHECK(open_model(golden("llama-tied-bias"))->description().tokenizer->tokens.size() == 61);
}

TEST_CASE("hub: quantized GGUF files of ggml's writer are what quantizing here gives", "[hub]") {
  const fs::path goldens = tests::shared_folder("goldens");
  const std::unique_ptr<Source> source = open_model(goldens / "llama-headdim");
  const Folder folder;
  for (const StoredType type : {StoredType::q8_0, StoredType::q4_0}) {
    const std::string name = "llama-headdim-" + std::string(experiments::name(type));
    std::vector<std::string> told;
    export_gguf(*source, folder / "out.gguf", type, [&](const std::string& line) { told.push_back(line); });
    std::map<std::string, std::string> ours = contents(open_gguf(folder / "out.gguf").tensors);
    const std::map<std::string, std::string> theirs = contents(open_gguf(golden(name)).tensors);
    size_t quantized = 0;
    REQUIRE(ours.size() == theirs.size());
    for (const auto& [tensor, content] : theirs) {
      INFO(tensor);
      // Rows of 48 are no blocks: left as they are there, f16 here.
      if (tensor.find("ffn_down") != tensor.npos) continue;
      CHECK(ours.at(tensor) == content);
      quantized += content.starts_with("q") ? 1 : 0;
    }
    CHECK(quantized == 14);
    CHECK(told.size() == 2);
    CHECK_THAT(told[0], ContainsSubstring("layers.0.mlp.down.weight: rows of 48 are no blocks of q"));
  }
}

TEST_CASE("hub: folders come back bit for bit, by themselves and by way of GGUF", "[hub]") {
  const fs::path goldens = tests::shared_folder("goldens");
  for (const char* name : {"gpt2", "llama", "llama-headdim", "llama-rope-llama3", "llama-tied-bias", "mistral-window4",
                           "qwen2", "bert-mlm", "bert-classify", "t5"}) {
    INFO(name);
    const Folder folder;
    const std::unique_ptr<Source> source = open_model(goldens / name);
    export_folder(*source, folder / "copy");
    const auto original = contents(open_safetensors(goldens / name / "model.safetensors"));
    CHECK(contents(open_safetensors(folder / "copy" / "model.safetensors")) == original);
    CHECK(slurp(folder / "copy" / "config.json") == slurp(goldens / name / "config.json"));
    CHECK(open_model(folder / "copy")->generation() == source->generation());
    CHECK_THROWS_WITH(export_folder(*source, folder / "copy"), ContainsSubstring("there already"));
    if (source->config().family() == Family::bert || source->config().family() == Family::t5) {
      CHECK_THROWS_WITH(export_gguf(*source, folder / "a.gguf"), ContainsSubstring("GGUF"));
      continue;
    }
    export_gguf(*source, folder / "a.gguf");
    const std::unique_ptr<Source> gguf = open_model(folder / "a.gguf");
    check_same_tensors(*source, *gguf);
    export_folder(*gguf, folder / "back");
    CHECK(contents(open_safetensors(folder / "back" / "model.safetensors")) == original);
    const std::unique_ptr<Source> back = open_model(folder / "back");
    CHECK(back->config().model == gguf->config().model);
    // And GGUF again, to the same bytes.
    export_gguf(*gguf, folder / "b.gguf");
    CHECK(slurp(folder / "a.gguf") == slurp(folder / "b.gguf"));
    if (fs::exists(golden(name))) {
      CHECK(contents(open_gguf(folder / "a.gguf").tensors) == contents(open_gguf(golden(name)).tensors));
    }
  }
}

TEST_CASE("hub: another type is asked for, and what a file cannot hold is refused", "[hub]") {
  const Folder folder;
  const std::unique_ptr<Source> source = open_model(golden("qwen2"));
  for (const StoredType type : {StoredType::f16, StoredType::bf16}) {
    const std::string to = experiments::name(type);
    export_folder(*source, folder / to, type);
    const std::unique_ptr<Source> back = open_model(folder / to);
    for (const TensorInfo& info : back->tensors()) {
      CHECK(info.type == type);
      const std::vector<float> a = source->read_floats(info.name), b = back->read_floats(info.name);
      double worst = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        const float rounded = type == StoredType::f16 ? half_value(half_bits(a[i])) : bfloat_value(bfloat_bits(a[i]));
        worst = std::max(worst, std::abs(double(rounded) - double(b[i])));
      }
      CHECK(worst == 0);
    }
    CHECK(back->config().dtype == (type == StoredType::f16 ? "float16" : "bfloat16"));
  }
  CHECK_THROWS_WITH(export_folder(*source, folder / "q", StoredType::q8_0), ContainsSubstring("q8_0"));
  // Blocks become f32 in a folder, with the values that they have.
  const std::unique_ptr<Source> quantized = open_model(golden("llama-headdim-q4_0"));
  export_folder(*quantized, folder / "whole");
  const std::unique_ptr<Source> whole = open_model(folder / "whole");
  CHECK(whole->read_stored("layers.0.attention.q.weight").type == StoredType::f32);
  CHECK(whole->read_floats("layers.0.attention.q.weight") == quantized->read_floats("layers.0.attention.q.weight"));

  nlohmann::json config = nlohmann::json::parse(slurp(folder / "whole" / "config.json"));
  const auto refuses = [&](const nlohmann::json& changes, const char* what) {
    nlohmann::json changed = config;
    changed.update(changes);
    std::ofstream(folder / "whole" / "config.json") << changed.dump();
    CHECK_THROWS_WITH(export_gguf(*open_model(folder / "whole"), folder / "no.gguf"), ContainsSubstring(what));
    CHECK_FALSE(fs::exists(folder / "no.gguf"));
  };
  refuses({{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}}}, "'dynamic'");
  refuses({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}, {"attention_factor", 2}}}}, "attention_factor");
}

TEST_CASE("hub: rope types that GGUF has come back from it", "[hub]") {
  const Folder folder;
  export_folder(*open_model(golden("llama-tied-bias")), folder / "model");
  nlohmann::json config = nlohmann::json::parse(slurp(folder / "model" / "config.json"));
  const nlohmann::json ropes[] = {
      {{"rope_type", "linear"}, {"factor", 4.0}},
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"beta_fast", 16.0}, {"original_max_position_embeddings", 32}},
      {{"rope_type", "longrope"},
       {"short_factor", {1, 1.5, 2, 3}},
       {"long_factor", {1, 2, 3, 4}},
       {"attention_factor", 1.25},
       {"original_max_position_embeddings", 16}}};
  for (const nlohmann::json& rope : ropes) {
    INFO(rope.dump());
    config["rope_scaling"] = rope;
    std::ofstream(folder / "model" / "config.json") << config.dump();
    const std::unique_ptr<Source> source = open_model(folder / "model");
    export_gguf(*source, folder / "a.gguf");
    RopeConfig back = open_model(folder / "a.gguf")->config().llama().rope;
    back.has_factor = source->config().llama().rope.has_factor;
    CHECK(back == source->config().llama().rope);
  }
}

TEST_CASE("hub: GGUF keys that are not supported are refused by name", "[hub]") {
  const Folder folder;
  const Gguf original = open_gguf(golden("llama-tied-bias"));
  const auto refused = [&](const std::string& key, const GgufValue& value, const char* what) {
    Gguf file = original;
    std::erase_if(file.metadata, [&](const auto& entry) { return entry.first == key; });
    if (value.integers.size() + value.floats.size() + value.texts.size() > 0) file.metadata.emplace_back(key, value);
    std::vector<GgufTensor> tensors;
    for (const std::string& name : file.order) {
      tensors.push_back({name, *file.tensors.at(name).type, file.tensors.at(name).shape});
    }
    write_gguf(folder / "x.gguf", file.metadata, tensors, [&](size_t i) {
      const FileTensor& tensor = file.tensors.at(file.order[i]);
      std::vector<std::byte> bytes(tensor.bytes);
      tensor.file->read(tensor.offset, bytes);
      return bytes;
    });
    INFO(key);
    CHECK_THROWS_WITH(open_model(folder / "x.gguf"), ContainsSubstring("x.gguf") && ContainsSubstring(what));
  };
  refused("general.architecture", GgufValue::of(std::string("mamba")), "'mamba' is not supported; there are llama");
  refused("general.architecture", {}, "general.architecture is missing");
  refused("llama.expert_count", GgufValue::of(uint32_t(8)), "llama.expert_count");
  refused("llama.logit_scale", GgufValue::of(2.f), "llama.logit_scale");
  refused("llama.rope.scaling.type", GgufValue::of(std::string("ntk")), "'ntk'");
  refused("llama.rope.dimension_count", GgufValue::of(uint32_t(4)), "rotary positions of 4 in heads of 8");
  refused("llama.block_count", GgufValue::of(uint32_t(100000)), "num_hidden_layers");
  refused("llama.block_count", GgufValue::of(uint32_t(3)), "missing: blk.2.attn_norm.weight");
  refused("llama.block_count", GgufValue::of(uint32_t(1)), "left over: blk.1.attn_k.bias");
  refused("llama.attention.head_count", GgufValue::of(uint32_t(0)), "0 heads");
  refused("llama.attention.head_count", {}, "llama.attention.head_count is missing");
  refused("llama.feed_forward_length", GgufValue::of(uint32_t(40)), "blk.0.ffn_gate.bias is [48] and not [40]");
  refused("split.count", GgufValue::of(uint32_t(2)), "several GGUF files");
}

}  // namespace
}  // namespace surtsey::experiments::hub
