// The source of known entropy: its distributions, its entropy rate by enumeration, its text.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <functional>

#include "experiments/tasks/markov.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {

MarkovOptions markov_options(int32_t order) {
  MarkovOptions options;
  options.symbols = 3;
  options.order = order;
  options.block_size = 12;
  options.exponent = 1.5;
  options.shares = {0.2, 0.3, 0.5};
  options.shares.resize(static_cast<size_t>(order) + 1, 0.4);
  return options;
}

MarkovOptions long_text() {
  MarkovOptions options;
  options.block_size = 32;
  options.exponent = 2;
  return options;
}

// Entropy of the first `length` symbols, by writing every sequence down.
double block_entropy(const MarkovTask& task, int length) {
  const auto k = static_cast<size_t>(task.options().order);
  double entropy = 0;
  std::vector<int32_t> symbols;
  const std::function<void(double)> extend = [&](double p) {
    if (symbols.size() == static_cast<size_t>(length)) {
      entropy -= p * std::log(p);
      return;
    }
    for (int32_t c = 0; c < task.vocab_size(); ++c) {
      double next = 0;
      if (symbols.size() < k) {
        // The probability of a prefix: all contexts that begin with it.
        symbols.push_back(c);
        for (size_t s = 0; s < task.stationary().size(); ++s) {
          size_t rest = s;
          std::vector<int32_t> context(k);
          for (auto at = context.rbegin(); at != context.rend(); ++at) {
            *at = static_cast<int32_t>(rest % static_cast<size_t>(task.vocab_size()));
            rest /= static_cast<size_t>(task.vocab_size());
          }
          if (std::equal(symbols.begin(), symbols.end(), context.begin())) {
            next += task.stationary()[s];
          }
        }
        extend(next);
      } else {
        const auto context = std::span(symbols).last(k);
        next = p * task.distribution(context)[static_cast<size_t>(c)];
        symbols.push_back(c);
        extend(next);
      }
      symbols.pop_back();
    }
  };
  extend(1);
  return entropy;
}

}  // namespace

TEST_CASE("the entropy rate is what enumeration gives", "[tasks]") {
  for (const int32_t order : {1, 2, 3}) {
    const MarkovTask task(markov_options(order));
    CAPTURE(order);
    // H(x_1 .. x_n+1) - H(x_1 .. x_n) is the rate from n = order on, if the start is stationary.
    for (const int n : {order, order + 2}) {
      CHECK_THAT(block_entropy(task, n + 1) - block_entropy(task, n), WithinAbs(task.entropy_rate(), 1e-9));
    }
    double total = 0;
    for (const double p : task.stationary()) total += p;
    CHECK_THAT(total, WithinAbs(1, 1e-9));
    for (int32_t depth = 0; depth < order; ++depth) {
      CHECK(task.conditional_entropy(depth) > task.conditional_entropy(depth + 1));
      CHECK_THAT(block_entropy(task, depth + 1) - block_entropy(task, depth),
                 WithinAbs(task.conditional_entropy(depth), 1e-9));
    }
  }
  // Equal symbols at every node: log V.
  MarkovOptions flat = markov_options(2);
  flat.exponent = 0;
  CHECK_THAT(MarkovTask(flat).entropy_rate(), WithinAbs(std::log(3.0), 1e-12));
}

TEST_CASE("text of the source costs what the source says", "[tasks]") {
  const MarkovTask task(long_text());
  const std::vector<Item> items = task.test_items(0, 4000, 1);
  double sum = 0, squares = 0;
  std::vector<int64_t> counts(32, 0);
  for (const Item& item : items) {
    const double nll = task.source_nll(item) / task.answer_length(0);
    sum += nll;
    squares += nll * nll;
    for (const int32_t symbol : item.sequence) ++counts[static_cast<size_t>(symbol)];
  }
  const double mean = sum / 4000, error = std::sqrt((squares / 4000 - mean * mean) / 4000);
  CHECK(std::abs(mean - task.entropy_rate()) < 4 * error);
  CHECK(error < 0.005);
  // Frequencies are those of the stationary distribution.
  std::vector<double> expected(32, 0);
  for (size_t s = 0; s < task.stationary().size(); ++s) expected[s % 32] += task.stationary()[s];
  for (size_t c = 0; c < 32; ++c) {
    CHECK_THAT(static_cast<double>(counts[c]) / (4000 * 32), WithinAbs(expected[c], 0.01));
  }
}

TEST_CASE("sequences of the source: layout, purity, splits", "[tasks]") {
  const MarkovTask task(long_text());
  const Batch batch = task.sample(Split::kTrain, 3, 5, 8);
  const Batch later = task.sample(Split::kTrain, 3, 5, 4, 4);
  for (size_t t = 0; t < 4 * 32; ++t) CHECK(later.tokens[t] == batch.tokens[4 * 32 + t]);
  for (size_t at = 0; at < batch.tokens.size(); ++at) {
    const size_t t = at % 32;
    CHECK(batch.weights[at] == (t == 0 ? 0.0f : 1.0f));
    if (t + 1 < 32) CHECK(batch.targets[at] == batch.tokens[at + 1]);
  }
  for (const Split split : {Split::kValidation, Split::kTest}) {
    CHECK(task.sample(split, 3, 5, 8).tokens != batch.tokens);
  }
  CHECK(task.sample(Split::kTrain, 4, 5, 8).tokens != batch.tokens);
  CHECK(task.sample(Split::kTrain, 3, 6, 8).tokens != batch.tokens);
  const std::vector<Item> items = task.test_items(0, 3, 9);
  CHECK(items[2].prompt_length == 2);
  CHECK(items[2].answer_length == 30);
  CHECK(task.encode(task.decode(items[2].sequence)) == items[2].sequence);
  CHECK_THROWS_WITH(task.encode("3 32"), ContainsSubstring("'32' is not a symbol"));
}

TEST_CASE("options of the source that are out of range are named", "[tasks]") {
  const auto with = [](auto&& change) {
    MarkovOptions options;
    change(options);
    return options;
  };
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) { o.symbols = 1; })), ContainsSubstring("symbols"));
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) { o.order = 0; })), ContainsSubstring("order"));
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) { o.order = 3; })), ContainsSubstring("shares"));
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) { o.block_size = 2; })), ContainsSubstring("block_size"));
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) { o.exponent = -1; })), ContainsSubstring("exponent"));
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) { o.shares = {1, 0, 1}; })), ContainsSubstring("share"));
  CHECK_THROWS_WITH(MarkovTask(with([](auto& o) {
                      o.symbols = 200;
                      o.order = 3;
                      o.shares = {1, 1, 1, 1};
                    })),
                    ContainsSubstring("contexts"));
}
