// Power laws of a loss, as Hoffmann et al. (2022) fit them.
//
//   one dial:    L(x)    = E + A / x^alpha
//   approach 3:  L(N, D) = E + A / N^alpha + B / D^beta
//   approach 2:  at each compute budget C a parabola of the loss over log N gives the best size;
//                then N_opt = k C^a and D_opt = m C^b
//
// One dial and approach 3 minimise the sum of Huber losses (delta 1e-3) of log L by L-BFGS, from
// the best starts of a grid of exponents at which E, A and B follow by linear least squares
// (variable projection).
//
// Two intervals of the constants. Resampling runs as if they were independent (bootstrap) sees
// their noise and nothing else. But no power law is exact: what it misses is shared by all runs of
// a size, by those of like many tokens, and by those of a budget, and seeds share their text across
// all of these. The jackknife leaves one such group out at a time, and so sees how far E leans on
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/statistics/intervals.h"

namespace surtsey::experiments {

struct ScalingPoint {
  double parameters = 0;  // N
  double tokens = 0;      // D
  double loss = 0;        // nats a token
  double flops = 0;       // C: runs of one budget have the same number; not in approach 3's fit
  int64_t seed = 0;       // of the training; the jackknife only
};

struct PowerTerm {
  double coefficient = 0;  // A
  double exponent = 0;     // alpha

  double at(double dial) const;
};

// ---- One dial ------------------------------------------------------------------------------

struct PowerLaw {
  double floor = 0;  // E
  PowerTerm term;
  double objective = 0;  // Huber loss of the logs at the minimum

  double at(double dial) const { return floor + term.at(dial); }
};

// With `with_floor` false E is 0: a line in log-log. UserError for fewer points than unknowns, or
// values that are not positive.
PowerLaw fit_power_law(std::span<const double> dials, std::span<const double> losses, bool with_floor = true);

// Where the next loss at `dial` falls: resampled fits, with a resampled residual each. What a
// forecast from smaller sizes is judged against.
Interval forecast(std::span<const double> dials, std::span<const double> losses, double dial, bool with_floor = true,
                  double confidence = 0.95, int resamples = 400, uint32_t seed = 0);

// ---- Approach 3 ----------------------------------------------------------------------------

struct ScalingLaw {
  double floor = 0;      // E
  PowerTerm parameters;  // A, alpha
  PowerTerm tokens;      // B, beta
  double objective = 0;

  double at(double n, double d) const { return floor + parameters.at(n) + tokens.at(d); }
};

ScalingLaw fit_scaling_law(std::span<const ScalingPoint> points);

struct ScalingLawIntervals {
  Interval floor, coefficient_n, exponent_n, coefficient_d, exponent_d;
};
// Percentiles of fits to resampled runs: right only when runs are independent and the law is exact.
ScalingLawIntervals bootstrap_scaling_law(std::span<const ScalingPoint> points, double confidence = 0.95,
                                          int resamples = 400, uint32_t seed = 0);

// estimate +- t s, of A and B in their logarithms. Four delete-one-group jackknifes (Efron 1982)
//
//   v = (G - 1) / G * sum over groups g of (fit without g - mean of those fits)^2
//
// over sizes, octaves of tokens, budgets and seeds, the ways in which the errors of runs hang
// together; s^2 is the sum of the four, and t has the degrees of freedom of Satterthwaite (1946),
// from G - 1 of each. The noise of single runs is in all four, so the interval is wide rather than
// narrow where nothing is shared. One seed leaves its part out.
ScalingLawIntervals jackknife_scaling_law(std::span<const ScalingPoint> points, double confidence = 0.95);
// Both, unless the points are too few for them.
struct FittedScalingLaw {
  std::optional<ScalingLaw> law;
  ScalingLawIntervals intervals;
  std::string why;  // there is none
};
FittedScalingLaw try_scaling_law(std::span<const ScalingPoint> points);
// UserError unless there are three sizes, three octaves and three budgets to leave out.
void check_scaling_groups(std::span<const ScalingPoint> points);

// ---- Approach 2 ----------------------------------------------------------------------------

struct BudgetOptimum {
  double flops = 0;
  double parameters = 0;  // N_opt
  double tokens = 0;      // D_opt
};
struct Frontier {
  std::vector<BudgetOptimum> optima;  // the smallest budget first
  double parameters_exponent = 0;     // a of N_opt = k C^a
  double tokens_exponent = 0;         // b of D_opt = m C^b
};

// UserError unless at least two budgets have three sizes each and a loss that is lower between
// them: a parabola that opens upwards.
Frontier fit_frontier(std::span<const ScalingPoint> points);

struct FrontierIntervals {
  Interval parameters_exponent, tokens_exponent;
};
// Resamples runs within each budget; resamples without an optimum are drawn again.
FrontierIntervals bootstrap_frontier(std::span<const ScalingPoint> points, double confidence = 0.95,
                                     int resamples = 400, uint32_t seed = 0);

}  // namespace surtsey::experiments
