// Texts side by side on the device: what a slot is told does not depend on the others, on how many are stepped at
// once, or on how a text was read. All to the bit.
#include "experiments/generate/slots.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <random>

using namespace surtsey;
using namespace surtsey::experiments;

namespace {

using Tokens = std::vector<int32_t>;
using Logits = std::vector<float>;

std::unique_ptr<hub::Source> model(const std::string& name) {
  return hub::open_model(std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/gguf" / (name + ".gguf"));
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

TEST_CASE("a text gets the same logits alone, with another and among eight", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  for (const char* name : {"gpt2", "qwen2", "llama-rope-llama3"}) {
    CAPTURE(name);
    const auto source = model(name);
    Slots one(device, *source, {.context = 60}), eight(device, *source, {.slots = 8, .context = 60});
    const auto V = size_t(one.vocabulary());
    const Tokens text = tokens(1, 40);
    const std::vector<Logits> expected = alone(one, 0, text, 20);
    // In each slot alone, which the program of one row is bound to.
    CHECK(alone(eight, 0, text, 20) == expected);
    CHECK(alone(eight, 5, text, 20) == expected);
    // With so many others, each somewhere else in its own text.
    for (const size_t others : {1, 2, 3, 5, 7}) {
      CAPTURE(others);
      const auto mine = int32_t(others % 2 == 0 ? 0 : others);
      std::vector<Tokens> texts(8);
      for (size_t slot = 0; slot < 8; ++slot) {
        texts[slot] = int32_t(slot) == mine ? text : tokens(uint32_t(100 + slot), 60);
        if (slot > others) continue;
        const size_t prompt = int32_t(slot) == mine ? 20 : 3 + 4 * slot;
        const Logits read = last_of(eight, int32_t(slot), {texts[slot].begin(), texts[slot].begin() + std::ptrdiff_t(prompt)});
        if (int32_t(slot) == mine) CHECK(read == expected[0]);
      }
      for (size_t i = 20; i < text.size(); ++i) {
        std::vector<SlotToken> next;
        size_t at = 0;
        for (size_t slot = others + 1; slot-- > 0;) {
          if (int32_t(slot) == mine) at = next.size();
          next.push_back({int32_t(slot), texts[slot][eight.text(int32_t(slot)).size()]});
        }
        REQUIRE(row(eight.step(next), at, V) == expected[i - 19]);
      }
    }
  }
}

TEST_CASE("a text gets the same logits however it is read", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  for (const char* name : {"gpt2", "qwen2", "llama-headdim-q8_0"}) {
    CAPTURE(name);
    const auto source = model(name);
    Slots slots(device, *source, {.slots = 2, .context = 64, .scores = true});
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
    slots.read(1, text, 45, [&](int64_t, std::span<const float> logits) { end.emplace_back(logits.begin(), logits.end()); });
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

TEST_CASE("slots are copied as texts, in any order", "[device][slots]") {
  engine::Device device = tests::open_test_device();
  const auto source = model("gpt2");
  Slots slots(device, *source, {.slots = 4, .context = 60}), one(device, *source, {.context = 60});
  const auto V = size_t(one.vocabulary());
  std::vector<Tokens> texts;
  for (uint32_t slot = 0; slot < 4; ++slot) {
    texts.push_back(tokens(10 + slot, 12 + 3 * slot));
    // They begin alike.
    std::copy_n(texts[0].begin(), 9, texts.back().begin());
    last_of(slots, int32_t(slot), texts.back());
  }
  for (const std::vector<int32_t>& from : std::vector<std::vector<int32_t>>{
           {1, 0, 3, 2}, {0, 1, 2, 3}, {1, 2, 3, 0}, {2, 2, 0, 0}, {3, 3, 3, 3}}) {
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
