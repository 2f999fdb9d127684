// What can be predicted of a linear function from examples of it: the rules that a model which
// learns in context is held against.
//
// A sequence is x_0, y_0, x_1, y_1, .. with x in d dimensions; each rule predicts y_k for every k
// from x_k and the k pairs before it, in double. Without examples every rule but posterior_mean()
// says 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace surtsey::experiments {

struct ContextExamples {
  int64_t dimension = 0;      // d
  std::span<const double> x;  // [K, d] row by row
  std::span<const double> y;  // [K]
};

// The line through all examples; of fewer than d, the one with the smallest weights. Its expected
// error for standard normal weights and inputs, without noise, is 1 - k/d of the variance of y for
// k < d, and 0 from k = d on.
std::vector<double> least_squares(const ContextExamples& examples);

// w = (X'X + penalty 1)^-1 X'y: the posterior mean for standard normal weights when y has noise of
// variance `penalty`.
std::vector<double> ridge(const ContextExamples& examples, double penalty);

// w = mean of y x: one step of gradient descent at rate 1. Expected error (d + 1)/k of the variance
// of y.
std::vector<double> averaging(const ContextExamples& examples);

// The mean y of the `count` nearest inputs, of all where there are fewer.
std::vector<double> nearest_neighbours(const ContextExamples& examples, int64_t count = 3);

// The posterior mean when the weights are one of `tasks` ([M, d]), each as likely, and y has normal
// noise of this deviation: the best predictor of who has learned these tasks and no others.
std::vector<double> posterior_mean(const ContextExamples& examples, std::span<const double> tasks, double noise);

}  // namespace surtsey::experiments
