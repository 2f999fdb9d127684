// Statistics against SciPy where it has the function, else against counting everything: 20 golden_cases
// each, made by tests/golden/statistics.py.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "experiments/statistics/curves.h"
#include "experiments/statistics/distributions.h"
#include "experiments/statistics/scaling_law.h"
#include "experiments/statistics/tests.h"
#include "experiments/statistics/threshold.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

constexpr size_t kGoldenCases = 20;

const nlohmann::json& golden_cases(const char* name) {
  static const nlohmann::json golden = [] {
    std::ifstream file(SURTSEY_SOURCE_ROOT "/tests/golden/statistics.json");
    REQUIRE(file.good());
    return nlohmann::json::parse(file);
  }();
  REQUIRE(golden.at(name).size() == kGoldenCases);
  return golden.at(name);
}

std::vector<double> list(const nlohmann::json& json) { return json.get<std::vector<double>>(); }

void check_interval(const Interval& interval, const nlohmann::json& expected, double tolerance) {
  CHECK_THAT(interval.low, WithinAbs(expected[0].get<double>(), tolerance));
  CHECK_THAT(interval.high, WithinAbs(expected[1].get<double>(), tolerance));
}

}  // namespace

TEST_CASE("distributions and intervals are SciPy's", "[statistics]") {
  for (const auto& one : golden_cases("distributions")) {
    CAPTURE(one.dump());
    const double a = one["a"], b = one["b"], p = one["probability"];
    const int64_t successes = one["successes"], trials = one["trials"];
    CHECK_THAT(regularized_beta(a, b, a / (a + b)), WithinRel(one["beta"].get<double>(), 1e-9));
    CHECK_THAT(beta_quantile(a, b, p), WithinRel(one["beta_quantile"].get<double>(), 1e-8));
    CHECK_THAT(normal_quantile(p), WithinAbs(one["normal_quantile"].get<double>(), 1e-9));
    CHECK_THAT(t_quantile(one["degrees"], p), WithinRel(one["t_quantile"].get<double>(), 1e-8));
    CHECK_THAT(binomial_tail(successes, trials, one["rate"]), WithinAbs(one["tail"].get<double>(), 1e-10));
    CHECK_THAT(log_beta_binomial(successes, trials, one["rate"], one["correlation"]),
               WithinAbs(one["log_beta_binomial"].get<double>(), 1e-7));
  }
  for (const auto& one : golden_cases("proportions")) {
    CAPTURE(one.dump());
    check_interval(wilson(one["successes"], one["trials"], one["confidence"]), one["wilson"], 1e-9);
    check_interval(clopper_pearson(one["successes"], one["trials"], one["confidence"]), one["clopper_pearson"], 1e-8);
  }
  for (const auto& one : golden_cases("seed_means")) {
    CAPTURE(one.dump());
    check_interval(t_interval(list(one["values"]), one["confidence"]), one["interval"], 1e-8);
  }
}

TEST_CASE("exact tests are SciPy's, or what counting gives", "[statistics]") {
  for (const auto& one : golden_cases("mcnemar")) {
    CAPTURE(one.dump());
    CHECK_THAT(mcnemar(one["first"], one["second"]), WithinRel(one["p"].get<double>(), 1e-9));
  }
  for (const auto& one : golden_cases("permutations")) {
    CAPTURE(one.dump());
    CHECK_THAT(permutation_test(list(one["first"]), list(one["second"])), WithinAbs(one["p"].get<double>(), 1e-12));
    CHECK_THAT(sign_flip_test(list(one["pairs"])), WithinAbs(one["p_pairs"].get<double>(), 1e-12));
  }
  for (const auto& one : golden_cases("holm")) {
    CAPTURE(one.dump());
    const std::vector<double> adjusted = holm(list(one["p"]));
    const std::vector<double> expected = list(one["adjusted"]);
    REQUIRE(adjusted.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      CHECK_THAT(adjusted[i], WithinAbs(expected[i], 1e-12));
    }
  }
  for (const auto& one : golden_cases("isotonic")) {
    CAPTURE(one.dump());
    const std::vector<double> fit = isotonic_fit(list(one["values"]), list(one["weights"]));
    const std::vector<double> expected = list(one["fit"]);
    REQUIRE(fit.size() == expected.size());
    for (size_t i = 0; i < fit.size(); ++i) CHECK_THAT(fit[i], WithinAbs(expected[i], 1e-12));
  }
  for (const auto& one : golden_cases("pass_at_k")) {
    CAPTURE(one.dump());
    CHECK_THAT(pass_at_k(one["samples"], one["correct"], one["k"]), WithinAbs(one["value"].get<double>(), 1e-12));
  }
}

TEST_CASE("threshold fits reach the likelihood of SciPy's minimisers", "[statistics]") {
  for (const auto& one : golden_cases("thresholds")) {
    CAPTURE(one.dump());
    std::vector<SizeCount> cells;
    for (size_t i = 0; i < one["sizes"].size(); ++i) {
      cells.push_back({one["sizes"][i], one["successes"][i], one["trials"]});
    }
    const ThresholdFit fit = fit_threshold(cells, one["chance"]);
    CHECK_THAT(fit.log_likelihood, WithinAbs(one["log_likelihood"].get<double>(), 1e-3));
    CHECK_THAT(fit.aicc, WithinAbs(one["aicc"].get<double>(), 2e-3));
    CHECK_THAT(fit.aicc_constant, WithinAbs(one["aicc_constant"].get<double>(), 2e-3));
    CHECK_THAT(fit.aicc_linear, WithinAbs(one["aicc_linear"].get<double>(), 2e-3));
    // A step between two sizes may stand anywhere between them.
    if (one["width"].get<double>() > 0.15) {
      CHECK_THAT(fit.size50, WithinRel(one["size50"].get<double>(), 0.02));
    }
    CHECK(fit.size50_interval.contains(fit.size50));
    CHECK(fit.size50_interval.contains(one["size50"]));
    CHECK(fit.width_interval.contains(one["width"]));
  }
}

TEST_CASE("scaling laws reach the loss of SciPy's minimisers", "[statistics]") {
  for (const auto& one : golden_cases("scaling_laws")) {
    std::vector<ScalingPoint> points;
    for (size_t i = 0; i < one["loss"].size(); ++i) {
      points.push_back({one["parameters"][i], one["tokens"][i], one["loss"][i]});
    }
    const ScalingLaw law = fit_scaling_law(points);
    CAPTURE(law.floor, one["floor"].dump());
    CHECK(law.objective <= one["objective"].get<double>() * (1 + 1e-6) + 1e-9);
    CHECK_THAT(law.floor, WithinRel(one["floor"].get<double>(), 1e-2));
    CHECK_THAT(law.parameters.exponent, WithinRel(one["alpha"].get<double>(), 2e-2));
    CHECK_THAT(law.tokens.exponent, WithinRel(one["beta"].get<double>(), 2e-2));
  }
}

TEST_CASE("a noise-free grid gives the constants of Hoffmann et al. back", "[statistics]") {
  std::vector<ScalingPoint> points;
  for (double n = 4.4e7; n < 2e10; n *= 2.3) {
    for (double d = 1e9; d < 5e11; d *= 3) {
      points.push_back({n, d, 1.69 + 406.4 / std::pow(n, 0.34) + 410.7 / std::pow(d, 0.28)});
    }
  }
  const ScalingLaw law = fit_scaling_law(points);
  CHECK_THAT(law.floor, WithinRel(1.69, 1e-3));
  CHECK_THAT(law.parameters.coefficient, WithinRel(406.4, 1e-3));
  CHECK_THAT(law.tokens.coefficient, WithinRel(410.7, 1e-3));
  CHECK_THAT(law.parameters.exponent, WithinRel(0.34, 1e-3));
  CHECK_THAT(law.tokens.exponent, WithinRel(0.28, 1e-3));
  CHECK_THAT(law.at(1e9, 1e10), WithinRel(1.69 + 406.4 / std::pow(1e9, 0.34) + 410.7 / std::pow(1e10, 0.28), 1e-6));
  // One outlier moves the Huber fit little: least squares would follow it.
  points[7].loss *= 1.5;
  CHECK_THAT(fit_scaling_law(points).floor, WithinRel(1.69, 1e-2));
}

TEST_CASE("one dial: a power law with and without a floor, and its forecast", "[statistics]") {
  std::vector<double> sizes, with, without;
  for (double n = 1000; n < 1e5; n *= 1.6) {
    const double noise = sizes.size() % 2 == 0 ? 1.002 : 0.998;
    sizes.push_back(n);
    with.push_back((0.7 + 40 / std::pow(n, 0.5)) * noise);
    without.push_back(40 / std::pow(n, 0.5) * noise);
  }
  const PowerLaw floor = fit_power_law(sizes, with);
  CHECK_THAT(floor.floor, WithinRel(0.7, 0.02));
  CHECK_THAT(floor.term.exponent, WithinRel(0.5, 0.05));
  const PowerLaw line = fit_power_law(sizes, without, false);
  CHECK(line.floor == 0);
  CHECK_THAT(line.term.exponent, WithinRel(0.5, 0.01));
  const Interval next = forecast(sizes, with, 2e5);
  CHECK(next.contains(0.7 + 40 / std::sqrt(2e5)));
  CHECK(next.width() < 0.05);
  // A loss that leaves the law falls outside.
  CHECK_FALSE(next.contains(0.5));
  CHECK_THROWS_AS(fit_power_law(std::vector<double>{1, 2}, std::vector<double>{2, 1}), UserError);
  CHECK_THROWS_AS(fit_power_law(sizes, std::vector<double>(sizes.size(), -1)), UserError);
}

TEST_CASE("isoflop parabolas find the frontier", "[statistics]") {
  // 6ND = C and L = E + A / N^.5 + B / D^.5: the best N grows as C^.5 in equal shares.
  std::vector<ScalingPoint> points;
  for (double budget = 1e12; budget < 2e15; budget *= 10) {
    const double best = std::sqrt(budget / 6);
    for (const double share : {0.25, 0.5, 1.0, 2.0, 4.0}) {
      const double n = best * share, d = budget / 6 / n;
      points.push_back({n, d, 1 + 30 / std::sqrt(n) + 30 / std::sqrt(d), budget});
    }
  }
  const Frontier frontier = fit_frontier(points);
  REQUIRE(frontier.optima.size() == 4);
  CHECK_THAT(frontier.parameters_exponent, WithinAbs(0.5, 1e-6));
  CHECK_THAT(frontier.tokens_exponent, WithinAbs(0.5, 1e-6));
  CHECK_THAT(frontier.optima[0].parameters, WithinRel(std::sqrt(1e12 / 6), 1e-6));
  const FrontierIntervals intervals = bootstrap_frontier(points, 0.95, 100);
  CHECK(intervals.parameters_exponent.contains(0.5));
  CHECK(intervals.tokens_exponent.width() < 0.2);
  points.resize(5);
  CHECK_THROWS_AS(fit_frontier(points), UserError);
}
