// Random facts: sentences, their bits, and that nothing in them is a rule.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <set>

#include "experiments/tasks/facts.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("facts: every fact has one sentence, of any length that its entities need", "[tasks]") {
  struct Row {
    FactOptions options;
    int32_t block;
  };
  for (const Row& row : {Row{{.facts = 10, .relations = 4}, 5}, Row{{.facts = 4096}, 5}, Row{{.facts = 4097}, 6},
                         Row{{.facts = 70'000, .relations = 2}, 7}}) {
    const FactTask task(row.options);
    CHECK(task.block_size() == row.block);
    const int32_t count = std::min(row.options.facts, 2000);
    std::set<std::string> prompts;
    for (const Item& item : task.test_items(0, count, 1)) {
      prompts.insert(task.decode(item.prompt()));
      REQUIRE(task.encode(task.decode(item.sequence)) == item.sequence);
      REQUIRE(task.score(item, item.answer()).final_correct);
    }
    CHECK(prompts.size() == static_cast<size_t>(count));
  }
  const FactTask task({.facts = 5000, .relations = 4});
  const auto items = task.test_items(0, 5000, 1);
  const std::string text = "e1 e2 e3 r2 = v" + std::to_string(task.value_of(4 * (1024 + 64 + 3) + 2));
  bool found = false;
  for (const Item& item : items) found = found || task.decode(item.sequence) == text;
  CHECK(found);
}

TEST_CASE("facts: training shows them all, with a weight on the value alone", "[tasks]") {
  const FactTask task({.facts = 200, .values = 8});
  std::map<std::string, std::string> values;
  const Batch batch = task.sample(Split::kTrain, 3, 4, 4000);
  for (size_t b = 0; b < 4000; ++b) {
    const auto row = std::span(batch.tokens).subspan(b * 5, 5);
    const std::string value = task.decode(row.last(1));
    const auto [at, fresh] = values.try_emplace(task.decode(row.first(4)), value);
    REQUIRE(at->second == value);
    for (size_t t = 0; t < 5; ++t) {
      REQUIRE(batch.weights[b * 5 + t] == (t == 3 ? 1.0f : 0.0f));
      if (t < 4) REQUIRE(batch.targets[b * 5 + t] == row[t + 1]);
    }
  }
  CHECK(values.size() == 200);
  // Values are even, and say nothing of each other: a chi-squared test of neighbours.
  std::map<int32_t, int> counts;
  std::map<std::pair<int32_t, int32_t>, int> pairs;
  const FactTask many({.facts = 6401, .values = 8});
  for (int32_t fact = 0; fact < 6400; ++fact) {
    ++counts[many.value_of(fact)];
    ++pairs[{many.value_of(fact), many.value_of(fact + 1)}];
  }
  for (const auto& [value, count] : counts) CHECK(std::abs(count - 800) < 5 * std::sqrt(800.0));
  double chi = 0;
  for (const auto& [pair, count] : pairs) chi += (count - 100) * (count - 100) / 100.0;
  CHECK(pairs.size() == 64);
  CHECK(chi < 63 + 5 * std::sqrt(126.0));
}

TEST_CASE("facts: a loss is as many bits as are still missing", "[tasks]") {
  const FactTask task({.facts = 100, .values = 32});
  CHECK(task.bits_of_a_fact() == 5);
  const Item item = task.test_items(0, 1, 1)[0];
  const auto bits = [&](double nll) { return task.measures(item, item.answer(), nll).at(0).second; };
  CHECK(task.measures(item, item.answer(), 0).at(0).first == "bits");
  CHECK(bits(0) == Approx(5));
  CHECK(bits(std::log(32)) == Approx(0).margin(1e-12));
  CHECK(bits(std::log(2)) == Approx(4));
  CHECK(bits(10) < 0);
  REQUIRE_THROWS_WITH(FactTask({.facts = 0}), ContainsSubstring("0 facts"));
  REQUIRE_THROWS_WITH(FactTask({.values = 1}), ContainsSubstring("1 values"));
  REQUIRE_THROWS_WITH(FactTask({.relations = 65}), ContainsSubstring("65 relations"));
}
