// Adapters as PEFT writes them: their logits are PEFT's, and what does not fit is named.
#include "tests/support/adapted.h"
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"

#include "experiments/adapt/adaptation.h"
#include "experiments/base/file.h"
#include "experiments/evaluate/model_outputs.h"
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/import.h"

#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using tests::same;

namespace {

// The golden adapter with other keys in its configuration.
std::filesystem::path changed(const std::filesystem::path& folder, const std::filesystem::path& to, const char* key,
                              const nlohmann::json& value) {
  std::filesystem::copy(folder / "adapter_model.safetensors", to / "adapter_model.safetensors",
                        std::filesystem::copy_options::overwrite_existing);
  nlohmann::json config = nlohmann::json::parse(read_file(folder / "adapter_config.json"));
  config[key] = value;
  write_file_atomic(to / "adapter_config.json", config.dump());
  return to;
}

}  // namespace

TEST_CASE("adapters of PEFT give PEFT's logits", "[device][adapt]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  SURTSEY_NEED_DEVICE();
  const auto source = hub::open_model(goldens / "gpt2");
  for (const char* kind : {"gpt2-lora", "gpt2-ia3", "gpt2-prefix"}) {
    CAPTURE(kind);
    const nlohmann::json golden = nlohmann::json::parse(read_file(goldens / kind / "golden.json"));
    ModelInputs inputs;
    golden.at("input_ids").get_to(inputs.input_ids.emplace_back());
    const auto with = model_outputs(device, *source, inputs, goldens / kind).at("logits");
    const auto without = model_outputs(device, *source, inputs).at("logits");
    double largest = 0, furthest = 0, moved = 0;
    size_t i = 0;
    for (const auto& place : golden.at("logits")) {
      for (const auto& logit : place) {
        const double expected = logit.get<double>();
        largest = std::max(largest, std::abs(expected));
        furthest = std::max(furthest, std::abs(with.values.at(i) - expected));
        moved = std::max(moved, std::abs(without.values.at(i) - expected));
        ++i;
      }
    }
    CHECK(i == with.values.size());
    CHECK(furthest <= 1e-5 * largest);
    CHECK(moved > 1e-2 * largest);
  }
}

TEST_CASE("an adapter of PEFT is written as PEFT has written it") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  const auto source = hub::open_model(goldens / "gpt2");
  for (const char* kind : {"gpt2-lora", "gpt2-ia3", "gpt2-prefix"}) {
    CAPTURE(kind);
    const tests::Folder folder;
    const Model room(hub::model_config(*source, {8 + adapter_virtual_tokens(goldens / kind), 0}));
    const Adaptation adaptation(goldens / kind, *source, room);
    adaptation.save(folder.path(), adaptation.tensors());
    const char* const tensors = "adapter_model.safetensors";
    CHECK(same(read_safetensors((folder / tensors).string()).tensors,
               read_safetensors((goldens / kind / tensors).string()).tensors));
    const auto config_of = [](const std::filesystem::path& path) {
      return nlohmann::json::parse(read_file(path / "adapter_config.json"));
    };
    const nlohmann::json theirs = config_of(goldens / kind), ours = config_of(folder.path());
    for (const auto& [key, value] : ours.items()) {
      CAPTURE(key);
      const bool ends = key == "target_modules" && std::string(kind) == "gpt2-ia3";  // attn.c_attn for c_attn
      if (!ends) CHECK(theirs.at(key) == value);
    }
  }
}

TEST_CASE("adapters that are something else are refused by name") {
  const std::filesystem::path golden = tests::shared_folder("goldens/gpt2-lora");
  const auto source = hub::open_model(tests::shared_folder("goldens/gpt2"));
  const Model model(hub::model_config(*source, {8, 0}));
  const tests::Folder folder;
  const auto open = [&](const std::filesystem::path& path) { Adaptation(path, *source, model); };
  CHECK(Adaptation(golden, *source, model).modules().size() == 8);
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "peft_type", "OFT")), ContainsSubstring("OFT"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "use_dora", true)), ContainsSubstring("lora_magnitude_vector"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "init_lora_weights", "pissa_niter_4")),
                    ContainsSubstring("pissa"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "layer_replication", {{0, 1}})),
                    ContainsSubstring("layer_replication"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "bias", "all")), ContainsSubstring("bias"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "modules_to_save", {"lm_head"})),
                    ContainsSubstring("modules_to_save"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "lora_alpha", "eight")), ContainsSubstring("lora_alpha"));
  CHECK_THROWS_WITH(open(folder.path() / "nowhere"), ContainsSubstring("adapter_config.json"));
  // Over a model of another shape: the modules are not there.
  const auto other = hub::open_model(tests::shared_folder("goldens/llama"));
  const Model llama(hub::model_config(*other, {8, 0}));
  CHECK_THROWS_WITH(Adaptation(golden, *other, llama), ContainsSubstring("c_attn"));
}
