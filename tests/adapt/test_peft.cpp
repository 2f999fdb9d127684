// Adapters as PEFT writes them: their logits are PEFT's, and what does not fit is named.
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"

#include "experiments/adapt/peft.h"
#include "experiments/base/file.h"
#include "experiments/evaluate/model_outputs.h"
#include "experiments/models/hub/import.h"

#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

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

TEST_CASE("a LoRA adapter of PEFT gives PEFT's logits", "[device]") {
  const std::filesystem::path folder = tests::shared_folder("goldens/gpt2-lora");
  SURTSEY_NEED_DEVICE();
  const auto source = hub::open_model(tests::shared_folder("goldens/gpt2"));
  const nlohmann::json golden = nlohmann::json::parse(read_file(folder / "golden.json"));
  ModelInputs inputs;
  const bool rows = golden.at("input_ids").front().is_array();
  (rows ? golden.at("input_ids") : nlohmann::json::array({golden.at("input_ids")})).get_to(inputs.input_ids);
  const auto with = model_outputs(device, *source, inputs, folder).at("logits");
  const auto without = model_outputs(device, *source, inputs).at("logits");
  double largest = 0, furthest = 0, moved = 0;
  size_t i = 0;
  for (const auto& row : rows ? golden.at("logits") : nlohmann::json::array({golden.at("logits")})) {
    for (const auto& place : row) {
      for (const auto& logit : place) {
        const double expected = logit.get<double>();
        largest = std::max(largest, std::abs(expected));
        furthest = std::max(furthest, std::abs(with.values.at(i) - expected));
        moved = std::max(moved, std::abs(without.values.at(i) - expected));
        ++i;
      }
    }
  }
  CHECK(i == with.values.size());
  CHECK(furthest <= 1e-5 * largest);
  CHECK(moved > 1e-2 * largest);
}

TEST_CASE("adapters that are something else are refused by name") {
  const std::filesystem::path golden = tests::shared_folder("goldens/gpt2-lora");
  const auto source = hub::open_model(tests::shared_folder("goldens/gpt2"));
  const Model model(hub::model_config(*source, {8, 0}));
  const tests::Folder folder;
  const auto open = [&](const std::filesystem::path& path) { LoraAdapter(path, *source, model); };
  CHECK(LoraAdapter(golden, *source, model).matrices().size() == 12);
  CHECK_THROWS_WITH(open(tests::shared_folder("goldens/gpt2-ia3")), ContainsSubstring("IA3"));
  CHECK_THROWS_WITH(open(tests::shared_folder("goldens/gpt2-prefix")), ContainsSubstring("PREFIX_TUNING"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "use_dora", true)), ContainsSubstring("use_dora"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "bias", "all")), ContainsSubstring("bias"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "modules_to_save", {"score"})),
                    ContainsSubstring("modules_to_save"));
  CHECK_THROWS_WITH(open(changed(golden, folder.path(), "lora_alpha", "eight")), ContainsSubstring("lora_alpha"));
  CHECK_THROWS_WITH(open(folder.path() / "nowhere"), ContainsSubstring("adapter_config.json"));
  // Over a model of another shape: the modules are not there.
  const auto other = hub::open_model(tests::shared_folder("goldens/llama"));
  const Model llama(hub::model_config(*other, {8, 0}));
  CHECK_THROWS_WITH(LoraAdapter(golden, *other, llama), ContainsSubstring("c_attn"));
}
