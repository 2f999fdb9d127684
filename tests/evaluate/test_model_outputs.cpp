// Models that others trained, run on the device, against what their own code computed for the same tokens.
#include "experiments/evaluate/model_outputs.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using nlohmann::json;

namespace {

using Rows = std::vector<std::vector<int32_t>>;

void flatten(const json& value, std::vector<double>& numbers) {
  if (!value.is_array()) {
    numbers.push_back(value.get<double>());
    return;
  }
  for (const json& part : value) flatten(part, numbers);
}

Rows rows(const json& golden, const char* key) {
  if (!golden.contains(key)) return {};
  const json& value = golden.at(key);
  if (value.front().is_array()) return value.get<Rows>();
  return {value.get<std::vector<int32_t>>()};
}

// The largest difference, as a share of the largest number of the reference.
double distance(const std::vector<double>& found, const json& expected) {
  std::vector<double> reference;
  flatten(expected, reference);
  REQUIRE(found.size() == reference.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(reference[i]));
    difference = std::max(difference, std::abs(found[i] - reference[i]));
  }
  return difference / largest;
}

}  // namespace

TEST_CASE("models that others trained give their logits", "[device][hub]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  engine::Device device = tests::open_test_device();
  for (const char* name : {"gpt2", "llama", "llama-headdim", "llama-rope-llama3", "llama-tied-bias", "mistral-window4",
                           "qwen2", "bert-mlm", "bert-classify", "t5"}) {
    CAPTURE(name);
    const auto folder = goldens / name;
    const json golden = json::parse(tests::slurp(folder / "golden.json"));
    const auto source = hub::open_model(folder);
    const auto outputs = model_outputs(device, *source,
                                       {.input_ids = rows(golden, "input_ids"),
                                        .token_type_ids = rows(golden, "token_type_ids"),
                                        .attention_mask = rows(golden, "attention_mask"),
                                        .decoder_input_ids = rows(golden, "decoder_input_ids")});
    REQUIRE(outputs.contains("logits"));
    for (const auto& [output, tensor] : outputs) {
      CAPTURE(output);
      CHECK(distance(tensor.values, golden.at(output)) < 1e-4);
    }
    if (!golden.contains("left_padded_ids")) continue;
    // Padding before a text changes nothing: positions count what is no padding, and no token sees it.
    const auto padded = model_outputs(
        device, *source,
        {.input_ids = rows(golden, "left_padded_ids"), .attention_mask = rows(golden, "left_padded_mask")});
    const graph::HostTensor& logits = padded.at("logits");
    const auto batch = size_t(logits.type.shape[0]), length = size_t(logits.type.shape[1]);
    const auto vocabulary = size_t(logits.type.shape[2]);
    std::vector<double> last;
    for (size_t b = 0; b < batch; ++b) {
      const auto begin = logits.values.begin() + std::ptrdiff_t((b * length + length - 1) * vocabulary);
      last.insert(last.end(), begin, begin + std::ptrdiff_t(vocabulary));
    }
    CHECK(distance(last, golden.at("left_padded_last_logits")) < 1e-4);
  }
}

TEST_CASE("what a model cannot take is refused before anything runs", "[device][hub]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  engine::Device device = tests::open_test_device();
  const auto gpt2 = hub::open_model(goldens / "gpt2");
  const auto message = [&](const hub::Source& source, const ModelInputs& inputs) -> std::string {
    try {
      model_outputs(device, source, inputs);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(message(*gpt2, {}) == "input_ids is empty");
  CHECK(message(*gpt2, {.input_ids = {{1, 61}}}) == "input_ids: row 0 has 61 at place 1; there are 0 to 60");
  CHECK(message(*gpt2, {.input_ids = {{1, 2}, {3}}}) == "input_ids: row 1 has 1 numbers, the others have 2");
  CHECK(message(*gpt2, {.input_ids = {{1}}, .attention_mask = {{2}}}) ==
        "attention_mask: row 0 has 2 at place 0; there are 0 to 1");
  CHECK(message(*gpt2, {.input_ids = {{1}}, .token_type_ids = {{0}}}).find("no token types") != std::string::npos);
  CHECK(message(*gpt2, {.input_ids = {{1}}, .decoder_input_ids = {{0}}}).find("one stack") != std::string::npos);
  CHECK(message(*gpt2, {.input_ids = {std::vector<int32_t>(65, 1)}}).find("learned 64 positions") != std::string::npos);
  const auto t5 = hub::open_model(goldens / "t5");
  CHECK(message(*t5, {.input_ids = {{1}}}).find("wants decoder_input_ids") != std::string::npos);
}
