// Models that others trained go on with tokens as their own code does.
#include "experiments/generate/text_model.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using nlohmann::json;

TEST_CASE("greedy continuations of models that others trained are those of transformers", "[device][hub]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  engine::Device device = tests::open_test_device();
  for (const char* name : {"gpt2", "llama-headdim", "mistral-window4", "qwen2", "t5"}) {
    CAPTURE(name);
    const json golden = json::parse(tests::slurp(goldens / name / "golden.json"));
    const auto source = hub::open_model(goldens / name);
    auto prompt = golden.at("input_ids").get<std::vector<int32_t>>();
    // What is padding was not read.
    if (golden.contains("attention_mask")) {
      const auto mask = golden.at("attention_mask").get<std::vector<int32_t>>();
      prompt.resize(size_t(std::count(mask.begin(), mask.end(), 1)));
    }
    auto expected = golden.at("greedy").get<std::vector<int32_t>>();
    const bool answers = source->config().family() == hub::Family::t5;
    // What was given stands before it: the prompt, or the token that an answer begins with.
    expected.erase(expected.begin(), expected.begin() + (answers ? 1 : std::ptrdiff_t(prompt.size())));
    TextModel model(device, *source, {.context = 48, .source = answers ? int64_t(prompt.size()) : 0});
    hub::GenerationConfig how = source->generation();
    how.max_new_tokens = int64_t(expected.size());
    std::vector<int32_t> told;
    const auto tell = [&](int32_t token) {
      told.push_back(token);
      return true;
    };
    CHECK(model.generate(prompt, how, 0, tell) == expected);
    CHECK(told == expected);
    // Again, and stopped by who listens.
    CHECK(model.generate(prompt, how, 0, [](int32_t) { return false; }) ==
          std::vector<int32_t>(expected.begin(), expected.begin() + 1));
    how.repetition_penalty = 1.3;
    CHECK(TextModel::unsupported(how) == std::vector<std::string>{"repetition_penalty"});
    CHECK_THROWS_AS(model.generate(prompt, how, 0), UserError);
  }
}
