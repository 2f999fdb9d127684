// Intervals and verdicts: the only way a number of a study becomes a claim.
//
// Protocol: Wilson intervals for plots, Clopper-Pearson for claims, t intervals on seed means (the
// seed is the unit of replication). "At chance" is an equivalence test: the whole interval lies
// below chance + margin. A verdict is PASS or FAIL only when the whole interval lies on one side of
// the declared bound, else INCONCLUSIVE.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

// A closed interval. Proportions stay inside [0, 1]; t intervals may reach beyond.
struct Interval {
  double low = 0;
  double high = 1;

  double width() const { return high - low; }
  bool contains(double value) const { return low <= value && value <= high; }
};

// No value in common.
bool disjoint(const Interval& left, const Interval& right);

// ---- Distributions -------------------------------------------------------------------------

// I_x(a, b), the regularised incomplete beta function, by Lentz's continued fraction; a, b > 0.
double regularized_beta(double a, double b, double x);

// Inverse of the above in x, by bisection to the last bit.
double beta_quantile(double a, double b, double probability);

double normal_quantile(double probability);

// Student's t; degrees > 0.
double t_quantile(double degrees, double probability);

// P(X >= successes) for X ~ Binomial(trials, probability), exact.
double binomial_tail(int64_t successes, int64_t trials, double probability);

// ---- Intervals of a proportion -------------------------------------------------------------

// Wilson's score interval (1927): mean coverage is the nominal one. [0, 1] for no trials.
// Throws UserError unless 0 <= successes <= trials and 0 < confidence < 1; the next one too.
Interval wilson(int64_t successes, int64_t trials, double confidence = 0.95);

// Clopper and Pearson's exact interval (1934): coverage is at least the nominal one, everywhere.
Interval clopper_pearson(int64_t successes, int64_t trials, double confidence = 0.95);

// ---- Means over seeds ----------------------------------------------------------------------

double mean(std::span<const double> values);

// Sample deviation (n - 1); 0 for fewer than two values.
double standard_deviation(std::span<const double> values);

// Standard error of the mean, the harness's `*_stderr`.
double standard_error(std::span<const double> values);

// mean +- t * s / sqrt(n). Fewer than two seeds say nothing about spread: (-inf, inf).
Interval t_interval(std::span<const double> seed_means, double confidence = 0.95);

// ---- Tests ---------------------------------------------------------------------------------

// Exact two-sided McNemar test of two prompts on the same items and the same weights:
// only_first items were right under the first prompt alone, only_second under the second alone.
double mcnemar(int64_t only_first, int64_t only_second);

// Holm's step-down adjustment (1979): adjusted p-values in the order given.
std::vector<double> holm(std::span<const double> p_values);

// ---- Verdicts ------------------------------------------------------------------------------

enum class Verdict { kPass, kFail, kInconclusive };

// PASS, FAIL or INCONCLUSIVE: the words of result.json.
std::string_view verdict_name(Verdict verdict);
// The inverse; throws UserError on any other word.
Verdict parse_verdict(std::string_view name);

// Claim "the rate is at least bound".
Verdict at_least(const Interval& interval, double bound);
// Claim "the rate is at most bound".
Verdict at_most(const Interval& interval, double bound);
// Claim "the rate is that of guessing": equivalence, the whole interval below chance + margin.
// FAIL when the whole interval lies above it.
Verdict at_chance(const Interval& interval, double chance, double margin = 0.05);
// Claim "the first rate is above the second": intervals must not overlap.
Verdict above(const Interval& first, const Interval& second);

// All must hold: FAIL if any fails, else INCONCLUSIVE if any is. No parts: INCONCLUSIVE.
Verdict all_of(std::span<const Verdict> parts);
// One must hold: PASS if any passes, else INCONCLUSIVE if any is, else FAIL. No parts: the same.
Verdict any_of(std::span<const Verdict> parts);

}  // namespace surtsey::experiments
