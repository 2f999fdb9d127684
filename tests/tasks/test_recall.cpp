// Associative recall: what a sequence binds, and which questions are asked of it.
#include "experiments/tasks/recall.h"
#include "graph/error.h"
#include "tests/support/words.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>

using namespace surtsey;
using namespace surtsey::experiments;
using tasks::Split;
using tests::tokens_of;
using Tokens = std::vector<int32_t>;

TEST_CASE("recall: a sequence binds each key once, and questions ask what was or was not seen") {
  const tasks::RecallTask task({.keys = 5, .values = 7, .pairs = 9, .most_prior = 2});
  REQUIRE(task.vocab_size() == 12);
  const tasks::Batch batch = task.sample(Split::kTrain, 3, 4, 200);
  std::set<Tokens> different;
  std::map<int32_t, int64_t> values;
  for (size_t row = 0; row < 200; ++row) {
    const auto tokens = std::span(batch.tokens).subspan(row * 18, 18);
    std::map<int32_t, int32_t> bound;
    for (size_t t = 0; t < 18; t += 2) {
      REQUIRE((tokens[t] >= 0 && tokens[t] < 5));
      REQUIRE((tokens[t + 1] >= 5 && tokens[t + 1] < 12));
      REQUIRE(bound.emplace(tokens[t], tokens[t + 1]).first->second == tokens[t + 1]);
      REQUIRE(batch.targets[row * 18 + t] == tokens[t + 1]);
      REQUIRE(batch.weights[row * 18 + t] == 1);
      REQUIRE(batch.weights[row * 18 + t + 1] == 0);
    }
    for (const auto& [key, value] : bound) values[value] += 1;
    different.insert(tokens_of(tokens));
  }
  REQUIRE(different.size() > 195);
  double bindings = 0;
  for (const auto& [value, count] : values) bindings += double(count);
  REQUIRE(values.size() == 7);
  for (const auto& [value, count] : values) {
    REQUIRE(std::abs(double(count) - bindings / 7) < 5 * std::sqrt(bindings * 6 / 49));
  }

  for (int32_t arm = 0; arm < 3; ++arm) {
    const auto items = task.test_items(arm, 50, 1);
    const auto others = task.test_items((arm + 1) % 3, 50, 1);
    for (size_t i = 0; i < items.size(); ++i) {
      const auto prompt = items[i].prompt();
      const int32_t key = prompt.back();
      int32_t prior = 0;
      for (size_t t = 0; t + 1 < prompt.size(); t += 2) {
        if (prompt[t] != key) continue;
        ++prior;
        REQUIRE(prompt[t + 1] == items[i].answer().front());
      }
      REQUIRE(prior == arm);
      // The same sequence in every arm.
      const size_t common = std::min(prompt.size(), others[i].prompt().size());
      REQUIRE(tokens_of(prompt.first(common)) == tokens_of(others[i].prompt().first(common)));
    }
  }
  const auto item = task.test_items(1, 1, 9).front();
  REQUIRE(task.encode(task.decode(item.prompt())) == tokens_of(item.prompt()));
  REQUIRE(task.decode(Tokens{0, 5, 4, 11}) == "a 0 e 6");
}

TEST_CASE("recall refuses options that make no sense") {
  REQUIRE_THROWS_AS(tasks::RecallTask({.keys = 1}), UserError);
  REQUIRE_THROWS_AS(tasks::RecallTask({.pairs = 3, .most_prior = 3}), UserError);
  // A thousand keys in four pairs: none occurs four times.
  const tasks::RecallTask rare({.keys = 1000, .values = 2, .pairs = 4, .most_prior = 3});
  REQUIRE_THROWS_AS(rare.test_items(3, 1, 0), UserError);
}
