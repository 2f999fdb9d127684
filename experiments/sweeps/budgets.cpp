#include "experiments/sweeps/budgets.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/results/claims.h"

namespace surtsey::experiments {
namespace {

constexpr double kGiga = 1e9;

std::string half_way(const ThresholdFit& fit) {
  return fmt::format("half-way at {:.0f} parameters, {:.0f} to {:.0f}{}", fit.size50, fit.size50_interval.low,
                     fit.size50_interval.high, fit.sizes < kThresholdSizes ? fmt::format(", {} sizes", fit.sizes) : "");
}

}  // namespace

std::vector<Budget> budgets_of(const std::vector<double>& shares, const std::vector<double>& gigaflops) {
  std::vector<Budget> budgets;
  for (const double share : shares) budgets.push_back({.share = share});
  for (const double one : gigaflops) budgets.push_back({.flops = one * kGiga});
  return budgets;
}

std::string budget_variant(const std::string& variant, const Budget& budget) {
  return budget.share > 0 ? fmt::format("{}, {:g} of the steps", variant, budget.share)
                          : fmt::format("{} at {:g} GFLOP", variant, budget.flops / kGiga);
}

std::optional<int32_t> budget_steps(const Budget& budget, int32_t steps, double step_flops) {
  if (budget.share > 0) {
    return std::max(1, static_cast<int32_t>(std::lround(budget.share * steps)));
  }
  const double count = std::round(budget.flops / step_flops);
  if (count < kLeastBudgetSteps || count > kMostBudgetSteps) return {};
  return static_cast<int32_t>(count);
}

std::optional<ThresholdFit> threshold_of(const std::vector<const Cell*>& cells, std::string_view arm,
                                         double confidence) {
  std::vector<SizeCount> counts;
  std::map<int64_t, int64_t> sizes;
  double chance = 0;
  for (const Cell* cell : cells) {
    if (diverged(*cell)) continue;
    counts.push_back(size_count(static_cast<double>(cell->parameters), cell->arm(arm)));
    ++sizes[cell->parameters];
    chance = cell->chance;
  }
  if (sizes.size() < 2) return {};
  return fit_threshold(counts, chance, confidence);
}

std::vector<Figure> budget_figures(const StudyResult& result, const std::string& task, const std::string& variant,
                                   const std::string& arm, const std::vector<Budget>& budgets) {
  FigureSeries thresholds{"size at half-way", {}};
  Figure equal{fmt::format("{}: accuracy against size at equal FLOPs", task),
               "Means over seeds. Every model of a line trains for the same FLOPs: the larger it is, "
               "the fewer tokens it sees.",
               {"parameters", true},
               {"exact match"},
               {}};
  const auto add_threshold = [&](const std::vector<const Cell*>& cells) {
    const auto fit = threshold_of(cells, arm, 0.95);
    if (!fit) return;
    FigurePoint point{static_cast<double>(cells[0]->tokens), fit->size50};
    if (fit->size50_interval.low > 0 && std::isfinite(fit->size50_interval.high)) {
      point.low = fit->size50_interval.low;
      point.high = fit->size50_interval.high;
    }
    thresholds.points.push_back(point);
  };
  for (const Budget& budget : budgets) {
    const auto cells = claim_cells(result, task, budget_variant(variant, budget));
    if (cells.empty()) continue;
    if (budget.share > 0) {
      add_threshold(cells);
      continue;
    }
    std::map<int64_t, std::vector<double>> sizes;
    for (const Cell* cell : cells)
      if (!diverged(*cell)) sizes[cell->parameters].push_back(cell->find_arm(arm)->exact_match);
    FigureSeries& series = equal.series.emplace_back();
    const auto fit = threshold_of(cells, arm, 0.95);
    series.name = fmt::format("{:g} GFLOP{}", budget.flops / kGiga, fit ? " (" + half_way(*fit) + ")" : "");
    for (const auto& [parameters, shares] : sizes) {
      series.points.push_back({static_cast<double>(parameters), mean(shares)});
    }
    if (series.points.empty()) equal.series.pop_back();
  }
  std::vector<Figure> figures;
  if (!thresholds.points.empty()) {
    add_threshold(claim_cells(result, task, variant));
    std::sort(thresholds.points.begin(), thresholds.points.end(),
              [](const FigurePoint& a, const FigurePoint& b) { return a.x < b.x; });
    figures.push_back({fmt::format("{}: threshold against tokens", task),
                       "Parameters at which half of the rise in accuracy is done, with 95% "
                       "intervals; without one where the sizes do not bound it.",
                       {"training tokens of a model", true},
                       {"parameters", true},
                       {thresholds}});
  }
  if (!equal.series.empty()) figures.push_back(std::move(equal));
  return figures;
}

}  // namespace surtsey::experiments
