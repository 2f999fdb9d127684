// Permutations in context against exact enumeration: the posterior, what is drawn, and what a loss means.
#include "experiments/tasks/permutation.h"
#include "graph/error.h"
#include "tests/support/words.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using tasks::Split;
using tests::tokens_of;
using Tokens = std::vector<int32_t>;

TEST_CASE("permutations: the posterior is that of exact enumeration") {
  const tasks::PermutationTask task({.symbols = 4, .tasks = 5, .shots = 2, .task_seed = 11});
  // Every task with every ordered choice of inputs is equally likely: count what follows a prompt.
  std::map<Tokens, std::vector<double>> follows;
  std::map<Tokens, double> sequences;
  for (const auto& permutation : task.permutations()) {
    for (int32_t a = 0; a < 4; ++a) {
      for (int32_t b = 0; b < 4; ++b) {
        for (int32_t c = 0; c < 4; ++c) {
          if (a == b || b == c || a == c) continue;
          Tokens text;
          for (const int32_t input : {a, b, c}) {
            text.push_back(input);
            text.push_back(4);
            auto& counts = follows.try_emplace(text, 4, 0.0).first->second;
            counts[size_t(permutation[size_t(input)])] += 1;
            text.push_back(permutation[size_t(input)]);
          }
          sequences[text] += 1.0 / (5 * 24);
        }
      }
    }
  }
  for (const auto& [prompt, counts] : follows) {
    double total = 0;
    for (const double count : counts) total += count;
    const std::vector<double> predicted = task.predictive(prompt);
    CAPTURE(task.decode(prompt));
    for (size_t y = 0; y < 4; ++y) REQUIRE(predicted[y] == Approx(counts[y] / total).margin(1e-12));
  }
  // The generator draws these sequences, and no other, as often as that.
  constexpr int32_t kDraws = 20'000;
  const tasks::Batch batch = task.sample(Split::kTrain, 1, 2, kDraws);
  std::map<Tokens, double> drawn;
  for (size_t row = 0; row < size_t(kDraws); ++row) {
    drawn[tokens_of(std::span(batch.tokens).subspan(row * 9, 9))] += 1;
  }
  for (const auto& [text, count] : drawn) REQUIRE(sequences.contains(text));
  for (const auto& [text, share] : sequences) {
    const double deviation = std::sqrt(kDraws * share * (1 - share));
    REQUIRE(std::abs(drawn[text] - kDraws * share) < 5 * deviation);
  }
  // The mean excess loss of a model over all items is its KL divergence from the posterior.
  const std::vector<double> model = {0.4, 0.3, 0.2, 0.1};
  double excess = 0, divergence = 0, regret = 0, best = 0;
  for (const auto& [text, share] : sequences) {
    tasks::Item item;
    item.sequence = text;
    item.prompt_length = 5;  // one shot
    item.answer_length = 1;
    const auto measures = task.measures(item, std::vector{0}, -std::log(model[size_t(text[5])]));
    const std::map<std::string, double> by_name(measures.begin(), measures.end());
    excess += share * by_name.at("excess_loss");
    regret += share * by_name.at("regret");
    const std::vector<double> exact = task.predictive(item.prompt());
    for (size_t y = 0; y < 4; ++y) {
      if (exact[y] > 0) divergence += share * exact[y] * std::log(exact[y] / model[y]);
    }
    best += share * (*std::max_element(exact.begin(), exact.end()) - exact[0]);
  }
  REQUIRE(excess == Approx(divergence).epsilon(1e-12));
  REQUIRE(regret == Approx(best).epsilon(1e-12));
  REQUIRE(regret > 0.1);
}

TEST_CASE("permutations refuse options that make no sense, and prompts that no task gives") {
  REQUIRE_THROWS_AS(tasks::PermutationTask({.symbols = 3, .tasks = 7, .shots = 2}), UserError);
  REQUIRE_THROWS_AS(tasks::PermutationTask({.symbols = 3, .tasks = 2, .shots = 3}), UserError);
  REQUIRE_NOTHROW(tasks::PermutationTask({.symbols = 3, .tasks = 6, .shots = 2}));
  const tasks::PermutationTask two({.symbols = 3, .tasks = 1, .shots = 1});
  const int32_t image = two.permutations()[0][0];
  REQUIRE(two.predictive(Tokens{0, 3})[size_t(image)] == 1);
  REQUIRE_THROWS_AS(two.predictive(Tokens{0, 3, image}), UserError);
  REQUIRE_THROWS_AS(two.predictive(Tokens{0, 3, (image + 1) % 3, 1, 3}), UserError);
}
