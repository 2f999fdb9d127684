// Minimisers for the fits, by NLopt.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace surtsey::experiments {

struct Minimum {
  std::vector<double> at;
  double value = 0;
};

// Local minimum in a box by BOBYQA (Powell 2009): quadratic models, no derivatives. Two unknowns at
// least. The box is scaled to one internally; `tolerance` is a share of it.
using Objective = std::function<double(std::span<const double>)>;
Minimum minimize_in_box(const Objective& objective, std::span<const double> start, std::span<const double> low,
                        std::span<const double> high, double tolerance = 1e-6);

// Local minimum of a smooth function by L-BFGS. The objective writes its gradient.
using SmoothObjective = std::function<double(std::span<const double>, std::span<double> gradient)>;
Minimum minimize_smooth(const SmoothObjective& objective, std::span<const double> start);

}  // namespace surtsey::experiments
