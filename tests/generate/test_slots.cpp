// Texts side by side on the device: what a slot is told does not depend on the others, on how many are stepped at
// once, or on how a text was read. All to the bit.
#include "experiments/generate/slots.h"
#include "experiments/models/hub/export.h"
#include "tests/support/support_device.h"
#include "tests/support/wide_heads.h"

#include <catch2/catch_test_macros.hpp>

#include <limits>
#include <nlohmann/json.hpp>
#include <random>

using namespace surtsey;
using namespace surtsey::experiments;

namespace {

using Tokens = std::vector<int32_t>;
using Logits = std::vector<float>;

std::unique_ptr<hub::Source> model(const std::string& name) {
  return hub::open_model(std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/gguf" / (name + ".gguf"));
}

constexpr int32_t kBad = 5;  // a token whose embedding is no number

// A model and how its keys and values are kept; `golden`: by name, else one of random weights in `folder`.
struct Kept {
  std::unique_ptr<hub::Source> source;
  std::string cache_type = "f32";
};
Kept golden(const std::string& name, const std::string& cache_type = "f32") { return {model(name), cache_type}; }
Kept wide(const tests::Folder& folder, const std::string& cache_type) {
  return {tests::wide_heads(folder / cache_type, 30), cache_type};
}

// An encoder-decoder of random weights.
std::unique_ptr<hub::Source> t5(const std::filesystem::path& folder, int64_t head) {
  return tests::random_model(folder,
                             {{"model_type", "t5"},
                              {"architectures", {"T5ForConditionalGeneration"}},
                              {"d_model", 32},
                              {"d_kv", head},
                              {"d_ff", 48},
                              {"num_layers", 2},
                              {"num_decoder_layers", 2},
                              {"num_heads", 4},
                              {"relative_attention_num_buckets", 8},
                              {"vocab_size", 61},
                              {"decoder_start_token_id", 0},
                              {"relative_attention_max_distance", 10}},
                             1);
}

Tokens tokens(uint32_t seed, size_t count) {
  std::mt19937 draw(seed);
  Tokens result(count);
  for (int32_t& token : result) token = int32_t(draw() % 61);
  return result;
}

Logits last_of(Slots& slots, int32_t slot, const Tokens& text) {
  Logits result;
  slots.read(slot, text, int64_t(text.size()) - 1, [&](int64_t position, std::span<const float> logits) {
    CHECK(position == int64_t(text.size()) - 1);
    result.assign(logits.begin(), logits.end());
  });
  return result;
}

Logits row(std::span<const float> logits, size_t i, size_t V) {
  return {logits.begin() + std::ptrdiff_t(i * V), logits.begin() + std::ptrdiff_t((i + 1) * V)};
}

// The logits after each of the tokens of `text` from `prompt` on, alone in one slot.
std::vector<Logits> alone(Slots& slots, int32_t slot, const Tokens& text, size_t prompt) {
  std::vector<Logits> result = {last_of(slots, slot, {text.begin(), text.begin() + std::ptrdiff_t(prompt)})};
  for (size_t i = prompt; i < text.size(); ++i) {
    const std::span<const float> logits = slots.step(std::vector<SlotToken>{{slot, text[i]}});
    result.emplace_back(logits.begin(), logits.end());
  }
  return result;
}

}  // namespace

namespace {

// Texts of `length` tokens of which 20 are a prompt; of so many slots, the one that is looked at with so many others.
struct Company {
  int64_t slots = 8;
  size_t length = 40;
  int64_t context = 60;
  std::vector<size_t> others = {1, 2, 3, 5, 7};
};

void check_alone_and_among_others(engine::Device& device, const std::vector<Kept>& models,
                                  const Company& company = {}) {
  for (const auto& [source, cache_type] : models) {
    CAPTURE(source->path().string(), cache_type);
    Slots one(device, *source, {.context = company.context, .cache_type = cache_type}),
        several(device, *source, {.slots = company.slots, .context = company.context, .cache_type = cache_type});
    const auto V = size_t(one.vocabulary());
    const Tokens text = tokens(1, company.length);
    const std::vector<Logits> expected = alone(one, 0, text, 20);
    // In each slot alone, which the program of one row is bound to.
    CHECK(alone(several, 0, text, 20) == expected);
    CHECK(alone(several, int32_t(company.slots) - 1, text, 20) == expected);
    // With so many others, each somewhere else in its own text.
    for (const size_t others : company.others) {
      CAPTURE(others);
      const auto mine = int32_t(others % 2 == 0 ? 0 : others);
      std::vector<Tokens> texts(others + 1);
      for (size_t slot = 0; slot <= others; ++slot) {
        texts[slot] = int32_t(slot) == mine ? text : tokens(uint32_t(100 + slot), 60);
        const size_t prompt = int32_t(slot) == mine ? 20 : 3 + 4 * slot;
        const Logits read =
            last_of(several, int32_t(slot), {texts[slot].begin(), texts[slot].begin() + std::ptrdiff_t(prompt)});
        if (int32_t(slot) == mine) CHECK(read == expected[0]);
      }
      for (size_t i = 20; i < text.size(); ++i) {
        std::vector<SlotToken> next;
        size_t at = 0;
        for (size_t slot = others + 1; slot-- > 0;) {
          if (int32_t(slot) == mine) at = next.size();
          next.push_back({int32_t(slot), texts[slot][several.text(int32_t(slot)).size()]});
        }
        REQUIRE(row(several.step(next), at, V) == expected[i - 19]);
      }
    }
  }
}

}  // namespace

TEST_CASE("a text gets the same logits alone, with another and among eight", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  std::vector<Kept> models;
  for (const char* name : {"gpt2", "qwen2", "llama-rope-llama3"}) models.push_back(golden(name));
  check_alone_and_among_others(device, models);
}

TEST_CASE("and so whatever keys and values are kept in", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  if (!device.target().f16_storage) SKIP("this device does not store 16 bits");
  const tests::Folder folder;
  std::vector<Kept> models;
  models.push_back(golden("gpt2", "f16"));
  for (const char* type : {"f16", "q8_0"}) models.push_back(wide(folder, type));
  check_alone_and_among_others(device, models, {.others = {1, 2, 7}});
}

// Not in the suite: it takes lavapipe minutes.
TEST_CASE("and so with products in shared memory", "[.slots_shared_tile]") {
  engine::Device device = tests::open_test_device({.without = {"subgroup_ballot"}});
  std::vector<Kept> models;
  models.push_back(golden("qwen2"));
  check_alone_and_among_others(device, models, {.slots = 2, .length = 22, .context = 24, .others = {1}});
}

TEST_CASE("a text gets the same logits however it is read", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  std::vector<Kept> models;
  for (const char* name : {"gpt2", "qwen2", "llama-headdim-q8_0"}) models.push_back(golden(name));
  if (device.target().f16_storage)
    for (const char* type : {"f16", "q8_0"}) models.push_back(wide(folder, type));
  for (const auto& [source, cache_type] : models) {
    CAPTURE(source->path().string(), cache_type);
    Slots slots(device, *source, {.slots = 2, .context = 64, .cache_type = cache_type, .scores = true});
    REQUIRE(slots.chunk() == 64);
    const Tokens text = tokens(2, 50);
    std::vector<Logits> all;
    slots.read(0, text, 0, [&](int64_t position, std::span<const float> logits) {
      CHECK(position == int64_t(all.size()));
      all.emplace_back(logits.begin(), logits.end());
    });
    REQUIRE(all.size() == text.size());
    CHECK(slots.text(0) == text);
    // Token by token, and by the last token of each beginning.
    CHECK(alone(slots, 1, text, 1) == all);
    for (const size_t length : {50, 49, 10, 11, 30}) {
      CHECK(last_of(slots, 1, {text.begin(), text.begin() + std::ptrdiff_t(length)}) == all[length - 1]);
    }
    // Another text between, and what is common is not read again.
    Tokens other = text;
    other[20] = (other[20] + 1) % 61;
    const Logits different = last_of(slots, 1, other);
    CHECK(different != all.back());
    CHECK(last_of(slots, 1, text) == all.back());
    CHECK(last_of(slots, 0, other) == different);
    // The end of it again.
    std::vector<Logits> end;
    slots.read(1, text, 45,
               [&](int64_t, std::span<const float> logits) { end.emplace_back(logits.begin(), logits.end()); });
    CHECK(end == std::vector<Logits>(all.begin() + 45, all.end()));
    // None at all, and on from there.
    slots.read(1, text, int64_t(text.size()), [](int64_t, std::span<const float>) { FAIL("nothing was asked for"); });
    CHECK(slots.text(1) == text);
  }
}

TEST_CASE("a long text is read in parts", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const auto source = model("qwen2");
  Slots slots(device, *source, {.slots = 3, .context = 200});
  const Tokens text = tokens(3, 180), other = tokens(4, 30);
  const Logits expected = last_of(slots, 0, text);
  const std::vector<Logits> others = alone(slots, 1, other, 10);
  last_of(slots, 2, {other.begin(), other.begin() + 10});
  const auto nothing = [](int64_t, std::span<const float>) {};
  for (int64_t part = slots.chunk(); part < 180; part += slots.chunk()) {
    slots.read(1, std::span(text).first(size_t(part)), part, nothing);
    const size_t at = slots.text(2).size();
    const std::span<const float> logits = slots.step(std::vector<SlotToken>{{2, other[at]}});
    CHECK(Logits(logits.begin(), logits.end()) == others[at - 9]);
  }
  CHECK(last_of(slots, 1, text) == expected);
}

TEST_CASE("a text gets the same logits beside one that is much longer", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  const Tokens text = tokens(5, 520), other = tokens(6, 1050);
  std::vector<Kept> models;
  models.push_back(golden("qwen2"));
  if (device.target().f16_storage) models.push_back({tests::wide_heads(folder.path()), "q8_0"});
  for (const auto& [source, cache_type] : models) {
    CAPTURE(cache_type);
    Slots one(device, *source, {.context = 500, .cache_type = cache_type}),
        two(device, *source, {.slots = 2, .context = 1100, .cache_type = cache_type});
    const auto V = size_t(one.vocabulary());
    // Steps of the first alone look at 512 columns at first; those of both at all of them.
    const std::vector<Logits> expected = alone(one, 0, {text.begin(), text.begin() + 500}, 480);
    const std::vector<Logits> crossing = alone(two, 0, text, 480);
    CHECK(std::equal(expected.begin(), expected.end(), crossing.begin()));
    CHECK(last_of(two, 0, {text.begin(), text.begin() + 480}) == expected[0]);
    last_of(two, 1, {other.begin(), other.begin() + 1000});
    for (size_t i = 480; i < text.size(); ++i) {
      const std::vector<SlotToken> next = {{0, text[i]}, {1, other[1000 + i - 480]}};
      REQUIRE(row(two.step(next), 0, V) == crossing[i - 479]);
    }
  }
}

TEST_CASE("slots are copied as texts, in any order", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  std::vector<Kept> models;
  models.push_back(golden("gpt2"));
  if (device.target().f16_storage)
    for (const char* type : {"f16", "q8_0"}) models.push_back(wide(folder, type));
  for (const auto& [source, cache_type] : models) {
    CAPTURE(cache_type);
    Slots slots(device, *source, {.slots = 4, .context = 60, .cache_type = cache_type}),
        one(device, *source, {.context = 60, .cache_type = cache_type});
    const auto V = size_t(one.vocabulary());
    std::vector<Tokens> texts;
    for (uint32_t slot = 0; slot < 4; ++slot) {
      texts.push_back(tokens(10 + slot, 12 + 3 * slot));
      // They begin alike.
      std::copy_n(texts[0].begin(), 9, texts.back().begin());
      last_of(slots, int32_t(slot), texts.back());
    }
    for (const std::vector<int32_t>& from :
         std::vector<std::vector<int32_t>>{{1, 0, 3, 2}, {0, 1, 2, 3}, {1, 2, 3, 0}, {2, 2, 0, 0}, {3, 3, 3, 3}}) {
      std::vector<Tokens> moved;
      for (const int32_t slot : from) moved.push_back(texts[size_t(slot)]);
      slots.reorder(from);
      texts = moved;
      std::vector<SlotToken> next;
      for (int32_t slot = 0; slot < 4; ++slot) next.push_back({slot, 7 + slot});
      const std::span<const float> logits = slots.step(next);
      for (int32_t slot = 0; slot < 4; ++slot) {
        CHECK(slots.text(slot).size() == texts[size_t(slot)].size() + 1);
        texts[size_t(slot)].push_back(7 + slot);
        CHECK(slots.text(slot) == texts[size_t(slot)]);
        CHECK(row(logits, size_t(slot), V) == last_of(one, 0, texts[size_t(slot)]));
      }
    }
  }
}

TEST_CASE("slots refuse what they cannot do, and stay as they are", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const auto source = model("gpt2");
  Slots slots(device, *source, {.slots = 2, .context = 10});
  const auto nothing = [](int64_t, std::span<const float>) {};
  const Tokens text = tokens(1, 10);
  CHECK_THROWS_AS(slots.read(2, text, 10, nothing), UserError);
  CHECK_THROWS_AS(slots.read(-1, text, 10, nothing), UserError);
  CHECK_THROWS_AS(slots.read(0, Tokens{}, 0, nothing), UserError);
  CHECK_THROWS_AS(slots.read(0, Tokens(11, 1), 10, nothing), UserError);
  CHECK_THROWS_AS(slots.read(0, text, 5, nothing), UserError);  // without scores
  CHECK_THROWS_AS(slots.read(0, Tokens{61}, 0, nothing), UserError);
  CHECK_THROWS_AS(slots.step(std::vector<SlotToken>{{0, 1}}), UserError);  // no text
  slots.read(0, Tokens(text.begin(), text.begin() + 9), 8, nothing);
  CHECK_THROWS_AS(slots.step(std::vector<SlotToken>{{0, -1}}), UserError);
  CHECK_THROWS_AS(slots.step(std::vector<SlotToken>{{0, 1}, {0, 1}}), UserError);
  CHECK_THROWS_AS(slots.set_source(0, text), UserError);
  CHECK_THROWS_AS(slots.reorder(std::vector<int32_t>{0}), UserError);
  CHECK_THROWS_AS(slots.reorder(std::vector<int32_t>{0, 2}), UserError);
  CHECK(slots.text(0).size() == 9);
  slots.step(std::vector<SlotToken>{{0, text[9]}});
  CHECK_THROWS_AS(slots.step(std::vector<SlotToken>{{0, 1}}), UserError);  // full
  CHECK(slots.text(0) == text);
  // A full slot is passed over and keeps what it has.
  const Logits full = last_of(slots, 0, text);
  slots.read(1, text, 9, nothing);
  slots.read(1, Tokens{1}, 0, nothing);
  for (int32_t i = 0; i < 9; ++i) slots.step(std::vector<SlotToken>{{1, i}});
  CHECK(last_of(slots, 0, text) == full);
  CHECK_THROWS_AS(Slots(device, *source, {.slots = 0}), UserError);
  CHECK_THROWS_AS(Slots(device, *source, {.weights = "trained"}), UserError);
}

namespace {

void check_sources(engine::Device& device, const hub::Source& source, const std::string& cache_type) {
  CAPTURE(cache_type);
  Slots slots(device, source, {.slots = 3, .context = 20, .source = 10, .cache_type = cache_type, .scores = true}),
      one(device, source, {.context = 20, .source = 10, .cache_type = cache_type});
  const auto V = size_t(one.vocabulary());
  CHECK_THROWS_AS(one.read(0, Tokens{0}, 0, [](int64_t, std::span<const float>) {}), UserError);
  CHECK_THROWS_AS(one.set_source(0, Tokens{}), UserError);
  CHECK_THROWS_AS(one.set_source(0, Tokens(100, 1)), UserError);
  const Tokens text = tokens(9, 12);
  std::vector<std::vector<Logits>> expected;
  std::vector<Tokens> sources;
  for (uint32_t i = 0; i < 3; ++i) {
    sources.push_back(tokens(20 + i, 5 + 2 * i));
    one.set_source(0, sources[i]);
    CHECK(one.text(0).empty());
    expected.push_back(alone(one, 0, text, 3));
    slots.set_source(int32_t(i), sources[i]);
    CHECK(last_of(slots, int32_t(i), {text.begin(), text.begin() + 3}) == expected[i][0]);
  }
  CHECK(expected[0] != expected[1]);
  const auto step = [&](size_t i, const std::vector<size_t>& which) {
    const std::vector<SlotToken> next = {{2, text[i]}, {0, text[i]}, {1, text[i]}};
    const std::span<const float> logits = slots.step(next);
    for (size_t at = 0; at < 3; ++at) CHECK(row(logits, at, V) == expected[which[size_t(next[at].slot)]][i - 2]);
  };
  for (size_t i = 3; i < 7; ++i) step(i, {0, 1, 2});
  // Copies answer the source of what they are copies of.
  slots.reorder(std::vector<int32_t>{1, 0, 0});
  for (size_t i = 7; i < 12; ++i) step(i, {1, 0, 0});
  // All at once.
  std::vector<Logits> all;
  slots.set_source(2, sources[2]);
  slots.read(2, text, 2,
             [&](int64_t, std::span<const float> logits) { all.emplace_back(logits.begin(), logits.end()); });
  CHECK(all == expected[2]);
}

}  // namespace

TEST_CASE("an encoder-decoder's slots have a source each", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  check_sources(device, *t5(folder / "8", 8), "f32");
  if (!device.target().f16_storage) return;
  const auto wide = t5(folder / "32", 32);
  for (const char* type : {"f16", "q8_0"}) check_sources(device, *wide, type);
}

TEST_CASE("logits that are not finite end a slot's text and no other's", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const tests::Folder folder;
  hub::export_folder(*model("llama-rope-llama3"), folder / "model");
  Safetensors content = read_safetensors((folder / "model" / "model.safetensors").string());
  graph::HostTensor& embedding = content.tensors.at("model.embed_tokens.weight");
  const auto width = embedding.type.shape[1];
  std::fill_n(embedding.values.begin() + kBad * width, width, std::numeric_limits<double>::quiet_NaN());
  tests::write_tensors(folder / "model" / "model.safetensors", content);
  const auto source = hub::open_model(folder / "model");
  Slots slots(device, *source, {.slots = 4, .context = 70}), one(device, *source, {.context = 70});
  const auto V = size_t(one.vocabulary());
  const auto fine = [](uint32_t seed, size_t count) {
    Tokens result = tokens(seed, count);
    std::replace(result.begin(), result.end(), kBad, kBad + 1);
    return result;
  };
  const Tokens text = fine(1, 60);
  const std::vector<Logits> expected = alone(one, 0, text, 10);
  for (int32_t slot = 0; slot < 3; ++slot) last_of(slots, slot, {text.begin(), text.begin() + 10});
  std::vector<SlotToken> next = {{0, text[10]}, {1, kBad}, {2, text[10]}};
  try {
    slots.step(next);
    FAIL("nothing was thrown");
  } catch (const NotFinite& error) {
    CHECK(error.slots() == std::vector<int32_t>{1});
  }
  for (int32_t slot = 0; slot < 3; ++slot) CHECK(slots.text(slot).size() == 10);
  next.erase(next.begin() + 1);
  std::span<const float> logits = slots.step(next);
  for (const size_t i : {0, 1}) CHECK(row(logits, i, V) == expected[1]);
  // The slot that failed goes on, or reads another text, as if nothing had been.
  logits = slots.step(std::vector<SlotToken>{{1, text[10]}});
  CHECK(row(logits, 0, V) == expected[1]);
  // In columns that the texts after it do not reach.
  Tokens bad = fine(2, 68);
  bad[66] = kBad;
  CHECK_THROWS_AS(last_of(slots, 3, bad), NotFinite);
  CHECK(slots.text(3).empty());
  CHECK(alone(slots, 3, text, 10) == expected);
  CHECK_THROWS_AS(last_of(slots, 3, bad), NotFinite);
  CHECK(last_of(slots, 3, text) == expected.back());
  CHECK_THROWS_AS(last_of(slots, 3, bad), NotFinite);
  // Copied before it is whole again.
  slots.reorder(std::vector<int32_t>{0, 1, 3, 3});
  CHECK(alone(slots, 2, text, 10) == expected);
  CHECK(alone(slots, 3, text, 10) == expected);
}
