// From what size does an ability appear, and how suddenly?
//
//   accuracy(N) = c + (u - c) / (1 + (N50 / N)^s)      c fixed at chance
//
// fitted by maximum likelihood to counts of right answers that are beta-binomial: seeds of one size
// differ by more than their items do. From 10% to 90% of the rise takes log10(81) / s decades of N,
// which is called the width. Two simpler curves stand against it by AICc (number of cells as n): a
// constant, and a line in log N.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/statistics/verdict.h"

namespace surtsey::experiments {

// One trained model.
struct SizeCount {
  double size = 0;  // parameters, or any other positive dial
  int64_t successes = 0;
  int64_t trials = 0;
};

// Fewer sizes than this give no verdict.
inline constexpr size_t kThresholdSizes = 6;
inline constexpr double kSharpWidth = 0.5;  // decades
inline constexpr double kAiccMargin = 6;    // over constant and linear
inline constexpr double kEmergedAccuracy = 0.9;

struct ThresholdFit {
  size_t sizes = 0;  // distinct
  double size50 = 0;
  double width = 0;        // decades
  double ceiling = 1;      // u
  double correlation = 0;  // of two answers of one model, beyond what its size explains
  double log_likelihood = 0;
  double aicc = 0, aicc_constant = 0, aicc_linear = 0;
  // By profile likelihood, with Student's t for the quantile. An end that the data do not bound is
  // 0 or infinite.
  Interval size50_interval;
  Interval width_interval;

  // How much the curve gains over the better of its rivals.
  double aicc_gain() const;
};

// UserError for a chance outside [0, 1), counts that are none, or cells of fewer than two sizes.
ThresholdFit fit_threshold(std::span<const SizeCount> cells, double chance, double confidence = 0.95);

// "Sharp": the width is below half a decade, and AICc prefers the curve by more than 6.
// INCONCLUSIVE with fewer than six sizes.
Verdict sharp(const ThresholdFit& fit);

// "Emergent": the two smallest sizes are at chance and the largest has at least .9. `sizes` holds
// an interval of the accuracy of each size, the smallest first; fewer than six are INCONCLUSIVE.
Verdict emergent(std::span<const Interval> sizes, double chance);

}  // namespace surtsey::experiments
