// Tasks: layout, arithmetic, purity of the data, hold-out, corruption, scoring, text.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include "experiments/tasks/chain.h"
#include "experiments/tasks/parity.h"
#include "experiments/tasks/text.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;

namespace {

ChainOptions all_arms() {
  ChainOptions options;
  options.arms = {"cot", "direct", "filler", "permuted"};
  return options;
}

std::vector<int32_t> row(const Batch& batch, int32_t b) {
  const auto start = batch.tokens.begin() + b * batch.block_size;
  return {start, start + batch.block_size};
}

}  // namespace

TEST_CASE("chain sequences follow the documented layout", "[tasks]") {
  const ChainTask plain(ChainOptions{});
  CHECK(plain.vocab_size() == 14);
  CHECK(plain.block_size() == 18);
  CHECK(plain.padding_token() == 13);
  CHECK(plain.chance() == 0.1);

  const ChainTask task(all_arms());
  CHECK(task.vocab_size() == 17);
  const Batch batch = task.sample(Split::kTrain, 5, 3, 64);
  for (int32_t b = 0; b < 64; ++b) {
    const std::vector<int32_t> tokens = row(batch, b);
    CAPTURE(task.decode(tokens));
    const std::string kind = task.decode(std::span(tokens).first(1));
    CHECK(kind == std::string(1, "CDFP"[b % 4]));
    CHECK(task.decode(std::span(tokens).subspan(9, 1)) == "=");
    std::vector<int32_t> sums;
    int32_t sum = 0;
    for (int i = 1; i <= 8; ++i) {
      REQUIRE(tokens[i] >= 0);
      REQUIRE(tokens[i] < 10);
      sums.push_back(sum = (sum + tokens[i]) % 10);
    }
    std::string expected;
    const auto put = [&](const std::string& symbol) { expected += (expected.empty() ? "" : " ") + symbol; };
    if (kind == "C") {
      for (const int32_t one : sums) put(std::to_string(one));
    } else if (kind == "D") {
      put(std::to_string(sum));
      for (int i = 0; i < 7; ++i) put("_");
    } else if (kind == "F") {
      for (int i = 0; i < 7; ++i) put(".");
      put(std::to_string(sum));
    } else {
      for (int i = 6; i >= 0; --i) put(std::to_string(sums[i]));
      put(std::to_string(sum));
    }
    CHECK(task.decode(std::span(tokens).subspan(10)) == expected);
    // The loss counts exactly the answer: what follows '=' and is not padding.
    for (int32_t t = 0; t < 18; ++t) {
      const size_t at = static_cast<size_t>(b * 18 + t);
      const bool answer = t >= 9 && t < 17 && tokens[t + 1] != task.padding_token();
      CHECK(batch.weights[at] == (answer ? 1.0f : 0.0f));
      if (t < 17) CHECK(batch.targets[at] == tokens[t + 1]);
    }
  }
}

TEST_CASE("a sample is a pure function of seed, step and index", "[tasks]") {
  const ChainTask task(ChainOptions{});
  const Batch whole = task.sample(Split::kTrain, 1, 7, 32);
  const Batch again = task.sample(Split::kTrain, 1, 7, 32);
  const Batch tail = task.sample(Split::kTrain, 1, 7, 8, 24);
  CHECK(whole.tokens == again.tokens);
  for (int32_t b = 0; b < 8; ++b) CHECK(row(tail, b) == row(whole, 24 + b));
  CHECK(task.sample(Split::kTrain, 2, 7, 32).tokens != whole.tokens);
  CHECK(task.sample(Split::kTrain, 1, 8, 32).tokens != whole.tokens);
  CHECK(task.sample(Split::kTest, 1, 7, 32).tokens != whole.tokens);
  CHECK(task.sample(Split::kValidation, 1, 7, 32).tokens != whole.tokens);
}

TEST_CASE("the data are the same on every machine", "[tasks]") {
  const ChainTask task(ChainOptions{});
  const Batch batch = task.sample(Split::kTrain, 0, 0, 2);
  CHECK(task.decode(row(batch, 0)) == "C 9 4 4 7 1 4 6 8 = 9 3 7 4 5 9 5 3");
  CHECK(task.decode(row(batch, 1)) == "D 5 2 3 2 8 7 9 9 = 5 _ _ _ _ _ _ _");
}

TEST_CASE("the mixture gives exact shares", "[tasks]") {
  ChainOptions options;
  options.arms = {"cot", "direct"};
  options.mixture = {1, 3};
  const ChainTask task(options);
  const Batch batch = task.sample(Split::kTrain, 0, 0, 40);
  int32_t chains = 0;
  for (int32_t b = 0; b < 40; ++b) chains += row(batch, b)[0] == 12 ? 1 : 0;
  CHECK(chains == 10);
}

TEST_CASE("test items are the same problems in every arm", "[tasks]") {
  const ChainTask task(all_arms());
  const auto chain = task.test_items(0, 50, 9);
  REQUIRE(chain.size() == 50);
  for (int32_t arm = 1; arm < 4; ++arm) {
    const auto items = task.test_items(arm, 50, 9);
    for (size_t i = 0; i < items.size(); ++i) {
      CHECK(std::ranges::equal(items[i].prompt().subspan(1), chain[i].prompt().subspan(1)));
      CHECK(items[i].answer().back() == chain[i].answer().back());
      CHECK(items[i].answer_length == (arm == 1 ? 1 : 8));
    }
  }
  const Batch batch = task.to_batch(chain);
  CHECK(std::count(batch.weights.begin(), batch.weights.end(), 1.0f) == 50 * 8);
  CHECK(task.arm_index("filler") == 2);
  CHECK_THROWS_WITH(task.arm_index("thoughts"), ContainsSubstring("cot, direct, filler, permuted"));
}

TEST_CASE("few prompts: every prompt belongs to one split", "[tasks]") {
  ChainOptions options;
  options.length = 3;
  const ChainTask task(options);
  REQUIRE(task.holds_out());
  std::set<std::vector<int32_t>> seen[3];
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    for (uint32_t step = 0; step < 50; ++step) {
      const Batch batch = task.sample(split, 1, step, 64);
      for (int32_t b = 0; b < 64; ++b) {
        const auto tokens = row(batch, b);
        seen[static_cast<int>(split)].insert({tokens.begin() + 1, tokens.begin() + 4});
      }
    }
  }
  const auto items = task.test_items(0, 1000, 4);
  std::set<std::vector<int32_t>> asked;
  for (const Item& item : items) {
    asked.insert({item.sequence.begin() + 1, item.sequence.begin() + 4});
  }
  CHECK(asked.size() == items.size());
  CHECK(items.size() > 80);
  CHECK(items.size() < 170);
  for (const auto& digits : asked) {
    CHECK(task.split_of(digits) == Split::kTest);
    CHECK_FALSE(seen[0].contains(digits));
    CHECK_FALSE(seen[1].contains(digits));
  }
  for (const auto& digits : seen[1]) CHECK_FALSE(seen[0].contains(digits));
  CHECK(task.test_items(0, 10, 4).size() == 10);
  CHECK(task.test_items(0, 10, 5)[0].sequence != task.test_items(0, 10, 4)[0].sequence);

  options.held_out_share = 0;
  const ChainTask open(options);
  CHECK_FALSE(open.holds_out());
  CHECK(open.test_items(0, 1000, 4).size() == 1000);
}

TEST_CASE("corruption moves one step and predicts the answer", "[tasks]") {
  const ChainTask task(ChainOptions{});
  const auto items = task.test_items(0, 400, 3);
  std::set<int32_t> positions, amounts;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto answer = items[i].answer();
    const Corruption moved = task.corrupt(17, static_cast<uint32_t>(i), items[i], answer);
    REQUIRE(moved.possible);
    positions.insert(moved.position);
    amounts.insert(moved.amount);
    REQUIRE(moved.forced.size() == static_cast<size_t>(moved.position) + 1);
    CHECK(std::equal(moved.forced.begin(), moved.forced.end() - 1, answer.begin()));
    CHECK(moved.forced.back() == (answer[moved.position] + moved.amount) % 10);
    // A causal continuation: adding the remaining digits to the corrupted step.
    int32_t sum = moved.forced.back();
    for (int32_t k = moved.position + 1; k < 8; ++k) sum = (sum + items[i].sequence[k + 1]) % 10;
    CHECK(sum == moved.expected_final_token);
  }
  CHECK(positions == std::set<int32_t>{0, 1, 2, 3, 4, 5, 6});
  CHECK(amounts == std::set<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9});
  // A response without digits cannot be moved.
  const std::vector<int32_t> padding(8, task.padding_token());
  CHECK_FALSE(task.corrupt(17, 0, items[0], padding).possible);
  const auto direct = task.test_items(1, 1, 3);
  CHECK_THROWS_AS(task.corrupt(17, 0, direct[0], direct[0].answer()), UserError);
}

TEST_CASE("scores separate the final answer from the chain", "[tasks]") {
  const ChainTask task(ChainOptions{});
  const auto items = task.test_items(0, 4, 3);
  std::vector<int32_t> responses;
  for (const Item& item : items) {
    responses.insert(responses.end(), item.answer().begin(), item.answer().end());
  }
  responses[8 + 2] = (responses[8 + 2] + 1) % 10;    // item 1: one wrong step, right answer
  responses[16 + 7] = (responses[16 + 7] + 1) % 10;  // item 2: wrong answer
  const ArmScore score = task.score(items, responses);
  CHECK(score.items == 4);
  CHECK(score.exact_match() == 0.75);
  CHECK(score.chain_exact_match() == 0.5);
  CHECK(score.position_accuracy() == std::vector<double>{1, 1, 0.75, 1, 1, 1, 1, 0.75});
  CHECK(score.position_product() == 0.5625);
  const ItemScore one = task.score(items[1], std::span(responses).subspan(8, 8));
  CHECK(one.final_correct);
  CHECK_FALSE(one.chain_correct);
}

TEST_CASE("parity is the chain modulo two", "[tasks]") {
  const auto task = make_parity(16);
  CHECK(task->name() == "parity");
  CHECK(task->chance() == 0.5);
  CHECK(task->vocab_size() == 6);
  CHECK(task->block_size() == 34);
  for (const Item& item : task->test_items(1, 100, 0)) {
    int32_t ones = 0;
    for (int i = 1; i <= 16; ++i) ones += item.sequence[i];
    CHECK(item.answer()[0] == ones % 2);
  }
}

TEST_CASE("bad task options name what is wrong", "[tasks]") {
  const auto with = [](auto change) {
    ChainOptions options;
    change(options);
    return ChainTask(options);
  };
  CHECK_THROWS_WITH(with([](auto& o) { o.modulus = 1; }), ContainsSubstring("modulus 1"));
  CHECK_THROWS_WITH(with([](auto& o) { o.length = 1; }), ContainsSubstring("length 1"));
  CHECK_THROWS_WITH(with([](auto& o) { o.arms = {"cot", "maybe"}; }), ContainsSubstring("unknown arm 'maybe'"));
  CHECK_THROWS_WITH(with([](auto& o) { o.arms = {"cot", "cot"}; }), ContainsSubstring("twice"));
  CHECK_THROWS_WITH(with([](auto& o) { o.mixture = {1}; }), ContainsSubstring("mixture"));
  CHECK_THROWS_WITH(with([](auto& o) { o.mixture = {0, 0}; }), ContainsSubstring("no arm"));
}

TEST_CASE("chain text reads back", "[tasks]") {
  ChainOptions options = all_arms();
  options.modulus = 23;
  const ChainTask task(options);
  for (int32_t arm = 0; arm < 4; ++arm) {
    for (const Item& item : task.test_items(arm, 20, 1)) {
      CHECK(task.encode(task.decode(item.sequence)) == item.sequence);
    }
  }
  CHECK_THROWS_WITH(task.encode("C 1 23"), ContainsSubstring("'23'"));
}

TEST_CASE("text is split, windowed and decoded by character", "[tasks]") {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "Füße, 走る! " + std::to_string(i) + "\n";
  const TextSource source(text, 16);
  CHECK(source.decode(source.encode("Füße 走る")) == "Füße 走る");
  CHECK_THROWS_WITH(source.encode("Q"), ContainsSubstring("'Q'"));
  const auto all = source.encode(text);
  CHECK(source.train_size() == all.size() * 9 / 10);
  CHECK(source.train_size() + source.validation_size() == all.size());

  const Batch train = source.sample(Split::kTrain, 1, 0, 200);
  CHECK(train.tokens == source.sample(Split::kTrain, 1, 0, 200).tokens);
  CHECK(train.tokens != source.sample(Split::kTrain, 1, 1, 200).tokens);
  CHECK(std::count(train.weights.begin(), train.weights.end(), 1.0f) == 200 * 16);
  const auto contains = [&](auto first, auto last, const Batch& batch, int32_t b) {
    auto window = row(batch, b);
    window.push_back(batch.targets[static_cast<size_t>(b + 1) * 16 - 1]);
    return std::search(first, last, window.begin(), window.end()) != last;
  };
  const auto border = all.begin() + static_cast<std::ptrdiff_t>(source.train_size());
  const Batch validation = source.sample(Split::kValidation, 1, 0, 200);
  for (int32_t b = 0; b < 200; ++b) {
    CHECK(contains(all.begin(), border, train, b));
    CHECK(contains(border, all.end(), validation, b));
  }

  // Consecutive windows cover the validation part without overlap.
  std::vector<int32_t> tokens(16), targets(16), joined;
  std::vector<float> weights(16);
  for (size_t i = 0; i < source.validation_windows(); ++i) {
    source.write_validation_window(i, tokens, targets, weights);
    joined.insert(joined.end(), tokens.begin(), tokens.end());
  }
  CHECK(std::equal(joined.begin(), joined.end(), border));
  CHECK(source.validation_size() - joined.size() <= 16);

  const TextSource decoder = TextSource::from_vocabulary(source.vocabulary(), 16);
  CHECK(decoder.decode(all) == text);
}

TEST_CASE("text that cannot be used is refused by name", "[tasks]") {
  CHECK_THROWS_WITH(TextSource("short", 64), ContainsSubstring("too few"));
  CHECK_THROWS_WITH(TextSource("\xC3(", 1), ContainsSubstring("byte 1 is not UTF-8"));
  CHECK_THROWS_WITH(TextSource("ab\xE0\x80\x80", 1), ContainsSubstring("byte 2 is not UTF-8"));
  const TextSource source = TextSource::from_vocabulary("ab", 8);
  CHECK_THROWS_WITH(source.encode("a\nb"), ContainsSubstring("a line break does not occur in the training text"));
  CHECK_THROWS_WITH(source.encode("c"), ContainsSubstring("'c' does not occur"));
  CHECK_THROWS_WITH(source.encode("\xEF\xBB\xBF"), ContainsSubstring("U+FEFF does not occur"));
}
