// A sum with many ways to it: every sequence is right, orders vary, splits share no prompt.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>
#include <set>
#include <sstream>

#include "experiments/tasks/paths.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;

namespace {

// Reads a sequence as text and does the sum by hand; the order it took.
std::string order_of(const PathsTask& task, std::span<const int32_t> sequence, int32_t n, int32_t modulus) {
  std::istringstream text(task.decode(sequence));
  std::vector<int32_t> digits(static_cast<size_t>(n));
  for (int32_t& digit : digits) text >> digit;
  std::string equals, order;
  text >> equals;
  CHECK(equals == "=");
  int32_t total = 0, sum = 0;
  for (int32_t i = 0; i < n; ++i) {
    char place = 0;
    text >> place >> sum;
    order += place;
    total = (total + digits.at(static_cast<size_t>(place - 'a'))) % modulus;
    CHECK(sum == total);
  }
  int32_t whole = 0;
  for (const int32_t digit : digits) whole += digit;
  CHECK(sum == whole % modulus);
  std::string sorted = order;
  std::sort(sorted.begin(), sorted.end());
  CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
  return order;
}

}  // namespace

TEST_CASE("every path leads to the sum, and paths are drawn evenly", "[tasks]") {
  const PathsTask task({.modulus = 7, .length = 3});
  CHECK(task.block_size() == 10);
  CHECK(task.vocab_size() == 12);
  const Batch batch = task.sample(Split::kTrain, 2, 1, 1200);
  std::map<std::string, int> orders;
  for (size_t row = 0; row < 1200; ++row) {
    ++orders[order_of(task, std::span(batch.tokens).subspan(row * 10, 10), 3, 7)];
  }
  REQUIRE(orders.size() == 6);
  // 200 of each are expected, with a deviation of 13.
  for (const auto& [order, count] : orders) {
    CAPTURE(order);
    CHECK(count > 140);
    CHECK(count < 260);
  }
  for (size_t t = 0; t < 10; ++t) {
    CHECK(batch.weights[t] == (t >= 3 && t < 9 ? 1.0f : 0.0f));
    if (t < 9) CHECK(batch.targets[t] == batch.tokens[t + 1]);
  }
  const Item item = task.test_items(0, 3, 4).back();
  CHECK(item.prompt_length == 4);
  CHECK(item.answer().size() == 6);
  CHECK(task.encode(task.decode(item.sequence)) == item.sequence);
  CHECK_THROWS_WITH(task.encode("1 x"), ContainsSubstring("'x' is not in the vocabulary"));
}

TEST_CASE("splits of paths share no prompt", "[tasks]") {
  const PathsTask task({.modulus = 5, .length = 3});
  std::map<Split, std::set<std::vector<int32_t>>> prompts;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    const Batch batch = task.sample(split, 1, 0, 4000);
    for (size_t row = 0; row < 4000; ++row) {
      const auto start = batch.tokens.begin() + static_cast<std::ptrdiff_t>(row * 10);
      prompts[split].insert({start, start + 3});
      CHECK(task.split_of(std::span(batch.tokens).subspan(row * 10, 3)) == split);
    }
  }
  // All 125 prompts are someone's, in about the shares that were asked for.
  size_t total = 0;
  for (const auto& [split, set] : prompts) total += set.size();
  CHECK(total == 125);
  CHECK(prompts[Split::kTest].size() < 30);
  CHECK(prompts[Split::kTrain].size() > 85);
  CHECK_THROWS_WITH(PathsTask({.modulus = 1}), ContainsSubstring("modulus"));
  CHECK_THROWS_WITH(PathsTask({.length = 1}), ContainsSubstring("length"));
  CHECK_THROWS_WITH(PathsTask({.held_out_share = 0.9}), ContainsSubstring("held_out_share"));
}
