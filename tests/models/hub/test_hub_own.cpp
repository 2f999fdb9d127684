// Checkpoints of ours in the names of others.
#include "experiments/models/hub/export.h"
#include "experiments/models/hub/own.h"
#include "experiments/models/model.h"
#include "experiments/train/checkpoint.h"
#include "graph/error.h"
#include "tests/support/folder.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::hub {
namespace {

using Catch::Matchers::ContainsSubstring;
using tests::Folder;

ModelConfig own_config() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 8;
  config.block_size = 6;
  config.vocab_size = 11;
  return config;
}

ModelConfig tiny_llama() {
  ModelConfig config = own_config();
  config.bias = false;
  config.n_kv_head = 1;
  config.head_dim = 6;
  config.position = Position::rotary;
  config.norm = Norm::rms_norm;
  config.activation = experiments::Activation::swiglu;
  return config;
}

struct Saved {
  std::string path;
  graph::State tensors;
};

Saved save(const Folder& folder, const std::string& name, const ModelConfig& config) {
  const Model model(config);
  Checkpoint checkpoint;
  (*checkpoint.config)["model"] = to_json(config);
  checkpoint.step = 3;
  checkpoint.state[graph::kParameters] = model.store().initialise(7);
  graph::State tensors = model.store().to_tensors(checkpoint.state);
  for (auto& [tensor, values] : tensors) values.round_to_storage();
  return {save_checkpoint((folder / name).string(), checkpoint, model.store()), tensors};
}

void check_equal(const std::vector<float>& floats, const graph::HostTensor& tensor) {
  CHECK(std::vector<double>(floats.begin(), floats.end()) == tensor.values);
}

TEST_CASE("hub: a checkpoint with learned positions is a GPT-2, absent biases are zeros", "[hub]") {
  const Folder folder;
  for (const bool bias : {true, false}) {
    ModelConfig config = own_config();
    config.bias = bias;
    config.tied = bias;
    const Saved saved = save(folder, bias ? "with" : "without", config);
    const std::string out = (folder / (bias ? "a" : "b")).string();
    export_folder(*open_model(saved.path), out);
    const std::unique_ptr<Source> back = open_model(out);
    CHECK(back->config().gpt2().activation == Activation::gelu);
    CHECK(back->config().tied == bias);
    check_equal(back->read_floats("embedding.weight"), saved.tensors.at("embed.token"));
    check_equal(back->read_floats("embedding.position"), saved.tensors.at("embed.position"));
    for (const char* matrix : {"attention.q", "attention.k", "attention.v", "attention.out", "mlp.up", "mlp.down"}) {
      const std::string name = std::string("1.") + matrix;
      check_equal(back->read_floats("layers." + name + ".weight"), saved.tensors.at("blocks." + name + ".weight"));
      const std::vector<float> zeros(size_t(back->read_floats("layers." + name + ".bias").size()), 0.f);
      CHECK(back->read_floats("layers." + name + ".bias") == zeros);
    }
    CHECK(back->has("head.weight") != bias);
  }
}

TEST_CASE("hub: a checkpoint with rotary positions is a LLaMA, by way of GGUF too", "[hub]") {
  const Folder folder;
  ModelConfig with_bias = tiny_llama(), qwen = tiny_llama(), window = tiny_llama();
  with_bias.output_bias = true;
  qwen.attention_bias = true;
  window.window = 4;
  const std::pair<ModelConfig, const char*> cases[] = {
      {tiny_llama(), "llama"}, {with_bias, "llama"}, {qwen, "qwen2"}, {window, "mistral"}};
  int number = 0;
  for (const auto& [config, model_type] : cases) {
    const std::string name = std::to_string(number++);
    const Saved saved = save(folder, name, config);
    export_gguf(*open_model(saved.path), folder / (name + ".gguf"));
    export_folder(*open_model(folder / (name + ".gguf")), folder / (name + "-out"));
    const std::unique_ptr<Source> back = open_model(folder / (name + "-out"));
    const LlamaConfig& llama = back->config().llama();
    CHECK(llama.model_type == model_type);
    CHECK(llama.head_dim == 6);
    CHECK(llama.kv_heads == 1);
    CHECK(llama.windows == std::vector<int64_t>(2, config.window));
    for (const TensorInfo& info : back->tensors()) {
      std::string ours = info.name;
      if (ours == "embedding.weight") ours = "embed.token";
      if (ours.starts_with("layers.")) ours.replace(0, 6, "blocks");
      if (saved.tensors.contains(ours)) check_equal(back->read_floats(info.name), saved.tensors.at(ours));
    }
    CHECK(back->tensors().size() >= saved.tensors.size());
  }
}

TEST_CASE("hub: what neither GPT-2 nor LLaMA is, is refused by its key", "[hub]") {
  const auto refused = [](ModelConfig config, const char* what) {
    CHECK_THROWS_WITH(config_of(config), ContainsSubstring(what));
  };
  CHECK_NOTHROW(config_of(own_config()));
  CHECK_NOTHROW(config_of(tiny_llama()));
  ModelConfig config = own_config();
  config.norm_placement = NormPlacement::post;
  refused(config, "norm_placement");
  config = own_config();
  config.embedding_norm = true;
  refused(config, "embedding_norm");
  config = own_config();
  config.attention = AttentionKind::linear;
  refused(config, "attention");
  config = own_config();
  config.scaling.readout_multiplier = .5;
  refused(config, "readout_multiplier");
  config = own_config();
  config.position = Position::none;
  refused(config, "rotary");
  config = own_config();
  config.norm = Norm::rms_norm;
  refused(config, "layer_norm");
  config = tiny_llama();
  config.norm_bias = true;
  refused(config, "norm_bias");
  config = own_config();
  config.architecture = Architecture::encoder;
  refused(config, "decoders");
}

}  // namespace
}  // namespace surtsey::experiments::hub
