// Operations behind markers: results by hand, problems that arms share, mixtures that are what they say.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <sstream>

#include "experiments/tasks/operations.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;

namespace {

const Operation kSum{"sum", "A", 1, 1, 0}, kAffine{"affine", "B", 3, 1, 1}, kAgain{"again", "N", 1, 1, 0};

}  // namespace

TEST_CASE("operations: every result follows from the one before, and arms share their problems", "[tasks]") {
  const OperationsTask task({.operations = {kSum, kAffine, kAgain}, .digits = 4});
  CHECK(task.block_size() == 1 + 4 + 1 + 3);
  CHECK(task.arms() == std::vector<std::string>{"sum", "affine", "again"});
  CHECK(task.chance() == 0.1);
  std::vector<std::vector<Item>> items;
  for (int32_t arm = 0; arm < 3; ++arm) items.push_back(task.test_items(arm, 200, 5));
  for (size_t arm = 0; arm < 3; ++arm) {
    const Operation& operation = task.options().operations[arm];
    REQUIRE(items[arm].size() == 200);
    for (size_t i = 0; i < 200; ++i) {
      const Item& item = items[arm][i];
      CHECK(std::equal(item.prompt().begin() + 1, item.prompt().end(), items[0][i].prompt().begin() + 1));
      std::istringstream text(task.decode(item.sequence));
      std::string marker, equals;
      std::vector<int32_t> x(4);
      text >> marker;
      for (int32_t& digit : x) text >> digit;
      text >> equals;
      CHECK(marker == operation.marker);
      CHECK(equals == "=");
      int32_t state = x[0];
      for (size_t k = 1; k < 4; ++k) {
        int32_t result = -1;
        text >> result;
        state = (operation.a * state + operation.b * x[k] + operation.c) % 10;
        CHECK(result == state);
      }
    }
  }
  CHECK(task.decode(items[1][0].sequence) == task.decode(task.encode(task.decode(items[1][0].sequence))));
}

TEST_CASE("operations: training has the shares of its mixture, the loss is on results alone", "[tasks]") {
  constexpr int32_t kSamples = 20'000;
  const OperationsTask task({.operations = {kSum, kAffine, kAgain}, .shares = {.01, .99, 0}, .digits = 4});
  const Batch batch = task.sample(Split::kTrain, 3, 7, kSamples);
  const auto length = static_cast<size_t>(task.block_size());
  int32_t counts[3] = {};
  const int32_t first_marker = task.encode("A").at(0);
  for (size_t row = 0; row < size_t(kSamples); ++row) {
    const int32_t arm = batch.tokens[row * length] - first_marker;
    REQUIRE(arm >= 0);
    REQUIRE(arm < 3);
    ++counts[arm];
  }
  CHECK(counts[2] == 0);
  CHECK(std::abs(counts[0] - kSamples / 100) < 5 * std::sqrt(kSamples / 100));
  CHECK(std::vector<float>(batch.weights.begin(), batch.weights.begin() + int64_t(length)) ==
        std::vector<float>{0, 0, 0, 0, 0, 1, 1, 1, 0});
  // Without shares each operation has as many.
  const OperationsTask even({.operations = {kSum, kAffine}, .digits = 4});
  const Batch both = even.sample(Split::kTrain, 3, 7, 1000);
  int32_t sums = 0;
  for (size_t row = 0; row < 1000; ++row) sums += both.tokens[row * length] == first_marker ? 1 : 0;
  CHECK(std::abs(sums - 500) < 5 * 16);
}

TEST_CASE("operations that cannot be told apart, or have no uniform results, are refused by name", "[tasks]") {
  CHECK_THROWS_WITH(OperationsTask({.operations = {kSum, {"other", "A", 3, 1, 1}}}), ContainsSubstring("marker 'A'"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {kSum, {"sum", "B", 3, 1, 1}}}), ContainsSubstring("named twice"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {{"even", "B", 1, 4, 0}}}), ContainsSubstring("shares a factor"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {{"digit", "3", 1, 1, 0}}}),
                    ContainsSubstring("symbol of the prompts"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {kSum, kAffine}, .shares = {1}}),
                    ContainsSubstring("1 shares for 2"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {kSum}, .shares = {0}}), ContainsSubstring("all shares are 0"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {kSum}, .shares = {-1}}), ContainsSubstring("negative"));
  CHECK_THROWS_WITH(OperationsTask({.operations = {kSum}, .digits = 1}), ContainsSubstring("digits"));
}
