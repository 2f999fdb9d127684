// The audit of metrics: edit distances and series by hand, forecasts of planted curves, and the
// study itself over a planted run.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>

#include "experiments/results/audit.h"
#include "graph/random.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::WithinAbs;

namespace {

SampleLine line(const std::string& cell, int64_t index, const std::string& target, const std::string& response,
                double nll) {
  SampleLine one;
  one.cell = cell;
  one.arm = "cot";
  one.index = index;
  one.prompt = "p =";
  one.target = target;
  one.response = response;
  one.nll = nll;
  return one;
}

// Five seeds a size; loss and whole-answer accuracy as functions of the size, noise of 2% on top.
AuditSeries planted(const std::vector<int64_t>& sizes, double (*loss)(double), double (*accuracy)(double)) {
  AuditSeries series;
  for (const int64_t size : sizes) {
    for (uint32_t seed = 0; seed < 5; ++seed) {
      AuditRow& row = series.rows.emplace_back();
      row.parameters = size;
      row.seed = seed;
      const double noise = graph::uniform_from_bits(graph::random_bits(7, static_cast<uint32_t>(size), seed)) - 0.5;
      row.loss_per_token = loss(static_cast<double>(size)) * (1 + 0.04 * noise);
      row.whole_answer = accuracy(row.loss_per_token);
    }
  }
  return series;
}

const std::vector<int64_t> kSizes = {1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000};

}  // namespace

TEST_CASE("token edit distance counts insertions, deletions and substitutions", "[audit]") {
  struct Row {
    const char *left, *right;
    size_t distance;
  };
  for (const Row& row :
       {Row{"", "", 0}, Row{"1 2 3", "1 2 3", 0}, Row{"1 2 3", "", 3}, Row{"", "1", 1}, Row{"1 2 3", "1 3", 1},
        Row{"1 2 3", "2 3 4", 2}, Row{"12 3", "1 2 3", 2}, Row{"a b c d", "b a d c", 3}}) {
    CAPTURE(row.left, row.right);
    CHECK(token_edit_distance(row.left, row.right) == row.distance);
    CHECK(token_edit_distance(row.right, row.left) == row.distance);
  }
}

TEST_CASE("a series holds what the answers give", "[audit]") {
  std::vector<SampleLine> samples = {line("a", 0, "1 2 3 4", "1 2 3 4", 0.0),
                                     line("a", 1, "1 2 3 4", "2 3 4 4", std::log(2.0)),
                                     line("b", 0, "1 2 3 4", "1 2 3 4", 0.4)};
  StudyResult result;
  for (const Recomputed& again : recompute(samples)) {
    Cell& cell = result.cells.emplace_back();
    cell.cell = again.cell;
    cell.parameters = again.cell == "a" ? 20 : 10;
    cell.variant = "joint";
    cell.arms = again.arms;
  }
  Cell& faint = result.cells.emplace_back(result.cells[0]);
  faint.selected = false;
  const auto all = audit_series(result, samples);
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "joint, cot");
  REQUIRE(all[0].rows.size() == 2);
  CHECK(all[0].rows[0].cell == "b");  // the smallest first
  const AuditRow& row = all[0].rows[1];
  CHECK(row.tokens_per_answer == 4);
  CHECK(row.final_answer == 1);
  CHECK(row.whole_answer == 0.5);
  CHECK_THAT(row.position_product, WithinAbs(0.125, 1e-12));
  CHECK_THAT(row.edit_similarity, WithinAbs((1 + 0.5) / 2, 1e-12));
  CHECK_THAT(row.loss_per_token, WithinAbs(std::log(2.0) / 8, 1e-12));
  CHECK_THAT(row.brier_right, WithinAbs((0 + 0.25) / 2, 1e-12));
  const std::string csv = audit_csv({{"run", all}});
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 3);
  CHECK(csv.find("run,\"joint, cot\",a,20,0,4,1,0.5,") != std::string::npos);
}

TEST_CASE("a power law stays within its forecast, a break leaves it", "[audit]") {
  const auto flat = [](double) { return 0.0; };
  const auto law = planted(kSizes, [](double n) { return 20 * std::pow(n, -0.3); }, flat);
  const auto broken = planted(kSizes, [](double n) { return 20 * std::pow(n, -0.3) * (n > 10000 ? 0.1 : 1); }, flat);
  const auto inside = forecast_losses(law, 0.95), left = forecast_losses(broken, 0.95);
  REQUIRE(inside.size() == 4);
  REQUIRE(left.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CAPTURE(inside[i].parameters, inside[i].expected.low, inside[i].expected.high, inside[i].found.low,
            inside[i].found.high);
    CHECK(inside[i].parameters == kSizes[4 + i]);
    CHECK(inside[i].found.high > inside[i].expected.low);
    CHECK(left[i].found.high < left[i].expected.low);
  }
  CHECK(forecast_losses(planted({10, 20, 30}, [](double) { return 1.0; }, flat), 0.95).empty());
}

TEST_CASE("the loss explains an accuracy that follows it, and not one that does not", "[audit]") {
  const auto loss = [](double n) { return 20 * std::pow(n, -0.3); };
  const auto follows = loss_axis(planted(kSizes, loss, [](double nats) { return std::exp(-8 * nats); }), 0.95);
  CHECK(follows.explained > 0.999);
  CHECK(follows.interval.low > 0.99);
  const auto random = loss_axis(planted(kSizes, loss, [](double nats) { return std::fmod(1e6 * nats, 1.0); }), 0.95);
  CHECK(random.interval.high < 0.9);
  CHECK(loss_axis({}, 0.95).interval.width() == 1);
}
