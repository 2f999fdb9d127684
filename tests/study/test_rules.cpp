// Keys and rules of studies on planted cells: each rule passes, fails, and stays open where it should.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <variant>

#include "experiments/study/asked.h"
#include "experiments/study/curves.h"
#include "experiments/study/keys.h"
#include "experiments/study/score_table.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

namespace {

struct Planted {
  const char* variant;
  int32_t width;
  uint32_t seed;
  double cot, direct;
};

// A thousand questions each, chance one in ten.
StudyResult planted(const std::vector<Planted>& rows) {
  StudyResult result;
  for (const Planted& row : rows) {
    Cell& cell = result.cells.emplace_back();
    cell.cell = fmt::format("{}-d{}-s{}", row.variant, row.width, row.seed);
    cell.variant = row.variant;
    cell.n_embd = row.width;
    cell.parameters = row.width * 100;
    cell.seed = row.seed;
    cell.chance = .1;
    for (const auto& [arm, share] : {std::pair{"cot", row.cot}, {"direct", row.direct}}) {
      cell.arms.push_back({arm, share, share, 1000});
      cell.arms.back().loss_per_token = 1 - share;
    }
  }
  return result;
}

Verdict verdict(const Judge& judge, const StudyResult& result) { return judge(result, .95).verdict; }

}  // namespace

TEST_CASE("keys have a value for each scale, fill texts, and print as settings", "[study]") {
  struct Keys : StudyKeys {
    Keys() : StudyKeys({.widths = {{4}, {4, 8}}, .steps = {10, 20}}) {}
    Key<double> solved{this, "solved", {.5, .5, .9}, "claims: bound", 0, 1};
    Key<std::vector<std::string>> parts{this, "parts", {{"a"}, {"a", "b"}}, "parts", {"a", "b"}};
  } keys;
  CHECK(keys.fill("{widths} at {solved} {{x}") == "4 at 0.5 {x}");
  keys.set_scale("full");
  CHECK(keys.sweep.steps == 20);
  CHECK(keys.fill("{widths}; {parts}") == "4, 8; a, b");
  keys.set_scale("paper");
  CHECK((keys.solved == .9 && keys.sweep.steps == 20 && has(*keys.parts, "b")));
  CHECK_THROWS_AS(keys.fill("{solvd}"), InternalError);
  ConfigTable table;
  keys.add_fields(table);
  CHECK_THROWS_AS(table.override_one("--solved=2"), UserError);
  CHECK_THROWS_AS(table.override_one("--parts=c"), UserError);
  bool steps = false;
  for (const auto& [name, value] : keys.settings()) {
    CHECK((name != "solved" && name != "log_interval"));
    steps = steps || (name == "steps" && value == "20");
  }
  CHECK(steps);
  CHECK_THROWS_AS(check_once(std::vector{1, 2, 1}, "list"), UserError);
}

TEST_CASE("rules of every seed, some size, and a share of the seeds", "[study]") {
  const StudyResult result = planted({{"joint", 4, 0, .1, .1},
                                      {"joint", 4, 1, .11, .1},
                                      {"joint", 16, 0, 1, .1},
                                      {"joint", 16, 1, .999, .11},
                                      {"joint", 16, 2, .3, .1}});
  const Pick joint = cells("", "joint");
  const Score cot = exact_match("cot"), direct = exact_match("direct");
  CHECK(verdict(every_seed(joint.smallest(), is(cot, near_chance(.05))), result) == Verdict::kPass);
  CHECK(verdict(every_seed(joint.largest(), is(cot, at_least(.95))), result) == Verdict::kFail);
  CHECK(verdict(every_seed(joint.where(cot, .95), is(cot, at_least(.95))), result) == Verdict::kPass);
  CHECK(verdict(every_seed(joint, is(direct, at_most(.1))), result) == Verdict::kInconclusive);
  CHECK(verdict(every_seed(cells("", "none"), is(cot, at_least(0))), result) == Verdict::kInconclusive);
  CHECK(verdict(share_of_seeds(joint, is(cot, at_least(.95)), .6), result) == Verdict::kPass);
  CHECK(verdict(share_of_seeds(joint, is(cot, at_least(.95)), .8), result) == Verdict::kFail);
  CHECK(verdict(some_size(joint, is(cot, at_least(.95))), result) == Verdict::kFail);
  CHECK(verdict(some_size(joint.where(cot, .05, .2), all_of({is(cot, near_chance(.05)), is(direct, at_most(.2))})),
                result) == Verdict::kPass);
  CHECK(verdict(every_seed(joint.where(cot, .25), above(cot, direct)), result) == Verdict::kPass);
  CHECK(verdict(every_seed(joint.smallest(), any_of({is(cot, at_least(.9)), is(direct, at_most(.2))})), result) ==
        Verdict::kPass);
  const Judgement told =
      every_seed(joint.largest(), is(cot, at_least(.95)).beside(direct.named("direct")))(result, .95);
  CHECK(told.evidence == "seed 0: 1, direct 0.1000; seed 1: 0.9990, direct 0.1100; seed 2: 0.3000, direct 0.1000");
  CHECK(told.seeds == 3);
  // As many chances as sizes: each is judged at a higher confidence.
  CHECK(corrected(.95, 5) == Approx(.99));
  CHECK_THROWS_AS(result.cells[0].arm("filler"), InternalError);
}

TEST_CASE("rules of pairs take models of the same seed", "[study]") {
  const StudyResult result = planted({{"f32", 8, 0, .99, .1},
                                      {"f32", 8, 1, .98, .1},
                                      {"f32", 8, 2, 1, .1},
                                      {"int2", 8, 0, .5, .1},
                                      {"int2", 8, 1, .48, .1},
                                      {"int2", 8, 2, .52, .1}});
  const Score cot = exact_match("cot");
  const auto lost = [&](Bound bound) { return mean_difference(cells("", "f32"), cells("", "int2"), cot, bound); };
  CHECK(verdict(lost(at_least(.4)), result) == Verdict::kPass);
  CHECK(verdict(lost(at_most(.4)), result) == Verdict::kFail);
  CHECK(verdict(lost(positive()), result) == Verdict::kPass);
  CHECK(verdict(above_in_pairs({{cells("", "f32"), cells("", "int2")}}, cot), result) == Verdict::kPass);
  CHECK(verdict(above_in_pairs({{cells("", "int2"), cells("", "f32")}}, cot), result) == Verdict::kFail);
  CHECK(verdict(above_in_pairs({{cells("", "f32"), cells("", "int3")}}, cot), result) == Verdict::kInconclusive);
}

TEST_CASE("near chance is a distance from guessing, whatever guessing gives", "[study]") {
  StudyResult result = planted({{"joint", 4, 0, .14, .14}, {"joint", 4, 1, .15, .15}});
  const Judge start = every_seed(cells("", "joint"), is(exact_match("cot"), near_chance(.05)));
  const auto with_chance = [&](double chance) {
    for (Cell& cell : result.cells) cell.chance = chance;
    return verdict(start, result);
  };
  CHECK(with_chance(1.0 / 7) == Verdict::kPass);  // a sum modulo seven
  CHECK(with_chance(.1) == Verdict::kInconclusive);
  CHECK(with_chance(.01) == Verdict::kFail);
}

TEST_CASE("parts of a claim must all hold, and rest on the fewest seeds of any", "[study]") {
  Parts parts;
  CHECK(parts.judgement("nothing").verdict == Verdict::kInconclusive);
  CHECK(parts.judgement("nothing").evidence == "nothing");
  parts.add(Verdict::kPass, "first", 3);
  parts.add(Verdict::kPass, "", 2);
  parts.say("second");
  CHECK(parts.judgement().verdict == Verdict::kPass);
  CHECK(parts.judgement().evidence == "first; second");
  CHECK(parts.judgement().seeds == 2);
  parts.add(pass_if(false));
  CHECK(parts.judgement().verdict == Verdict::kFail);

  // Named judges as one: what was not trained is told and does not count.
  const StudyResult result = planted({{"f32", 4, 0, .9, .1}, {"f32", 4, 1, .95, .1}});
  const auto solves = [](const char* variant) {
    return every_seed(cells("", variant), is(exact_match("cot"), at_least(.8)));
  };
  const Judgement found = every_part({{"a", solves("f32")}, {"b", solves("int8")}})(result, .95);
  CHECK(found.verdict == Verdict::kPass);
  CHECK(found.seeds == 2);
  CHECK(found.evidence.ends_with("; b nothing was trained of 'int8', there is 'f32'"));
  CHECK(verdict(every_part({{"b", solves("int8")}}), result) == Verdict::kInconclusive);
}

TEST_CASE("growths are fitted against their own dial", "[study]") {
  std::vector<Planted> rows;
  for (const int32_t width : {4, 8, 16, 32, 64}) rows.push_back({"joint", width, 0, width < 16 ? .1 : .99, .1});
  const StudyResult result = planted(rows);
  const auto parameters = fit({"joint", {cells("", "joint")}, "cot"}, result, .95);
  const auto widths = fit({"joint", {cells("", "joint")}, "cot", 0, "widths", &Cell::n_embd}, result, .95);
  REQUIRE((parameters && widths));
  CHECK((8 < widths->size50 && widths->size50 < 16));
  CHECK((800 < parameters->size50 && parameters->size50 < 1600));
  CHECK_FALSE(fit({"joint", {cells("", "joint").largest()}, "cot"}, result, .95));
}

TEST_CASE("curves take all models of a pick", "[study]") {
  const StudyResult result = planted({{"f32", 4, 0, .2, .1}, {"f32", 4, 1, .4, .1}, {"f32", 8, 0, .9, .1}});
  const Cells models = cells("", "f32").of(result);
  CHECK(by_size(models).at(400).size() == 2);
  CHECK(values(models, exact_match("cot")) == std::vector{.2, .4, .9});
  Curves curves("t", "n", {"x"}, {"y"}, {{"guessing", .1}});
  curves.add("by size", models, &Cell::parameters, exact_match("cot"));
  curves.add("at one place", models, 7, exact_match("cot"));
  const Figure figure = curves.figure();
  CHECK(figure.references.size() == 1);
  REQUIRE(figure.series.size() == 2);
  CHECK(figure.series[0].points[0].x == 400);
  CHECK(figure.series[0].points[0].y == Approx(.3));
  CHECK(figure.series[1].points[0].y == Approx(.5));
}

TEST_CASE("curves average points that fall together", "[study]") {
  Curves curves("t", "n", {"x"}, {"y"});
  curves.line("later", {.dashed = true});
  curves.line("means", {.spread = true});
  curves.add("means", 2, 1);
  curves.add("means", 1, 0);
  curves.add("means", 2, 3);
  const Figure figure = curves.figure();
  REQUIRE(figure.series.size() == 1);  // lines without points are left out
  REQUIRE(figure.series[0].points.size() == 2);
  CHECK(figure.series[0].points[0].x == 1);
  CHECK(figure.series[0].points[1].y == 2);
  CHECK(figure.series[0].points[1].low < 1);
}

TEST_CASE("of rates that trained together the one with the least held-out loss counts, seed by seed", "[study]") {
  std::vector<Cell> cells;
  const auto add = [&](const char* variant, uint32_t seed, double rate, std::optional<double> loss) {
    Cell& cell = cells.emplace_back();
    cell.variant = variant;
    cell.seed = seed;
    cell.learning_rate = rate;
    cell.validation_loss = loss;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  add("a", 0, .1, nan);
  add("a", 0, .2, .5);
  add("a", 0, .3, .4);
  add("a", 1, .1, .3);
  add("a", 1, .3, .4);
  add("b", 1, .1, nan);
  add("b", 1, .3, std::nullopt);
  select_least_loss(cells);
  std::vector<bool> counts;
  for (const Cell& cell : cells) counts.push_back(cell.selected);
  CHECK(counts == std::vector<bool>{false, false, true, true, false, true, false});
}

TEST_CASE("the best of several rates keeps its lines, under another name", "[study]") {
  std::vector<Cell> tried(2);
  for (size_t i = 0; i < 2; ++i) {
    tried[i].cell = i == 0 ? "slow" : "fast";
    tried[i].validation_loss = i == 0 ? .5 : .25;
  }
  std::vector<SampleLine> lines(3), kept;
  lines[0].cell = "slow";
  lines[1].cell = lines[2].cell = "fast";
  CHECK(best_of(tried, lines, "whole", kept).cell == "fast");
  REQUIRE(kept.size() == 2);
  CHECK(kept[1].cell == "whole");
}

TEST_CASE("a table of scores has means with intervals, and says what few models have", "[study]") {
  StudyResult result = planted({{"a", 8, 0, .5, .1}, {"a", 8, 1, .7, .1}, {"b", 8, 0, 1, 0}});
  result.cells[0].measures = {{"steps", 1e-5, 0, 1}};
  const Grid grid =
      score_table("t", "n", {{"A", cells("", "a").of(result)}, {"none", {}}, {"B", cells("", "b").of(result)}},
                  {arm_column("cot", "cot"), measure_column("steps", "steps"),
                   cell_column("size", [](const Cell& one) { return double(one.parameters); })});
  CHECK(grid.columns == std::vector<std::string>{"cot", "steps", "size"});
  CHECK(grid.rows == std::vector<std::string>{"A", "B"});
  CHECK(grid.entries[0][0].text == "0.6 ± 1.27");  // t of one degree of freedom times .1
  CHECK(grid.entries[0][1].text == "1e-05 (1 of 2)");
  CHECK(grid.entries[0][2].text == "800");
  CHECK(grid.entries[1][0].text == "1");
  CHECK(grid.entries[1][1].text == "–");
}

TEST_CASE("what a model that diverged lacks is open, means and fits leave it out, and all say so",
          "[study][diverged]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  StudyResult result = planted({{"a", 8, 0, .99, .1}, {"a", 8, 1, .98, .1}, {"b", 8, 0, .5, .1}, {"b", 8, 1, .4, .1}});
  for (Cell& cell : result.cells) cell.measures = {{"cot.bits", 2, .1, 1000}};
  CHECK_FALSE(diverged(result.cells[0]));
  // As a run leaves it: no loss of any answer, and no measure of them, as nothing was written.
  Cell& lost = result.cells[1];
  lost.validation_loss = nan;
  for (ArmResult& arm : lost.arms) arm.exact_match = 0, arm.loss_per_token = nan;
  lost.measures.clear();
  CHECK(diverged(lost));
  lost.validation_loss.reset();  // as it is read again from a file
  CHECK(diverged(lost));

  const Pick a = cells("", "a"), b = cells("", "b");
  const Score cot = exact_match("cot"), bits = measure("cot.bits");
  const Cells both = a.of(result);
  CHECK(both.size() == 2);
  CHECK(without_diverged(both).size() == 1);
  CHECK(left_out_text(both) == "; 1 model that diverged is left out");
  CHECK(left_out_text(b.of(result)).empty());
  CHECK(values(both, bits) == std::vector<double>{2});
  CHECK(mean_value(both, cot) == .99);
  CHECK(std::isnan(mean_value({&lost}, cot)));
  CHECK(std::isnan(bits.interval(lost, .95).low));
  CHECK(a.where(cot, 0).of(result).size() == 1);

  const Judgement open = every_seed(a, is(bits, at_most(3)))(result, .95);
  CHECK(open.verdict == Verdict::kInconclusive);
  CHECK(open.evidence == "seed 0: 2; seed 1: diverged");
  // One that fails fails the claim, whatever the other would have been.
  CHECK(verdict(every_seed(a, is(cot, at_most(.5))), result) == Verdict::kFail);
  // The lost pair, and no other, is left out.
  const Judgement mean = mean_difference(a, b, cot, positive())(result, .95);
  CHECK(mean.seeds == 1);
  CHECK(mean.evidence.find("left out: a seed 1: diverged; b seed 1: 0.4000") != std::string::npos);
  CHECK(verdict(above_in_pairs({{a, b}}, cot), result) == Verdict::kInconclusive);

  Curves curves("t", "n", {"x"}, {"y"});
  curves.add("a", both, 1.0, cot);
  curves.add("lost", {&lost}, 1.0, cot);
  curves.reference("none", mean_value({&lost}, cot));
  const Figure figure = curves.figure();
  REQUIRE(figure.series.size() == 1);
  CHECK(figure.series[0].points[0].y == .99);
  CHECK(figure.references.empty());
  const Grid grid = score_table("t", "n", {{"both", both}, {"lost", {&lost}}},
                                {arm_column("cot", "cot"), measure_column("bits", "cot.bits")});
  CHECK(grid.entries[0][0].text == "0.99 (1 of 2)");
  CHECK(grid.entries[1][0].text == "diverged");
  // A measure that is misspelt is one of a model that has the others.
  CHECK_THROWS_AS(measure("cot.bitz").value(result.cells[0]), InternalError);

  // Sizes of which one diverged: a threshold is fitted to the others.
  StudyResult sizes = planted({{"g", 4, 0, .1, 0}, {"g", 8, 0, .1, 0}, {"g", 16, 0, .9, 0}, {"g", 32, 0, .9, 0}});
  for (ArmResult& arm : sizes.cells[3].arms) arm.loss_per_token = nan;
  const Growth growth{"g", {cells("", "g")}, "cot"};
  REQUIRE(fit(growth, sizes, .95).has_value());
  CHECK(fit(growth, sizes, .95)->sizes == 3);
  CHECK(rises_sharply(growth)(sizes, .95).evidence.ends_with("; 1 model that diverged is left out"));
}

TEST_CASE("every number of a study has limits, and a message names key, value and limit", "[study][limits]") {
  struct Keys : StudyKeys {
    Keys() : StudyKeys({.widths = {{4}}, .learning_rates = {{.1}}, .steps = {10}}) {}
    Key<int32_t> count{this, "count", {3}, "without limits of its own"};
    Key<double> weight{this, "weight", {3}, "without limits of its own"};
    Key<Integers> far{this, "far", {{150'000}}, "with a least above the usual most", 150'000};
    Rate rate{this, "rate", {.1}, "a rate"};
    Rates rates{this, "rates", {{.1, .2}}, "several"};
    Steps steps{this, "warm_up", {0}, "steps, or none", 0};
  } keys;
  ConfigTable table;
  keys.add_fields(table);
  for (const ConfigField& field : table.fields()) {
    const bool number = !std::holds_alternative<bool*>(field.target) &&
                        !std::holds_alternative<std::string*>(field.target) &&
                        !std::holds_alternative<std::vector<std::string>*>(field.target);
    CAPTURE(field.name);
    CHECK(field.minimum.has_value() == number);
    CHECK(field.maximum.has_value() == number);
  }
  for (const char* wrong :
       {"--test_items=1000001", "--validation_items=2000000000", "--learning_rates=0", "--learning_rates=-1",
        "--steps=0", "--evaluation_rows=2000000000", "--count=0", "--count=100001", "--weight=-1", "--rate=-1",
        "--rates=.1,0", "--warm_up=-1", "--ensemble_size=100000", "--seeds=-1"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(table.override_one(wrong), UserError);
  }
  try {
    table.override_one("--test_items=1000001");
  } catch (const UserError& error) {
    CHECK(std::string(error.what()).find("test_items = 1000001 is above its maximum of 1000000") != std::string::npos);
  }
  for (const char* right : {"--learning_rates=1e15", "--count=7", "--rate=1e-6", "--warm_up=0", "--far=150000"})
    CHECK_NOTHROW(table.override_one(right));
}
