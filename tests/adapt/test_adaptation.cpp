// Ways of adapting a model: ten steps of each are PyTorch's (tests/golden/adapt.py), through PEFT's files in and out;
// merged weights are the adapter; what does not fit is named.
#include "tests/support/adapted.h"
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"
#include "tests/support/golden_steps.h"

#include "experiments/adapt/adaptation.h"
#include "experiments/adapt/peft.h"
#include "experiments/base/file.h"
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/import.h"
#include "graph/functions.h"
#include "graph/optimizer.h"

#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using tests::frozen_state;
using tests::furthest;
using tests::golden_folder;
using tests::largest;
using tests::logits_with;
using tests::model_for;
using tests::same;

namespace {

Program training_step(const Model& model, const Type& rows) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  const Value logits = model.logits(parameters, program.graph->parameter("tokens", rows));
  const Value weights = program.graph->parameter("weights", {DType::f32, rows.shape});
  const Value loss = cross_entropy(logits, program.graph->parameter("targets", rows), weights).mean;
  optimize(parameters, parameters.flat_gradient(loss), loss, tests::golden_steps_optimizer());
  program.outputs = {{"loss", loss}};
  return program;
}

const std::vector<std::string> kMethods = {"lora", "rslora", "dora", "ia3", "prefix", "prompt", "bitfit", "adapters"};

void check_golden_steps(const std::string& family, const std::string& method, const Target& target,
                        const tests::GoldenSteps& steps) {
  CAPTURE(family, method);
  const auto source = hub::open_model(golden_folder(family));
  const Safetensors golden = read_safetensors((golden_folder(family) / (method + ".safetensors")).string());
  const tests::Folder folder;
  tests::write_golden_adapter(golden, "i.", folder / "before");
  const HostTensor& tokens = golden.tensors.at("tokens");
  Model model = model_for(*source, folder / "before", tokens.type.shape[1]);
  const Adaptation adaptation(folder / "before", *source, model);
  adaptation.install(model, target);
  State state = initial_optimizer_state(model.store(), tests::golden_steps_optimizer(), 5e-3);
  state["learning_rate"].round_to_storage();
  state[kParameters] = adaptation.start(model, {});
  state.merge(model.constants());
  state.merge(frozen_state(model, *source, &adaptation));
  for (const char* name : {"tokens", "targets", "weights"}) state[name] = golden.tensors.at(name);
  const State after = steps(training_step(model, tokens.type), state);

  tests::check_golden_losses(golden, after);
  adaptation.save(folder / "after", model.store().unpack(after.at(kParameters)), "base");
  const Safetensors found = read_safetensors((folder / "after" / kAdapterTensors).string());
  size_t compared = 0;
  for (const auto& [name, tensor] : golden.tensors) {
    if (!name.starts_with("a.")) continue;
    CAPTURE(name);
    REQUIRE(found.tensors.contains(name.substr(2)));
    ++compared;
    // A bias of keys moves all scores of a query alike: its gradient is rounding, which Adam makes steps of.
    if (family == "gpt2" && name.ends_with("attention.k.bias")) continue;
    CHECK(furthest(found.tensors.at(name.substr(2)), tensor) <= 1e-4 * largest(tensor));
  }
  CHECK(compared == found.tensors.size());
  // What was written is read again, and gives the golden's logits.
  const HostTensor logits = logits_with(*source, folder / "after", tokens);
  CHECK(furthest(logits, golden.tensors.at("logits")) <= 1e-4 * largest(golden.tensors.at("logits")));
}

}  // namespace

TEST_CASE("ten steps of every method are PyTorch's, from PEFT's files and into them", "[adapt]") {
  for (const char* family : {"gpt2", "llama"})
    for (const std::string& method : kMethods) check_golden_steps(family, method, {}, tests::interpreted_steps);
}

TEST_CASE("ten steps of adapters on the device are PyTorch's", "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  check_golden_steps("gpt2", "prefix", device.target(), tests::device_steps(device));
  check_golden_steps("llama", "dora", device.target(), tests::device_steps(device));
}

// Minutes on a CPU's driver, which compiles each of the programs.
TEST_CASE("ten steps of every method on the device are PyTorch's", "[.][device][adaptation]") {
  SURTSEY_NEED_DEVICE();
  for (const char* family : {"gpt2", "llama"})
    for (const std::string& method : kMethods)
      check_golden_steps(family, method, device.target(), tests::device_steps(device));
}

TEST_CASE("merged weights give the logits of the adapter", "[adapt]") {
  for (const std::string family : {"gpt2", "llama"}) {
    const auto source = hub::open_model(golden_folder(family));
    for (const std::string method : {"lora", "rslora", "dora", "ia3", "bitfit"}) {
      if (family == "llama" && method == "bitfit") continue;  // its model has no place for biases
      CAPTURE(family, method);
      const Safetensors golden = read_safetensors((golden_folder(family) / (method + ".safetensors")).string());
      const tests::Folder folder;
      tests::write_golden_adapter(golden, "a.", folder.path());
      const HostTensor& tokens = golden.tensors.at("tokens");
      const Model model = model_for(*source, folder.path(), tokens.type.shape[1]);
      const Adaptation adaptation(folder.path(), *source, model);
      State base;
      hub::read_weights(*source, model, [&](const std::string& name, std::span<const std::byte> bytes) {
        base.emplace(name, HostTensor::from_bytes(model.store().flat_type(), {bytes.begin(), bytes.end()}));
      });
      State tensors = model.store().unpack(base.at(kParameters));
      for (const std::string& name : adaptation.merged_names())
        tensors.at(name) = adaptation.merged(name, tensors.at(name), adaptation.tensors());
      State state = model.constants();
      state[kParameters] = model.store().pack(tensors);
      state["tokens"] = tokens;
      Program program{std::make_shared<Graph>(), {}};
      Parameters parameters(*program.graph, model.store());
      program.outputs = {{"logits", model.logits(parameters, program.graph->parameter("tokens", tokens.type))}};
      const HostTensor logits = interpret(program, state).at("logits");
      CHECK(furthest(logits, golden.tensors.at("logits")) <= 1e-4 * largest(golden.tensors.at("logits")));
    }
  }
}

TEST_CASE("an adaptation starts where PEFT starts: as the base, drawn by seed", "[adapt]") {
  const auto source = hub::open_model(golden_folder("llama"));
  const Model plain(hub::model_config(*source, {7, 0}));
  const Type rows{DType::u32, {2, 7}};
  State base = plain.constants();
  hub::read_weights(*source, plain, [&](const std::string& name, std::span<const std::byte> bytes) {
    base.emplace(name, HostTensor::from_bytes(plain.store().flat_type(), {bytes.begin(), bytes.end()}));
  });
  base["tokens"] = HostTensor::random(rows, 0, 23, 5);
  const auto logits_of = [&](const Model& model, State state) {
    Program program{std::make_shared<Graph>(), {}};
    Parameters parameters(*program.graph, model.store());
    program.outputs = {{"logits", model.logits(parameters, program.graph->parameter("tokens", rows))}};
    return interpret(program, state).at("logits");
  };
  const HostTensor expected = logits_of(plain, base);
  std::vector<AdaptConfig> configs(7);
  configs[0] = {.target_modules = {"all-linear"}, .r = 3};
  configs[1] = {.target_modules = {"all-linear"}, .use_dora = true};
  configs[2].method = AdaptMethod::ia3;
  configs[3] = {.method = AdaptMethod::adapters, .adapter_kind = "houlsby"};
  configs[4].method = AdaptMethod::bitfit;
  configs[5] = {.method = AdaptMethod::partial, .num_layers = 1, .trainable = {"embed.*"}};
  configs[6].method = AdaptMethod::full;
  for (const AdaptConfig& config : configs) {
    CAPTURE(name(config.method));
    Model model(plain.config());
    const Adaptation adaptation(config, *source, model);
    adaptation.install(model, {});
    State state = base;
    state[kParameters] = adaptation.start(model, {.seed = 3});
    state.merge(frozen_state(model, *source, &adaptation));
    const HostTensor logits = logits_of(model, state);
    CHECK(furthest(logits, expected) <= (config.use_dora ? 1e-5 : 1e-9) * largest(expected));
    const HostTensor other = adaptation.start(model, {.seed = 4});
    const bool draws = config.method == AdaptMethod::lora || config.method == AdaptMethod::adapters;
    CHECK((other.values != state.at(kParameters).values) == draws);
  }
  // A is uniform within 1 / sqrt(in).
  Model model(plain.config());
  const Adaptation low({.target_modules = {"down_proj"}, .r = 16}, *source, model);
  low.install(model, {});
  const State start = model.store().unpack(low.start(model, {.seed = 1}));
  const HostTensor& a = start.at("adapter.model.layers.0.mlp.down_proj.lora_A.weight");
  CHECK(largest(a) <= 1 / std::sqrt(24.0));
  CHECK(largest(a) > 0.9 / std::sqrt(24.0));
  CHECK(largest(start.at("adapter.model.layers.0.mlp.down_proj.lora_B.weight")) == 0);
  const std::string text = shown(trained_parts(model.store()));
  CHECK_THAT(text, ContainsSubstring("trainable params: 1,280 ||"));
  CHECK_THAT(text, ContainsSubstring("adapter.model.layers.{0..1}.mlp.down_proj.lora_A.weight: 768 in 2 tensors"));
}

TEST_CASE("what trains of the base itself is saved and read by the hub's names", "[adapt]") {
  const auto source = hub::open_model(golden_folder("gpt2"));
  for (const AdaptMethod method : {AdaptMethod::partial, AdaptMethod::full}) {
    Model model(hub::model_config(*source, {7, 0}));
    const Adaptation adaptation({.method = method, .num_layers = 1, .trainable = {"*.norm1.*"}}, *source, model);
    adaptation.install(model, {});
    CHECK(model.store().spec("blocks.0.norm1.weight").frozen() == false);
    CHECK(model.store().spec("blocks.0.mlp.up.weight").frozen() == (method == AdaptMethod::partial));
    CHECK(model.store().spec("blocks.1.mlp.up.weight").frozen() == false);
    const State trained = model.store().unpack(adaptation.start(model, {}));
    const tests::Folder folder;
    adaptation.save(folder.path(), trained);
    const Model other(hub::model_config(*source, {7, 0}));
    CHECK(same(Adaptation(folder.path(), *source, other).tensors(), trained));
  }
}

TEST_CASE("virtual tokens start at embeddings of the vocabulary or of a text", "[adapt]") {
  const auto source = hub::open_model(golden_folder("gpt2"));
  Model model(hub::model_config(*source, {12, 0}));
  const Adaptation text({.method = AdaptMethod::prompt,
                         .num_virtual_tokens = 4,
                         .prompt_tuning_init = "TEXT",
                         .prompt_tuning_init_text = "words"},
                        *source, model);
  text.install(model, {});
  CHECK(model.virtual_tokens().count == 4);
  const std::vector<float> table = source->read_floats("embedding.weight");
  const auto row_is = [&](const HostTensor& rows, size_t row, size_t token) {
    return std::equal(rows.values.begin() + std::ptrdiff_t(row * 16),
                      rows.values.begin() + std::ptrdiff_t(row * 16 + 16), table.begin() + std::ptrdiff_t(token * 16));
  };
  const HostTensor rows =
      model.store().unpack(text.start(model, {.prompt_tokens = {5, 9, 2}})).at("adapter.prompt_embeddings");
  for (const auto& [row, token] : std::vector<std::pair<size_t, size_t>>{{0, 5}, {1, 9}, {2, 2}, {3, 5}})
    CHECK(row_is(rows, row, token));
  CHECK_THROWS_WITH(text.start(model, {}), ContainsSubstring("prompt_tuning_init_text"));
  Model other(hub::model_config(*source, {12, 0}));
  const Adaptation drawn({.method = AdaptMethod::prompt, .num_virtual_tokens = 2, .prompt_tuning_init = "SAMPLE_VOCAB"},
                         *source, other);
  drawn.install(other, {});
  const HostTensor some = other.store().unpack(drawn.start(other, {.seed = 7})).at("adapter.prompt_embeddings");
  for (size_t row = 0; row < 2; ++row) {
    bool found = false;
    for (size_t token = 0; token < 23; ++token) found = found || row_is(some, row, token);
    CHECK(found);
  }
}

TEST_CASE("what an adaptation cannot be is said by key and name", "[adapt]") {
  const auto source = hub::open_model(golden_folder("llama"));
  const Model model(hub::model_config(*source, {7, 0}));
  const auto make = [&](AdaptConfig config) { Adaptation(std::move(config), *source, model); };
  CHECK_THROWS_WITH(make({.target_modules = {"c_attn"}}),
                    ContainsSubstring("target_modules: 'c_attn' matches no module") &&
                        ContainsSubstring("model.layers.0.mlp.down_proj"));
  CHECK_THROWS_WITH(make({.target_modules = {"q_proj"}, .rank_pattern = {{"k_proj", 4}}}),
                    ContainsSubstring("rank_pattern: 'k_proj'"));
  CHECK_THROWS_WITH(make({.method = AdaptMethod::partial, .trainable = {"blocks.9.*"}}),
                    ContainsSubstring("trainable: 'blocks.9.*'") && ContainsSubstring("blocks.0.attention.k.weight"));
  CHECK_THROWS_WITH(make({.method = AdaptMethod::partial}), ContainsSubstring("num_layers"));
  CHECK_THROWS_WITH(make({.method = AdaptMethod::head}), ContainsSubstring("num_labels"));
  CHECK_THROWS_WITH(make({.r = 0}), ContainsSubstring("r is from 1"));
  CHECK_THROWS_WITH(make({.method = AdaptMethod::ia3, .target_modules = {"k_proj"}, .feedforward_modules = {"v_proj"}}),
                    ContainsSubstring("feedforward_modules"));
  AdaptKeys keys;
  keys.rank_pattern = {"q_proj"};
  CHECK_THROWS_WITH(adapt_config(keys), ContainsSubstring("q_proj") && ContainsSubstring("NAME=NUMBER"));
  keys.rank_pattern = {"q_proj=4", R"(layers\.1\..*=2)"};
  keys.method = "lora";
  const AdaptConfig config = adapt_config(keys);
  CHECK(config.rank_of("model.layers.1.self_attn.q_proj") == 4);
  CHECK(config.rank_of("model.layers.1.mlp.up_proj") == 2);
  CHECK(config.rank_of("model.layers.0.mlp.up_proj") == 8);
}
