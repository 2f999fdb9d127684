// Distributions that intervals, tests and fits rest on: quantiles and tails from Boost.Math
// (headers only; its incomplete beta inverse keeps full precision where a bisection over a
// continued fraction lost some), and the beta-binomial.
#pragma once

#include <cstdint>

namespace surtsey::experiments {

// log |Gamma(x)|; threads may call it.
double log_gamma(double x);

// I_x(a, b), the regularised incomplete beta function; a, b > 0; x is clamped to [0, 1].
double regularized_beta(double a, double b, double x);

// Inverse of the above in x; probability in [0, 1].
double beta_quantile(double a, double b, double probability);

double normal_quantile(double probability);

// Student's t; degrees > 0.
double t_quantile(double degrees, double probability);

// P(X >= successes) for X ~ Binomial(trials, probability), exact.
double binomial_tail(int64_t successes, int64_t trials, double probability);

// log P(X = successes) for X ~ BetaBinomial(trials, a, b) with mean a / (a + b) and correlation
// 1 / (a + b + 1) between two trials; both in (0, 1). Correlation to zero gives the binomial.
double log_beta_binomial(int64_t successes, int64_t trials, double mean, double correlation);

}  // namespace surtsey::experiments
