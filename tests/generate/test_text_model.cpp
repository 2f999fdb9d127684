// Models that others trained go on with tokens as their own code does.
#include "experiments/generate/text_model.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

using namespace surtsey;
using namespace surtsey::experiments;
using nlohmann::json;

namespace {

using Tokens = std::vector<int32_t>;

constexpr const char* kDecoders[] = {
    "gpt2", "llama", "llama-headdim", "llama-rope-llama3", "llama-tied-bias", "qwen2", "mistral-window4", "t5"};

struct Golden {
  json file;
  std::unique_ptr<hub::Source> source;
  Tokens prompt;
  bool answers = false;

  // The new tokens of a continuation; what was given stands before it: the prompt, or the token that an answer begins
  // with.
  Tokens continuation(const char* key) const {
    const auto all = file.at(key).get<Tokens>();
    return {all.begin() + (answers ? 1 : std::ptrdiff_t(prompt.size())), all.end()};
  }
  hub::GenerationConfig how(const Tokens& expected) const {
    hub::GenerationConfig result = source->generation();
    result.max_new_tokens = int64_t(expected.size());
    return result;
  }
};

Golden open_golden(const std::filesystem::path& folder) {
  Golden golden{json::parse(tests::slurp(folder / "golden.json")), hub::open_model(folder), {}};
  golden.prompt = golden.file.at("input_ids").get<Tokens>();
  // What is padding was not read.
  if (golden.file.contains("attention_mask")) {
    const auto mask = golden.file.at("attention_mask").get<Tokens>();
    golden.prompt.resize(size_t(std::count(mask.begin(), mask.end(), 1)));
  }
  golden.answers = golden.source->config().family() == hub::Family::t5;
  return golden;
}

Tokens only(const std::vector<Tokens>& texts) {
  REQUIRE(texts.size() == 1);
  return texts[0];
}

}  // namespace

TEST_CASE("continuations of models that others trained are those of transformers", "[device][hub]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  engine::Device device = tests::open_test_device();
  for (const char* name : kDecoders) {
    CAPTURE(name);
    const Golden golden = open_golden(goldens / name);
    TextModel model(device, *golden.source, {.slots = 4, .context = 48, .source = golden.answers ? 16 : 0});
    const Tokens greedy = golden.continuation("greedy");
    hub::GenerationConfig how = golden.how(greedy);
    Tokens told;
    const auto tell = [&](int64_t text, int32_t token) {
      CHECK(text == 0);
      told.push_back(token);
      return true;
    };
    CHECK(only(model.generate(golden.prompt, how, 0, tell)) == greedy);
    CHECK(told == greedy);
    // Again, and stopped by who listens.
    CHECK(only(model.generate(golden.prompt, how, 0, [](int64_t, int32_t) { return false; })) == Tokens{greedy[0]});

    const Tokens beams = golden.continuation("beam4");
    how = golden.how(beams);
    how.num_beams = 4;
    told.clear();
    CHECK(only(model.generate(golden.prompt, how, 0, tell)) == beams);
    CHECK(told == beams);
    // And the others of the four, which are other texts.
    how.num_return_sequences = 4;
    const std::vector<Tokens> all = model.generate(golden.prompt, how, 0);
    CHECK(all.size() == 4);
    CHECK(all[0] == beams);
    CHECK(std::set<Tokens>(all.begin(), all.end()).size() == 4);
    if (golden.answers) continue;

    const Tokens penalized = golden.continuation("repetition_1_3");
    how = golden.how(penalized);
    how.repetition_penalty = 1.3;
    CHECK(only(model.generate(golden.prompt, how, 0)) == penalized);
    const Tokens varied = golden.continuation("no_repeat_ngram_2");
    how = golden.how(varied);
    how.no_repeat_ngram_size = 2;
    CHECK(only(model.generate(golden.prompt, how, 0)) == varied);
  }
}

TEST_CASE("a padded batch of transformers is texts in slots", "[device][hub]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  engine::Device device = tests::open_test_device();
  for (const char* name : kDecoders) {
    CAPTURE(name);
    const Golden golden = open_golden(goldens / name);
    if (golden.answers) continue;
    Slots slots(device, *golden.source, {.slots = 2, .context = 48});
    for (size_t row = 0; row < 2; ++row) {
      const auto ids = golden.file.at("left_padded_ids")[row].get<Tokens>();
      const auto mask = golden.file.at("left_padded_mask")[row].get<Tokens>();
      Tokens text;
      for (size_t i = 0; i < ids.size(); ++i)
        if (mask[i] == 1) text.push_back(ids[i]);
      const auto expected = golden.file.at("left_padded_last_logits")[row].get<std::vector<double>>();
      slots.read(int32_t(row), text, int64_t(text.size()) - 1, [&](int64_t, std::span<const float> logits) {
        REQUIRE(logits.size() == expected.size());
        double largest = 0, difference = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          largest = std::max(largest, std::abs(expected[i]));
          difference = std::max(difference, std::abs(expected[i] - double(logits[i])));
        }
        CHECK(difference / largest < 2e-5);
      });
    }
  }
}

TEST_CASE("texts that are drawn depend on their seed and number alone", "[device]") {
  engine::Device device = tests::open_test_device();
  const auto source = hub::open_model(std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/gguf/qwen2.gguf");
  const Tokens prompt = {3, 17, 42, 8};
  hub::GenerationConfig how;
  how.do_sample = true;
  how.temperature = 2;
  how.max_new_tokens = 12;
  how.tokens.eos = {5, 6, 7, 8};  // so that some end early
  how.num_return_sequences = 5;
  TextModel four(device, *source, {.slots = 4, .context = 40}), one(device, *source, {.context = 40});
  const std::vector<Tokens> texts = four.generate(prompt, how, 11);
  REQUIRE(texts.size() == 5);
  CHECK(std::set<Tokens>(texts.begin(), texts.end()).size() == 5);
  for (const Tokens& text : texts) {
    CHECK(text.size() >= 1);
    const bool ended = text.back() >= 5 && text.back() <= 8;
    CHECK((ended || text.size() == 12));
    CHECK(std::none_of(text.begin(), text.end() - 1, [](int32_t token) { return token >= 5 && token <= 8; }));
  }
  CHECK(four.generate(prompt, how, 11) == texts);
  CHECK(one.generate(prompt, how, 11) == texts);
  CHECK(one.generate(prompt, how, 12) != texts);
  // A text that is stopped does not change the others.
  std::vector<Tokens> told(5);
  const auto stopped = four.generate(prompt, how, 11, [&](int64_t text, int32_t token) {
    told[size_t(text)].push_back(token);
    return text != 1;
  });
  CHECK(told == stopped);
  CHECK(stopped[1] == Tokens{texts[1][0]});
  for (const size_t other : {0, 2, 3, 4}) CHECK(stopped[other] == texts[other]);
  // Beams that are drawn: the same again, others with another seed.
  how.num_return_sequences = 2;
  how.num_beams = 3;
  const std::vector<Tokens> beams = four.generate(prompt, how, 1);
  CHECK(beams.size() == 2);
  CHECK(four.generate(prompt, how, 1) == beams);
  CHECK(four.generate(prompt, how, 2) != beams);
  CHECK_THROWS_AS(one.generate(prompt, how, 1), UserError);  // more beams than slots
  how.num_return_sequences = 4;
  CHECK_THROWS_AS(four.generate(prompt, how, 1), UserError);  // more texts than beams
  how.num_beams = 1;
  how.do_sample = false;
  CHECK_THROWS_AS(four.generate(prompt, how, 1), UserError);  // the same text four times
  how.num_return_sequences = 1;
  CHECK_THROWS_AS(four.generate({}, how, 1), UserError);
  CHECK_THROWS_AS(four.generate(Tokens(40, 1), how, 1), UserError);
  // The context ends a text.
  how.max_new_tokens = 100;
  how.tokens.eos = {};
  CHECK(only(four.generate(prompt, how, 0)).size() == 36);
}
