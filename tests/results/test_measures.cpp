// Measures of a cell: written, read, and computed again from the samples.
#include "experiments/results/record.h"
#include "experiments/results/result.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

TEST_CASE("measures are written, read, and computed again from the samples") {
  StudyResult result;
  result.study = "s";
  Cell& cell = result.cells.emplace_back();
  cell.cell = "one";
  std::vector<SampleLine> samples;
  for (int i = 0; i < 5; ++i) {
    SampleLine line{"one", "0_shot", i, "a >", "b", "b", true, true, "", "", 0.5, {}};
    line.measures = {{"regret", i * 0.1}, {"optimum", 1.0}};
    samples.push_back(parse_sample(to_json_line(line), "line"));
  }
  const Recomputed again = recompute(samples).at(0);
  cell.arms = again.arms;
  cell.measures = again.measures;
  const Measure* regret = cell.find_measure("0_shot.regret");
  REQUIRE(regret != nullptr);
  REQUIRE(regret->mean == Approx(0.2));
  REQUIRE(regret->standard_error == Approx(std::sqrt(0.025 / 5)));
  REQUIRE(regret->n == 5);
  REQUIRE(cell.find_measure("0_shot.optimum")->standard_error == Approx(0).margin(1e-9));
  REQUIRE(cell.find_measure("regret") == nullptr);
  StudyResult read = parse_result(to_json(result), "result");
  REQUIRE(read.cells[0].measures.size() == 2);
  REQUIRE(disagreements(read, samples).empty());
  for (auto change : {+[](Measure& one) { one.mean += 1e-6; }, +[](Measure& one) { one.standard_error += 1e-4; }}) {
    StudyResult wrong = read;
    change(wrong.cells[0].measures[0]);
    REQUIRE(disagreements(wrong, samples).size() == 1);
  }
  read.cells[0].measures.clear();
  REQUIRE(disagreements(read, samples).size() == 4);
}
