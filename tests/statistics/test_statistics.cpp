// Intervals against tabulated values and against exact coverage; verdicts on every side of a bound.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <vector>

#include "experiments/statistics/distributions.h"
#include "experiments/statistics/tests.h"
#include "experiments/statistics/verdict.h"
#include "graph/error.h"
#include "graph/random.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

// P(X = k) for X ~ Binomial(n, p).
double binomial_mass(int n, int k, double p) {
  return std::exp(std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0) + k * std::log(p) +
                  (n - k) * std::log1p(-p));
}

// Probability that the interval contains p: a sum over all outcomes, so no simulation noise.
template <class Function>
double coverage(int n, double p, Function interval) {
  double covered = 0;
  for (int k = 0; k <= n; ++k) {
    if (interval(k, n).contains(p)) covered += binomial_mass(n, k, p);
  }
  return covered;
}

}  // namespace

TEST_CASE("philox draws the known answers of its authors", "[statistics]") {
  CHECK(graph::random_bits(0, 0, 0) == 0xff1dae59u);
  CHECK(graph::random_bits(0xffffffffu, 0xffffffffu, 0xffffffffu) == 0x2c3f628bu);
  CHECK(graph::random_bits(0x13198a2eu, 0x85a308d3u, 0x243f6a88u) == 0xdd7ce038u);
  CHECK(graph::stream_seed(1, "a") != graph::stream_seed(1, "b"));
  CHECK(graph::stream_seed(1, "a") != graph::stream_seed(2, "a"));
  CHECK(graph::uniform_from_bits(0xffffffffu) < 1.0f);
  CHECK(graph::range_from_bits(0xffffffffu, 10) == 9);
}

TEST_CASE("philox ranges are uniform", "[statistics]") {
  // 10 bins, 100000 draws: chi squared with 9 degrees stays below 33.7 with probability .9999.
  std::vector<double> bins(10);
  constexpr int kDraws = 100000;
  for (uint32_t i = 0; i < kDraws; ++i) bins[graph::random_range(7, i / 100, i % 100, 10)] += 1;
  double chi = 0;
  for (const double bin : bins) chi += (bin - kDraws / 10.0) * (bin - kDraws / 10.0) / (kDraws / 10.0);
  CHECK(chi < 33.7);
}

TEST_CASE("quantiles match the tables", "[statistics]") {
  CHECK_THAT(normal_quantile(0.975), WithinAbs(1.959963984540054, 1e-12));
  CHECK_THAT(normal_quantile(0.001), WithinAbs(-3.090232306167813, 1e-10));
  CHECK_THAT(t_quantile(1, 0.975), WithinRel(12.706204736432095, 1e-10));
  CHECK_THAT(t_quantile(4, 0.975), WithinRel(2.7764451051977987, 1e-10));
  CHECK_THAT(t_quantile(9, 0.05), WithinRel(-1.8331129326536335, 1e-10));
  CHECK_THAT(regularized_beta(2, 3, 0.4), WithinAbs(0.5248, 1e-12));
  CHECK_THAT(beta_quantile(2, 3, 0.5248), WithinAbs(0.4, 1e-12));
  CHECK_THAT(binomial_tail(8, 10, 0.5), WithinAbs(56.0 / 1024, 1e-14));
}

TEST_CASE("wilson and clopper-pearson match published intervals", "[statistics]") {
  CHECK_THAT(wilson(500, 500).low, WithinAbs(0.9924, 1e-4));
  CHECK(wilson(500, 500).high == 1);
  CHECK(wilson(0, 500).low == 0);
  CHECK_THAT(wilson(52, 500).low, WithinAbs(0.0802, 1e-4));
  CHECK_THAT(wilson(52, 500).high, WithinAbs(0.1338, 1e-4));
  CHECK_THAT(clopper_pearson(0, 10).high, WithinAbs(0.308497, 1e-6));
  CHECK_THAT(clopper_pearson(5, 10).low, WithinAbs(0.187086, 1e-6));
  CHECK_THAT(clopper_pearson(5, 10).high, WithinAbs(0.812914, 1e-6));
  CHECK_THAT(clopper_pearson(10, 10).low, WithinAbs(0.691503, 1e-6));
  CHECK(wilson(0, 0).width() == 1);
  CHECK_THROWS_AS(wilson(3, 2), UserError);
  CHECK_THROWS_AS(clopper_pearson(1, 2, 1.0), UserError);
}

TEST_CASE("coverage is what the intervals promise", "[statistics]") {
  for (const int n : {20, 100, 500}) {
    std::vector<Interval> exact, score;
    for (int k = 0; k <= n; ++k) {
      exact.push_back(clopper_pearson(k, n));
      score.push_back(wilson(k, n));
    }
    double total = 0;
    int points = 0;
    for (double p = 0.0125; p < 1; p += 0.025) {
      CAPTURE(n, p);
      CHECK(coverage(n, p, [&](int k, int) { return exact[k]; }) >= 0.95);
      total += coverage(n, p, [&](int k, int) { return score[k]; });
      ++points;
    }
    CHECK_THAT(total / points, WithinAbs(0.95, 0.01));
  }
}

TEST_CASE("the t interval over seeds covers its mean", "[statistics]") {
  const std::vector<double> seeds{1, 2, 3, 4, 5};
  const Interval interval = t_interval(seeds);
  CHECK_THAT(interval.low, WithinAbs(3 - 2.7764451051977987 * std::sqrt(2.5 / 5), 1e-9));
  CHECK_THAT(interval.high, WithinAbs(3 + 2.7764451051977987 * std::sqrt(2.5 / 5), 1e-9));
  CHECK(std::isinf(t_interval(std::vector<double>{0.5}).width()));

  int covered = 0;
  constexpr int kTrials = 10000;
  for (uint32_t trial = 0; trial < kTrials; ++trial) {
    std::vector<double> sample;
    for (uint32_t i = 0; i < 5; ++i) {  // a sum of four uniforms: unimodal, mean 2
      double sum = 0;
      for (uint32_t j = 0; j < 4; ++j) sum += graph::random_uniform(11, trial, i * 4 + j);
      sample.push_back(sum);
    }
    covered += t_interval(sample).contains(2) ? 1 : 0;
  }
  CHECK(covered >= 0.93 * kTrials);
  CHECK(covered <= 0.97 * kTrials);
}

TEST_CASE("tests of paired items and families", "[statistics]") {
  CHECK(mcnemar(0, 0) == 1);
  CHECK_THAT(mcnemar(9, 1), WithinAbs(2 * 11.0 / 1024, 1e-12));
  CHECK(mcnemar(9, 1) == mcnemar(1, 9));
  CHECK(mcnemar(5, 5) == 1);
  const std::vector<double> adjusted = holm(std::vector<double>{0.03, 0.01, 0.04});
  CHECK_THAT(adjusted[0], WithinAbs(0.06, 1e-12));
  CHECK_THAT(adjusted[1], WithinAbs(0.03, 1e-12));
  CHECK_THAT(adjusted[2], WithinAbs(0.06, 1e-12));
}

TEST_CASE("a verdict needs the whole interval on one side", "[statistics]") {
  const Verdict pass = Verdict::kPass, fail = Verdict::kFail, open = Verdict::kInconclusive;
  CHECK(at_least({0.96, 1}, 0.95) == pass);
  CHECK(at_least({0.94, 1}, 0.95) == open);
  CHECK(at_least({0.5, 0.94}, 0.95) == fail);
  CHECK(at_most({0.08, 0.13}, 0.15) == pass);
  CHECK(at_most({0.08, 0.16}, 0.15) == open);
  CHECK(at_most({0.16, 0.2}, 0.15) == fail);
  // A wide interval around chance is no evidence of chance.
  CHECK(at_chance(wilson(5, 50), 0.1) == open);
  CHECK(at_chance(wilson(100, 1000), 0.1) == pass);
  CHECK(at_chance(wilson(300, 1000), 0.1) == fail);
  CHECK(above({0.5, 0.6}, {0.1, 0.4}) == pass);
  CHECK(above({0.5, 0.6}, {0.1, 0.5}) == open);
  CHECK(above({0.1, 0.2}, {0.3, 0.4}) == fail);
  CHECK(disjoint({0, 0.1}, {0.2, 0.3}));
  CHECK_FALSE(disjoint({0, 0.2}, {0.2, 0.3}));

  CHECK(all_of(std::vector{pass, pass}) == pass);
  CHECK(all_of(std::vector{pass, open}) == open);
  CHECK(all_of(std::vector{open, fail}) == fail);
  CHECK(all_of({}) == open);
  CHECK(any_of(std::vector{fail, pass}) == pass);
  CHECK(any_of(std::vector{fail, open}) == open);
  CHECK(any_of(std::vector{fail, fail}) == fail);
  CHECK(any_of({}) == open);
  for (const Verdict verdict : {pass, fail, open}) {
    CHECK(parse_verdict(verdict_name(verdict)) == verdict);
  }
  CHECK_THROWS_AS(parse_verdict("MAYBE"), UserError);
}

TEST_CASE("a family of claims shares one error rate", "[statistics]") {
  // Claims that decide from a confidence downwards: the p-value is 1 - confidence.
  const auto claim = [](double p, Verdict verdict) {
    return [=](double confidence) { return Judgement{1 - confidence >= p ? verdict : Verdict::kInconclusive, "", 5}; };
  };
  const std::vector<double> p_values{0.03, 0.01, 0.04, 0.001, 0.02};
  std::vector<Rule> family;
  for (const double p : p_values) family.push_back(claim(p, Verdict::kPass));
  for (const double alpha : {0.02, 0.05, 0.06, 0.1, 0.2}) {
    const auto judged = judge_family(family, alpha);
    const std::vector<double> adjusted = holm(p_values);
    for (size_t i = 0; i < family.size(); ++i) {
      CAPTURE(alpha, i);
      CHECK((judged[i].judgement.verdict == Verdict::kPass) == (adjusted[i] <= alpha + 1e-12));
    }
  }
  // One claim more makes the others harder; a failed one is decided as much as one that passed.
  CHECK(judge_family(std::vector<Rule>{claim(0.04, Verdict::kPass)})[0].judgement.verdict == Verdict::kPass);
  const std::vector<Rule> two{claim(0.04, Verdict::kPass), claim(0.5, Verdict::kPass)};
  CHECK(judge_family(two)[0].judgement.verdict == Verdict::kInconclusive);
  const std::vector<Rule> failed{claim(0.04, Verdict::kPass), claim(0.01, Verdict::kFail)};
  CHECK(judge_family(failed)[0].judgement.verdict == Verdict::kPass);
  CHECK(judge_family(failed)[1].judgement.verdict == Verdict::kFail);
  CHECK(judge_family(failed)[0].confidence == 0.95);
  CHECK(judge_family({}).empty());
  CHECK_THROWS_AS(judge_family(two, 0), UserError);
}

TEST_CASE("small groups of seeds cannot be significant", "[statistics]") {
  const std::vector<double> low{1, 2, 3, 4, 5}, high{6, 7, 8, 9, 10};
  const auto least = [&](size_t n) { return permutation_test(std::span(low).first(n), std::span(high).first(n)); };
  CHECK_THAT(least(3), WithinAbs(0.1, 1e-12));
  CHECK_THAT(least(4), WithinAbs(2.0 / 70, 1e-12));
  CHECK_THAT(least(5), WithinAbs(2.0 / 252, 1e-12));
  CHECK_THAT(sign_flip_test(low), WithinAbs(0.0625, 1e-12));
  CHECK(permutation_test(low, low) == 1);
  CHECK_THROWS_AS(permutation_test(low, {}), UserError);
  CHECK_THROWS_AS(sign_flip_test(std::vector<double>(25)), UserError);
}
