#include "experiments/statistics/minimize.h"

#include <nlopt.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <memory>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr int kMostEvaluations = 4000;

using Optimizer = std::unique_ptr<nlopt_opt_s, decltype(&nlopt_destroy)>;

// NLopt is C: an exception waits here until it has returned.
struct Call {
  SmoothObjective objective;
  nlopt_opt optimizer = nullptr;
  std::exception_ptr error;
};

double evaluate(unsigned count, const double* at, double* gradient, void* data) {
  auto& call = *static_cast<Call*>(data);
  try {
    const double value =
        call.objective({at, count}, gradient ? std::span<double>(gradient, count) : std::span<double>());
    return std::isfinite(value) ? value : 1e300;
  } catch (...) {
    call.error = std::current_exception();
    nlopt_force_stop(call.optimizer);
    return 1e300;
  }
}

Minimum optimize(const Optimizer& optimizer, Call& call, std::vector<double> at) {
  call.optimizer = optimizer.get();
  nlopt_set_min_objective(optimizer.get(), evaluate, &call);
  nlopt_set_maxeval(optimizer.get(), kMostEvaluations);
  double value = 0;
  const nlopt_result result = nlopt_optimize(optimizer.get(), at.data(), &value);
  if (call.error) std::rethrow_exception(call.error);
  // A failed line search at the limit of rounding leaves the best point behind, which will do.
  ensure(result != NLOPT_INVALID_ARGS && result != NLOPT_OUT_OF_MEMORY,
         "[statistics] the minimiser refused its arguments ({})", static_cast<int>(result));
  return {std::move(at), value};
}

}  // namespace

Minimum minimize_in_box(const Objective& objective, std::span<const double> start, std::span<const double> low,
                        std::span<const double> high, double tolerance) {
  const size_t count = start.size();
  ensure(count >= 2 && low.size() == count && high.size() == count, "[statistics] a box of {} unknowns", count);
  std::vector<double> scaled(count);
  Call call;
  call.objective = [&](std::span<const double> at, std::span<double>) {
    for (size_t i = 0; i < count; ++i) scaled[i] = low[i] + at[i] * (high[i] - low[i]);
    return objective(scaled);
  };
  const Optimizer optimizer(nlopt_create(NLOPT_LN_BOBYQA, static_cast<unsigned>(count)), nlopt_destroy);
  nlopt_set_lower_bounds1(optimizer.get(), 0);
  nlopt_set_upper_bounds1(optimizer.get(), 1);
  nlopt_set_xtol_abs1(optimizer.get(), tolerance);
  nlopt_set_ftol_abs(optimizer.get(), 1e-7);
  nlopt_set_initial_step1(optimizer.get(), 0.05);
  std::vector<double> at(count);
  for (size_t i = 0; i < count; ++i) {
    at[i] = std::clamp((start[i] - low[i]) / (high[i] - low[i]), 0.0, 1.0);
  }
  Minimum minimum = optimize(optimizer, call, std::move(at));
  for (size_t i = 0; i < count; ++i) {
    minimum.at[i] = low[i] + minimum.at[i] * (high[i] - low[i]);
  }
  return minimum;
}

Minimum minimize_smooth(const SmoothObjective& objective, std::span<const double> start) {
  const Optimizer optimizer(nlopt_create(NLOPT_LD_LBFGS, static_cast<unsigned>(start.size())), nlopt_destroy);
  nlopt_set_ftol_rel(optimizer.get(), 1e-14);
  nlopt_set_xtol_rel(optimizer.get(), 1e-12);
  Call call;
  call.objective = objective;
  return optimize(optimizer, call, {start.begin(), start.end()});
}

}  // namespace surtsey::experiments
