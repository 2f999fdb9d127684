// Modular addition as a table: sums by hand, every pair on one side, samples from the right one.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>
#include <sstream>

#include "experiments/tasks/modular.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("a table of sums is whole, right, and cut once", "[tasks]") {
  const ModularTask task({.modulus = 11, .trained_share = 0.4});
  CHECK(task.trained_pairs() == 48);
  std::set<std::pair<int, int>> trained, held_out;
  for (const int32_t arm : {0, 1}) {
    for (const Item& item : task.test_items(arm, 1000, 7)) {
      std::istringstream text(task.decode(item.sequence));
      int a = -1, b = -1, c = -1;
      char plus = 0, equals = 0;
      text >> a >> plus >> b >> equals >> c;
      CHECK(plus == '+');
      CHECK(equals == '=');
      CHECK(c == (a + b) % 11);
      CHECK(task.encode(task.decode(item.sequence)) == item.sequence);
      (arm == 0 ? trained : held_out).insert({a, b});
    }
  }
  CHECK(trained.size() == 48);
  CHECK(held_out.size() == 121 - 48);
  for (const auto& pair : trained) CHECK_FALSE(held_out.contains(pair));

  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    const Batch batch = task.sample(split, 1, 2, 2000);
    std::set<std::pair<int, int>> drawn;
    for (size_t row = 0; row < 2000; ++row) {
      drawn.insert({batch.tokens[row * 5], batch.tokens[row * 5 + 2]});
      CHECK(batch.targets[row * 5 + 3] == batch.tokens[row * 5 + 4]);
    }
    CHECK(drawn == (split == Split::kTrain ? trained : held_out));
    CHECK(std::vector<float>(batch.weights.begin(), batch.weights.begin() + 5) == std::vector<float>{0, 0, 0, 1, 0});
    CHECK(task.sample(split, 2, 2, 50).tokens != task.sample(split, 1, 2, 50).tokens);
  }
  CHECK(ModularTask({.modulus = 11, .table_seed = 1}).test_items(0, 5, 0)[0].sequence !=
        ModularTask({.modulus = 11, .table_seed = 2}).test_items(0, 5, 0)[0].sequence);
  CHECK_THROWS_WITH(ModularTask({.modulus = 2}), ContainsSubstring("modulus"));
  CHECK_THROWS_WITH(ModularTask({.trained_share = 1}), ContainsSubstring("trained_share"));
  CHECK_THROWS_WITH(task.encode("3 x"), ContainsSubstring("'x' is not a symbol"));
}
