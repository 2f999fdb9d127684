// Classes with noisy examples: the posterior by counting, labels and their noise, soft labels.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <set>

#include "experiments/tasks/prototypes.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<int32_t> row_of(const Batch& batch, size_t row) {
  const auto block = static_cast<size_t>(batch.block_size);
  return {batch.tokens.begin() + static_cast<ptrdiff_t>(row * block),
          batch.tokens.begin() + static_cast<ptrdiff_t>((row + 1) * block)};
}

}  // namespace

TEST_CASE("prototypes: the posterior of labels is their share among equal examples", "[tasks]") {
  const PrototypeTask task({.classes = 3, .symbols = 3, .length = 3, .kept = .6, .label_noise = .2});
  const int32_t rows = 200'000;
  const Batch batch = task.sample(Split::kTrain, 1, 0, rows);
  std::map<std::vector<int32_t>, std::map<int32_t, int>> counts;
  for (size_t b = 0; b < static_cast<size_t>(rows); ++b) {
    std::vector<int32_t> row = row_of(batch, b);
    const int32_t label = row.back() - task.class_token(0);
    row.pop_back();
    ++counts[row][label];
    REQUIRE(batch.targets[b * 5 + 3] == task.class_token(label));
    for (size_t t = 0; t < 5; ++t) REQUIRE(batch.weights[b * 5 + t] == (t == 3 ? 1.0f : 0.0f));
  }
  CHECK(counts.size() == 27);
  for (auto& [example, labels] : counts) {
    int total = 0;
    for (const auto& [label, count] : labels) total += count;
    const std::vector<double> posterior = task.label_posterior(example);
    double sum = 0;
    for (int32_t label = 0; label < 3; ++label) {
      const double p = posterior[static_cast<size_t>(label)];
      CHECK(std::abs(labels[label] - p * total) < 5 * std::sqrt(p * (1 - p) * total));
      sum += p;
    }
    CHECK(sum == Approx(1).epsilon(1e-12));
  }
}

TEST_CASE("prototypes: examples of a lesson come again with the same label, and are new to the test", "[tasks]") {
  const PrototypeTask task({}, {.examples = 50});
  const PrototypeTask clean({}, {.examples = 50, .clean = true});
  std::map<std::vector<int32_t>, int32_t> labels;
  int noisy = 0;
  for (uint32_t step = 0; step < 4; ++step) {
    const Batch batch = task.sample(Split::kTrain, 3, step, 200), same = clean.sample(Split::kTrain, 3, step, 200);
    for (size_t b = 0; b < 200; ++b) {
      std::vector<int32_t> row = row_of(batch, b), other = row_of(same, b);
      const int32_t label = row.back(), type = other.back();
      row.pop_back();
      other.pop_back();
      REQUIRE(row == other);
      const auto [at, fresh] = labels.emplace(row, label);
      REQUIRE(at->second == label);
      if (fresh) noisy += label == type ? 0 : 1;
    }
  }
  REQUIRE(labels.size() == 50);
  CHECK(noisy > 5);
  CHECK(noisy < 28);
  for (int32_t i = 0; i < 50; ++i) REQUIRE(labels.contains(task.example(3, i)));
  CHECK(task.example(3, 0) != task.example(4, 0));
  for (const int32_t arm : {0, 1}) {
    for (const Item& item : task.test_items(arm, 100, 3)) {
      REQUIRE(!labels.contains({item.prompt().begin(), item.prompt().end()}));
      REQUIRE(task.encode(task.decode(item.sequence)) == item.sequence);
      const auto measures = task.measures(item, item.answer(), 2);
      REQUIRE(measures.size() == (arm == 0 ? 2 : 0));
      if (arm == 0) CHECK(measures[0].second + measures[1].second == Approx(2));
    }
  }
}

TEST_CASE("prototypes: soft labels stand at the arrow, the teacher's or smoothed", "[tasks]") {
  const PrototypeOptions options{.classes = 4, .symbols = 5, .length = 6};
  const auto taught = std::make_shared<SoftLabels>();
  taught->soft = {2, .9};
  for (int i = 0; i < 10; ++i) taught->by_seed[1].push_back({.1f * float(i) / 10, .2f, .3f, .4f});
  const PrototypeTask task(options, {.examples = 10}, taught);
  REQUIRE(task.soft_targets()->temperature == 2);
  const auto block = static_cast<size_t>(task.block_size()), vocabulary = static_cast<size_t>(task.vocab_size());
  const auto check = [&](const PrototypeTask& own, uint32_t seed, auto&& expected) {
    const Batch batch = own.sample(Split::kTrain, seed, 5, 40);
    REQUIRE(batch.distributions.size() == 40 * block * vocabulary);
    for (size_t b = 0; b < 40; ++b) {
      const std::vector<int32_t> row = row_of(batch, b);
      for (size_t t = 0; t < block; ++t) {
        for (size_t v = 0; v < vocabulary; ++v) {
          const auto type = static_cast<int32_t>(v) - own.class_token(0);
          const bool read = batch.weights[b * block + t] > 0 && 0 <= type && type < 4;
          const float found = batch.distributions[(b * block + t) * vocabulary + v];
          REQUIRE(found == Approx(read ? expected(row, type) : 0.0));
        }
      }
    }
  };
  check(task, 1, [&](std::vector<int32_t> row, int32_t type) {
    row.pop_back();
    for (int32_t i = 0; i < 10; ++i)
      if (task.example(1, i) == row) return double(taught->by_seed[1][size_t(i)][size_t(type)]);
    return -1.0;
  });
  check(task, 2, [](const auto&, int32_t) { return .25; });  // nobody was asked about this seed's
  const PrototypeTask smoothed(options, {.examples = 10, .smoothing = .2});
  check(smoothed, 1, [&](const std::vector<int32_t>& row, int32_t type) {
    return smoothed.class_token(type) == row.back() ? .85 : .05;
  });
  CHECK(!PrototypeTask(options).soft_targets());
  CHECK(PrototypeTask(options).sample(Split::kTrain, 1, 0, 4).distributions.empty());
  REQUIRE_THROWS_WITH(PrototypeTask(options, {}, taught), ContainsSubstring("soft labels are of so many examples"));
  REQUIRE_THROWS_WITH(PrototypeTask({.classes = 1}), ContainsSubstring("classes is 1"));
  REQUIRE_THROWS_WITH(PrototypeTask({.kept = 1}), ContainsSubstring("kept 1"));
  REQUIRE_THROWS_WITH(PrototypeTask({.label_noise = -.1}), ContainsSubstring("label_noise -0.1"));
  REQUIRE_THROWS_WITH(PrototypeTask(options, {.smoothing = 2}), ContainsSubstring("smoothing 2"));
}
