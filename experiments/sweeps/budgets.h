// Thresholds under other budgets than one number of steps for every size: against the tokens that
// models train on, and at equal FLOPs. At a fixed number of tokens a threshold in size is one of
// sample efficiency: smaller models succeed with more steps.
#pragma once

#include <string>
#include <vector>

#include "experiments/results/figure.h"
#include "experiments/statistics/threshold.h"
#include "experiments/sweeps/pack.h"

namespace surtsey::experiments {

// Models that would take fewer or more steps at equal FLOPs are left out.
inline constexpr int32_t kLeastBudgetSteps = 20;
inline constexpr int32_t kMostBudgetSteps = 50'000;

std::vector<Budget> budgets_of(const std::vector<double>& shares, const std::vector<double>& gigaflops);

// Of the cells of a budget: "cot, 0.5 of the steps", "cot at 20 GFLOP".
std::string budget_variant(const std::string& variant, const Budget& budget);

// The steps of a budget for a study's own steps and the FLOPs of one; nothing when it is left out.
std::optional<int32_t> budget_steps(const Budget& budget, int32_t steps, double step_flops);

// The threshold of these cells in parameters, by the exact match of one arm; nothing for fewer than
// two sizes.
std::optional<ThresholdFit> threshold_of(const std::vector<const Cell*>& cells, std::string_view arm,
                                         double confidence);

// The size at half-way against tokens, over the budgets in steps and the study's own; and exact
// match against size at equal FLOPs. Figures without points are left out.
std::vector<Figure> budget_figures(const StudyResult& result, const std::string& task, const std::string& variant,
                                   const std::string& arm, const std::vector<Budget>& budgets);

}  // namespace surtsey::experiments
