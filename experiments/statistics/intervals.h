// Intervals of proportions and of means over seeds.
//
// Protocol: Wilson intervals for plots, Clopper-Pearson for claims, t intervals on seed means (the
// seed is the unit of replication; a bootstrap over few seeds covers too little).
#pragma once

#include <cstdint>
#include <span>
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

// ---- A proportion --------------------------------------------------------------------------

// Wilson's score interval (1927): mean coverage is the nominal one. [0, 1] for no trials.
// Throws UserError unless 0 <= successes <= trials and 0 < confidence < 1; the next one too.
Interval wilson(int64_t successes, int64_t trials, double confidence = 0.95);

// Clopper and Pearson's exact interval (1934): coverage is at least the nominal one, everywhere.
Interval clopper_pearson(int64_t successes, int64_t trials, double confidence = 0.95);

// ---- Means over seeds ----------------------------------------------------------------------

double mean(std::span<const double> values);

// Of an even number of values, the mean of the two in the middle. At least one value.
double median(std::vector<double> values);

// Sample deviation (n - 1); 0 for fewer than two values.
double standard_deviation(std::span<const double> values);

// Standard error of the mean, the harness's `*_stderr`.
double standard_error(std::span<const double> values);

// mean +- t * s / sqrt(n). Fewer than two seeds say nothing about spread: (-inf, inf).
Interval t_interval(std::span<const double> seed_means, double confidence = 0.95);

}  // namespace surtsey::experiments
