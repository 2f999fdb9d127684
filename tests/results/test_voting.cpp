// Votes over samples against counting them.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <vector>

#include "experiments/results/voting.h"
#include "graph/error.h"
#include "graph/random.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

TEST_CASE("a vote is won by the most frequent answer, of equals by the first", "[statistics]") {
  struct Row {
    std::vector<int32_t> answers;
    int32_t winner;
  };
  for (const Row& row : std::vector<Row>{
           {{4}, 4}, {{4, 7}, 4}, {{7, 4, 4}, 4}, {{1, 2, 3, 3}, 3}, {{5, 6, 6, 5}, 5}, {{-1, 9, 9, -1, 9}, 9}}) {
    CHECK(majority(row.answers) == row.winner);
  }
  CHECK_THROWS_AS(majority(std::vector<int32_t>{}), UserError);
}

TEST_CASE("maj@k is the share of groups that vote right", "[statistics]") {
  std::vector<int32_t> answers;
  for (uint32_t i = 0; i < 50; ++i) {
    answers.push_back(static_cast<int32_t>(graph::random_range(3, 0, i, 3)));
  }
  for (const int32_t k : {1, 2, 3, 7, 50}) {
    int hits = 0, groups = 0;
    for (size_t first = 0; first + static_cast<size_t>(k) <= answers.size();
         first += static_cast<size_t>(k), ++groups) {
      std::map<int32_t, int> counts;
      for (size_t i = first; i < first + static_cast<size_t>(k); ++i) ++counts[answers[i]];
      int most = 0;
      for (const auto& [answer, count] : counts) most = std::max(most, count);
      // The first answer of the group that has the most votes.
      for (size_t i = first;; ++i) {
        if (counts[answers[i]] != most) continue;
        hits += answers[i] == 1 ? 1 : 0;
        break;
      }
    }
    CAPTURE(k);
    CHECK(majority_at_k(answers, 1, k) == Approx(double(hits) / groups));
  }
  const double ones = double(std::count(answers.begin(), answers.end(), 1)) / 50;
  CHECK(majority_at_k(answers, 1, 1) == Approx(ones));
  CHECK_THROWS_AS(majority_at_k(answers, 1, 51), UserError);
  CHECK_THROWS_AS(majority_at_k(answers, 1, 0), UserError);
}
