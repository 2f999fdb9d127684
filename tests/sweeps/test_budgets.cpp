// Thresholds under other budgets: what is trained for them, and figures of planted cells.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "experiments/sweeps/budgets.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

TEST_CASE("a budget sets the steps: a share of them, or those of equal FLOPs") {
  const auto budgets = budgets_of({0.5, 2}, {1, 1e-9});
  REQUIRE(budgets.size() == 4);
  CHECK(budget_variant("cot", budgets[0]) == "cot, 0.5 of the steps");
  CHECK(budget_variant("cot", budgets[2]) == "cot at 1 GFLOP");
  CHECK(budget_steps(budgets[0], 100, 1e6) == 50);
  CHECK(budget_steps(budgets[1], 100, 1e6) == 200);
  CHECK(budget_steps(budgets[2], 100, 1e6) == 1000);
  CHECK(budget_steps(budgets[2], 100, 3e6) == 333);
  CHECK_FALSE(budget_steps(budgets[2], 100, 1e8).has_value());  // ten steps are too few
  CHECK_FALSE(budget_steps(budgets[2], 100, 1e3).has_value());  // a million too many
  CHECK_FALSE(budget_steps(budgets[3], 100, 1e6).has_value());
}

TEST_CASE("thresholds are drawn against tokens, accuracies at equal FLOPs") {
  StudyResult result;
  const auto budgets = budgets_of({0.5, 2}, {20});
  // Half-way at a size that falls with the tokens.
  const auto plant = [&](const std::string& variant, int64_t tokens, double half) {
    for (const int64_t size : {500, 1000, 2000, 4000, 8000, 16'000, 32'000}) {
      Cell& cell = result.cells.emplace_back();
      cell.cell = variant + std::to_string(size);
      cell.task = "parity";
      cell.variant = variant;
      cell.parameters = size;
      cell.tokens = tokens;
      cell.chance = 0.5;
      ArmResult& arm = cell.arms.emplace_back();
      arm.arm = "cot";
      arm.n = 1000;
      arm.exact_match = 0.5 + 0.5 / (1 + std::pow(half / static_cast<double>(size), 4));
    }
  };
  plant("cot", 1000, 4000);
  plant(budget_variant("cot", budgets[0]), 500, 8000);
  plant(budget_variant("cot", budgets[1]), 2000, 2000);
  plant(budget_variant("cot", budgets[2]), 700, 3000);
  const auto figures = budget_figures(result, "parity", "cot", "cot", budgets);
  REQUIRE(figures.size() == 2);
  const auto& points = figures[0].series.at(0).points;
  REQUIRE(points.size() == 3);
  const double halves[] = {8000, 4000, 2000}, tokens[] = {500, 1000, 2000};
  for (size_t i = 0; i < 3; ++i) {
    CHECK(points[i].x == tokens[i]);
    CHECK(points[i].y == Approx(halves[i]).epsilon(0.05));
    CHECK(points[i].low < halves[i]);
    CHECK(points[i].high > halves[i]);
  }
  REQUIRE(figures[1].series.size() == 1);
  CHECK(figures[1].series[0].name.starts_with("20 GFLOP (half-way at "));
  CHECK(figures[1].series[0].points.size() == 7);
  CHECK(figures[1].series[0].points[0].y == Approx(0.5).margin(0.01));
  CHECK(budget_figures(result, "chain", "cot", "cot", budgets).empty());
  CHECK(budget_figures(result, "parity", "cot", "cot", {}).empty());
}
