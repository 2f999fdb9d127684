#include "experiments/statistics/distributions.h"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

void check_inside(double probability) {
  check(0 < probability && probability < 1, "[statistics] probability {} is not in (0, 1)", probability);
}

double log_beta(double a, double b) { return log_gamma(a) + log_gamma(b) - log_gamma(a + b); }

}  // namespace

// lgamma_r leaves the global sign alone, so threads may call it.
double log_gamma(double x) {
  int sign = 0;
  return lgamma_r(x, &sign);
}

double regularized_beta(double a, double b, double x) {
  check(a > 0 && b > 0, "[statistics] beta parameters {}, {} must be positive", a, b);
  return boost::math::ibeta(a, b, std::clamp(x, 0.0, 1.0));
}

double beta_quantile(double a, double b, double probability) {
  check(a > 0 && b > 0, "[statistics] beta parameters {}, {} must be positive", a, b);
  check(0 <= probability && probability <= 1, "[statistics] probability {} is not in [0, 1]", probability);
  return boost::math::ibeta_inv(a, b, probability);
}

double normal_quantile(double probability) {
  check_inside(probability);
  return boost::math::quantile(boost::math::normal(), probability);
}

double t_quantile(double degrees, double probability) {
  check(degrees > 0, "[statistics] t distribution of {} degrees of freedom", degrees);
  check_inside(probability);
  return boost::math::quantile(boost::math::students_t(degrees), probability);
}

double binomial_tail(int64_t successes, int64_t trials, double probability) {
  if (successes <= 0) return 1;
  if (successes > trials) return 0;
  return regularized_beta(static_cast<double>(successes), static_cast<double>(trials - successes + 1), probability);
}

double log_beta_binomial(int64_t successes, int64_t trials, double mean, double correlation) {
  const double sum = 1 / correlation - 1;
  const double a = mean * sum, b = (1 - mean) * sum;
  const auto k = static_cast<double>(successes), n = static_cast<double>(trials);
  return log_beta(k + a, n - k + b) - log_beta(a, b) - log_beta(k + 1, n - k + 1) - std::log(n + 1);
}

}  // namespace surtsey::experiments
