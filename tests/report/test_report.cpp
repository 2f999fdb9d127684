// Results and reports: round trips, recomputation from samples, and a page whose numbers are those
// of result.json.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "experiments/report/abilities.h"
#include "experiments/report/chart.h"
#include "experiments/report/figure_chart.h"
#include "experiments/report/pages/texts.h"
#include "experiments/report/report.h"
#include "experiments/report/report_figures.h"
#include "experiments/results/claims.h"
#include "experiments/sweeps/pack.h"
#include "graph/error.h"
#include "tests/support/folder.h"
#include "tests/support/report_fixture.h"
#include "tests/support/words.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

namespace {

const ReportInput& fixture() {
  static const ReportInput input = tests::make_report_fixture(60);
  return input;
}

// Every number of a JSON document.
std::set<double> numbers_of(const std::string& text) {
  std::set<double> numbers;
  const std::function<void(const nlohmann::json&)> walk = [&](const nlohmann::json& json) {
    if (json.is_number()) numbers.insert(json.get<double>());
    if (json.is_structured()) {
      for (const auto& part : json) walk(part);
    }
  };
  walk(nlohmann::json::parse(text));
  return numbers;
}

void write_run(const std::filesystem::path& directory, const ReportInput& input) {
  RunDirectory run(directory, RunDirectory::Mode::kFresh);
  for (const SampleLine& sample : input.samples) run.append(sample);
  for (const MetricLine& metric : input.metrics) run.append(metric);
  run.write_environment({.commit = "0123456789ab", .command = {"chain_of_thought"}});
  run.write_result(input.result);
}

}  // namespace

TEST_CASE("a result reads back from its JSON bit by bit", "[report]") {
  const StudyResult& result = fixture().result;
  const std::string json = to_json(result);
  const StudyResult back = parse_result(json, "result.json");
  CHECK(to_json(back) == json);
  REQUIRE(back.cells.size() == 16);
  CHECK(back.cells[3].learning_rate == result.cells[3].learning_rate);
  CHECK(back.cells[3].arms[0].position_accuracy == result.cells[3].arms[0].position_accuracy);
  CHECK(back.cells[3].faithfulness == result.cells[3].faithfulness);
  CHECK(back.claims[2].verdict == Verdict::kFail);
  const auto parsed = nlohmann::json::parse(json);
  for (const char* key : {"cell", "parameters", "n_layer", "n_embd", "seed", "learning_rate", "steps", "tokens",
                          "flops", "train_seconds", "arms", "faithfulness"}) {
    CHECK(parsed["cells"][0].contains(key));
  }
  for (const char* key : {"exact_match", "chain_exact_match", "n", "ci95", "loss_per_token", "position_accuracy"}) {
    CHECK(parsed["cells"][0]["arms"]["cot"].contains(key));
  }
}

TEST_CASE("a study's own figures are read back and drawn", "[report]") {
  const StudyResult back = parse_result(to_json(fixture().result), "result.json");
  REQUIRE(back.figures.size() == 1);
  const Chart chart = to_chart(back.figures[0]);
  REQUIRE(chart.series.size() == 2);
  // The point that a logarithm does not have is left out.
  CHECK(chart.series[0].line.size() == 2);
  CHECK(chart.series[0].marks[0].low == 2);
  CHECK(std::isnan(chart.series[0].marks[1].low));
  CHECK(chart.series[1].marks.empty());
  CHECK(chart.references[0].y == 1.75);
  CHECK(chart.x.logarithmic);
  const std::string html = render_report(fixture());
  CHECK_THAT(html, ContainsSubstring("<h3>Envelope</h3>"));
  auto json = nlohmann::ordered_json::parse(to_json(fixture().result));
  json["figures"][0]["series"][0].erase("points");
  CHECK_THROWS_WITH(parse_result(json.dump(), "a.json"),
                    ContainsSubstring("a.json: figures[0]") && ContainsSubstring("points"));
}

TEST_CASE("a loss that is not finite survives as null", "[report]") {
  StudyResult result = fixture().result;
  result.cells[0].arms[0].loss_per_token = std::nan("");
  const StudyResult back = parse_result(to_json(result), "r");
  CHECK(std::isnan(back.cells[0].arms[0].loss_per_token));
  CHECK_NOTHROW(render_report({.result = back}));
}

TEST_CASE("a broken result names the file and the key", "[report]") {
  CHECK_THROWS_WITH(parse_result("{", "a.json"), ContainsSubstring("a.json"));
  CHECK_THROWS_WITH(parse_result("[]", "a.json"), ContainsSubstring("not an object"));
  CHECK_THROWS_WITH(parse_result("{}", "a.json"), ContainsSubstring("'study' is missing"));
  auto json = nlohmann::json::parse(to_json(fixture().result));
  json["cells"][2]["flops"] = "many";
  CHECK_THROWS_WITH(parse_result(json.dump(), "a.json"),
                    ContainsSubstring("cells[2]") && ContainsSubstring("'flops' has the wrong type"));
  json = nlohmann::json::parse(to_json(fixture().result));
  json["claims"][0]["verdict"] = "MAYBE";
  CHECK_THROWS_WITH(parse_result(json.dump(), "a.json"), ContainsSubstring("MAYBE"));
}

TEST_CASE("scores follow from the samples alone", "[report]") {
  const auto line = [](const char* arm, const char* target, const char* response, double nll) {
    SampleLine sample{.cell = "x", .arm = arm, .prompt = "C 1 2 =", .target = target, .response = response};
    sample.nll = nll;
    return sample;
  };
  const auto cells =
      recompute({line("cot", "1 3", "1 3", 0.5), line("cot", "1 3", "2 3", 1.5), line("cot", "1 3", "1 4", 2),
                 line("cot", "1 3", "1 =", 0), line("corrupted", "4", "4", 0), line("corrupted", "4", "5", 0)});
  REQUIRE(cells.size() == 1);
  REQUIRE(cells[0].arms.size() == 1);
  const ArmResult& arm = cells[0].arms[0];
  CHECK(arm.n == 4);
  CHECK(arm.exact_match == 0.5);
  CHECK(arm.chain_exact_match == 0.25);
  CHECK(arm.loss_per_token == 0.5);
  CHECK(arm.position_accuracy == std::vector<double>{0.75, 0.5});
  CHECK(arm.ci95.low == wilson(2, 4).low);
  CHECK(cells[0].faithfulness == 0.5);
}

TEST_CASE("a number that the samples do not give is found", "[report]") {
  const ReportInput& input = fixture();
  CHECK(disagreements(input.result, input.samples).empty());
  const auto spoiled = [&](auto change) {
    StudyResult result = input.result;
    change(result.cells[5]);
    return disagreements(result, input.samples);
  };
  CHECK(spoiled([](Cell& c) { c.arms[0].exact_match += 0.01; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[0].chain_exact_match += 0.01; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[1].n += 1; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[1].ci95.high += 0.01; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[1].loss_per_token *= 1.001; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[0].position_accuracy[3] -= 0.01; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[0].position_accuracy.pop_back(); }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.faithfulness = 1.5; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.faithfulness.reset(); }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.cell = "unknown"; }).size() == 1);
  CHECK(spoiled([](Cell& c) { c.arms[0].arm = "other"; }).size() == 1);
}

TEST_CASE("every number of the page is in result.json", "[report]") {
  const std::string html = render_report(fixture());
  const std::set<double> known = numbers_of(to_json(fixture().result));
  const std::regex pattern("<data value=\"([^\"]*)\">");
  size_t count = 0;
  for (std::sregex_iterator at(html.begin(), html.end(), pattern), end; at != end; ++at) {
    const double value = std::strtod((*at)[1].str().c_str(), nullptr);
    CAPTURE((*at)[1].str());
    CHECK(known.contains(value));
    ++count;
  }
  // Each cell has a row with nine numbers of its own and at least five for each of its arms.
  CHECK(count > 16 * (9 + 3 * 5));
  for (const Cell& cell : fixture().result.cells) {
    CHECK_THAT(html, ContainsSubstring(cell.cell));
    for (const ArmResult& arm : cell.arms) {
      CHECK_THAT(html, ContainsSubstring(fmt::format("<data value=\"{}\">{}</data>", arm.exact_match,
                                                     share_number(arm.exact_match))));
      CHECK_THAT(html, ContainsSubstring(fmt::format("<data value=\"{}\">", arm.loss_per_token)));
    }
  }
}

TEST_CASE("the page stands alone and shows what it must", "[report]") {
  std::string html = render_report(fixture());
  // The charts carry their numbers if, and only if, the library that draws them is in the page.
  const std::string library(page_text("uplot_script"));
  CHECK(tests::occurrences(html, "<script type=\"application/json\">") == (library.empty() ? 0 : 10));
  if (!library.empty()) {
    const size_t at = html.find(library);
    REQUIRE(at != std::string::npos);
    html.erase(at, library.size());  // it names its home page
    CHECK_THAT(html, ContainsSubstring("Permission is hereby granted"));
  }
  for (const char* outside : {"http://", "https://", "src=", "@import", "url(", "<link"}) {
    CAPTURE(outside);
    CHECK(html.find(outside) == std::string::npos);
  }
  for (const char* part : {"Accuracy against parameters", "Loss per token against parameters",
                           "Accuracy against training compute", "Accuracy against loss", "Accuracy by position",
                           "Training loss", "badge pass", "badge fail", "badge inconclusive", "prefers-color-scheme",
                           "Seeds and learning rates", "What these numbers do not say", "agrees"}) {
    CAPTURE(part);
    CHECK(html.find(part) != std::string::npos);
  }
  // Text of a study never becomes markup.
  CHECK_THAT(html, ContainsSubstring(".38 &lt;of&gt; items &amp; &quot;quotes&quot;"));
  CHECK(html.find("<of>") == std::string::npos);
  CHECK(tests::occurrences(html, "<svg class=\"plot\"") == 10);
  CHECK(tests::occurrences(html, "<figure") == tests::occurrences(html, "</figure>"));
  // Rows of samples: eight items of each arm of the chosen cells, the corrupted chains among them.
  CHECK(tests::occurrences(html, "<tr data-cell=") == 8 * 4 * 8);
  CHECK(!std::regex_search(html, std::regex("\\bnan\\b")));
  CHECK(html.find("inf\"") == std::string::npos);
}

TEST_CASE("a demonstration says what it rests on", "[report]") {
  ReportInput input = fixture();
  StudyResult& result = input.result;
  result.study = "horizon";
  result.demonstration = true;
  for (Claim& one : result.claims) one.demonstration = true, one.seeds = 2;
  const Claim& claim = result.claims[2];
  REQUIRE(claim.verdict == Verdict::kFail);
  CHECK(demonstration_text(result, claim) ==
        fmt::format("{} scale, {} seeds, {} steps", result.scale, claim.seeds, result.cells[0].steps));
  const std::string html = render_report(input);
  CHECK(tests::occurrences(html, "<div class=\"demonstration\"><span class=\"badge") == result.claims.size());
  CHECK(tests::occurrences(html, "Demonstration: ") == 1);  // once a page, with what the verdicts rest on
  CHECK_THAT(html, ContainsSubstring("Demonstration: " + demonstration_text(result, claim)));
  CHECK_THAT(html, ContainsSubstring("not that the build is broken"));
  CHECK_THAT(html, ContainsSubstring("experiments/configs/horizon/reference.toml"));
  // Arithmetic alone: a verdict without training leaves nothing to warn of.
  for (Claim& one : result.claims) one.seeds = 0;
  CHECK(demonstration_text(result, claim) == "no training");
  CHECK(demonstration_note(result).empty());
  for (Claim& one : result.claims) one.demonstration = false;
  CHECK(demonstration_text(result, claim).empty());
  CHECK_FALSE(render_report(input).find("not that the build is broken") != std::string::npos);
}

TEST_CASE("rounded weights are no models of another size", "[report]") {
  StudyResult result = fixture().result;
  const size_t trained = result.cells.size();
  for (size_t i = 0; i < trained; ++i) {
    Cell cell = result.cells[i];
    cell.variant = rounded_variant(3);
    result.cells.push_back(std::move(cell));
  }
  const auto groups = group_by_task(result);
  REQUIRE(groups.size() == 1);
  REQUIRE(groups[0].variants.size() == 2);
  const TaskGroup kept = as_trained(groups[0]);
  CHECK(kept.variants.size() == 1);
  CHECK(kept.cells.size() + kept.others.size() == trained);
  CHECK(accuracy_by_parameters(kept).series.size() == 3);
  for (const char* name : {"int", "intent", "int8x", "f32", ""}) CHECK(!is_rounded_variant(name));
}

TEST_CASE("a model that diverged is named in the table, and is no point of a chart", "[report][diverged]") {
  StudyResult result = fixture().result;
  const auto points = [&] { return accuracy_by_parameters(group_by_task(result)[0]).series[0].marks.size(); };
  const size_t all = points();
  const auto chosen = std::find_if(result.cells.begin(), result.cells.end(), [](const Cell& c) { return c.selected; });
  for (ArmResult& arm : chosen->arms) arm.loss_per_token = std::nan("");
  CHECK(diverged(*chosen));
  CHECK(points() == all - 1);
  const std::string page = render_report({.result = parse_result(to_json(result), "r")});
  CHECK_THAT(page, ContainsSubstring("<td>diverged</td>"));
}

TEST_CASE("a page whose numbers are not those of the samples says so", "[report]") {
  ReportInput input = fixture();
  input.result.cells[1].arms[0].exact_match = 0.123456;
  CHECK_THAT(render_report(input), ContainsSubstring("are not those of samples.jsonl"));
  input.samples.clear();
  CHECK_THAT(render_report(input), ContainsSubstring("could not be checked"));
}

TEST_CASE("arms without a colour of their own can be told apart", "[report]") {
  StudyResult result = fixture().result;
  for (Cell& cell : result.cells)
    for (size_t i = 0; i < cell.arms.size(); ++i) cell.arms[i].arm = fmt::format("{}_shot", i);
  std::set<std::string> colors;
  const Chart chart = accuracy_by_parameters(group_by_task(result)[0]);
  for (const Series& series : chart.series) colors.insert(series.color);
  CHECK(chart.series.size() == 3);
  CHECK(colors.size() == 3);
}

TEST_CASE("every seed is a dot with a whisker", "[report]") {
  const auto groups = group_by_task(fixture().result);
  REQUIRE(groups.size() == 1);
  CHECK(groups[0].cells.size() == 8);
  CHECK(groups[0].others.size() == 8);
  const Chart chart = accuracy_by_parameters(groups[0]);
  REQUIRE(chart.series.size() == 3);
  for (const Series& series : chart.series) {
    CHECK(series.line.size() == 4);
    CHECK(series.marks.size() == 16);
    CHECK(std::count_if(series.marks.begin(), series.marks.end(), [](const Mark& mark) {
            return mark.shape == MarkShape::kDot && mark.low <= mark.y && mark.y <= mark.high;
          }) == 8);
  }
  const auto ranges = band(chart.series[0]);
  REQUIRE(ranges.size() == 4);
  for (const Range& range : ranges) {
    for (const Mark& mark : chart.series[0].marks) {
      if (mark.shape == MarkShape::kFaint || mark.x != range.x) continue;
      CHECK(range.low <= mark.y);
      CHECK(mark.y <= range.high);
    }
  }
  REQUIRE(chart.references.size() == 1);
  CHECK(chart.references[0].y == 0.1);
  CHECK(chart.x.logarithmic);
  CHECK(accuracy_by_position(groups[0]).size() == 2);
}

TEST_CASE("caveats state what was found", "[report]") {
  const auto has = [](const StudyResult& result, const char* part) {
    const auto caveats = derive_caveats(result);
    return std::any_of(caveats.begin(), caveats.end(),
                       [&](const std::string& caveat) { return caveat.find(part) != std::string::npos; });
  };
  StudyResult result = fixture().result;
  CHECK(has(result, "the same 2,073,600 training tokens"));
  CHECK(has(result, "Only 2 learning rates"));
  CHECK(has(result, "2 seeds per size"));
  CHECK(has(result, "no model was trained on direct answers alone"));
  CHECK(has(result, "Guessing scores .100"));
  CHECK_FALSE(has(result, "A single step holds"));
  CHECK_FALSE(has(result, "Seeds disagree"));

  result.cells[9].arms[0].position_accuracy = {1, 0.4, 1, 1, 1, 1, 1, 1};
  CHECK(has(result, "step 2 of cell "));
  result.cells[9].arms[0].exact_match = 0.3;
  CHECK(has(result, "Seeds disagree near a threshold: chain of thought at 7,152 parameters"));
  result.cells[0].tokens *= 2;
  CHECK(has(result, "not compared at equal data"));

  Cell alone = result.cells[9];
  alone.cell = "alone";
  alone.variant = "direct only";
  alone.arms = {*alone.find_arm("direct")};
  alone.flops = result.cells[9].flops * 1.25;
  result.cells.push_back(alone);
  CHECK(has(result, "at least 1.25 times the FLOPs"));
  result.cells.back().flops = result.cells[9].flops * 0.5;
  CHECK(has(result, "as little as 0.50 of the FLOPs"));

  // A third rate for every size: the chosen one then stands inside the grid or at its edge.
  StudyResult wide = fixture().result;
  for (const Cell& cell : fixture().result.cells) {
    if (!cell.selected) continue;
    Cell third = cell;
    third.cell += "_third";
    third.learning_rate *= cell.n_embd == 8 ? 0.7 : 2;
    third.selected = false;
    wide.cells.push_back(third);
  }
  CHECK_FALSE(has(wide, "learning rates per size"));
  CHECK(has(wide, "edge of its grid for 2,040 parameters:"));
  CHECK(derive_caveats(StudyResult{}).empty());
}

TEST_CASE("reports of a directory of studies", "[report]") {
  const tests::Folder scratch;
  CHECK_THROWS_WITH(write_reports(scratch.path()), ContainsSubstring("no result.json"));
  CHECK_THROWS_WITH(write_reports(scratch / "none"), ContainsSubstring("not a directory"));
  write_run(scratch / "one", fixture());
  ReportInput other = fixture();
  other.result.title = "Another study";
  write_run(scratch / "two", other);
  CHECK(write_reports(scratch.path()) == scratch / "report.html");
  const std::string index = tests::slurp(scratch / "report.html");
  CHECK_THAT(index, ContainsSubstring("one/report.html\"") && ContainsSubstring("two/report.html\"") &&
                        ContainsSubstring("Another study") && ContainsSubstring("badge fail") &&
                        ContainsSubstring("Abilities and sizes"));
  // The page from disk is the page from memory, apart from the footer of env.json.
  const std::string page = tests::slurp(scratch / "one" / "report.html");
  CHECK_THAT(page, ContainsSubstring("0123456789ab") && ContainsSubstring("agrees"));
  CHECK(tests::occurrences(page, "<data value=") == tests::occurrences(render_report(fixture()), "<data value="));
  CHECK(write_reports(scratch / "two") == scratch / "two" / "report.html");
}

TEST_CASE("the index leads to its pages whatever their folders are called", "[report]") {
  const tests::Folder scratch;
  const std::pair<const char*, const char*> folders[] = {
      {"a#b", "./a%23b/report.html"},
      {"what?x=1", "./what%3Fx%3D1/report.html"},
      {"50%20off", "./50%2520off/report.html"},
      {"javascript:alert(1)", "./javascript%3Aalert%281%29/report.html"}};
  for (const auto& [name, link] : folders) write_run(scratch / name, fixture());
  write_reports(scratch.path());
  const std::string index = tests::slurp(scratch / "report.html");
  for (const auto& [name, link] : folders) {
    CAPTURE(name);
    CHECK_THAT(index, ContainsSubstring(std::string("href=\"") + link + "\""));
  }
  // No link leads anywhere but to a file beside the page, or down in it.
  for (size_t at = index.find("href=\""); at != std::string::npos; at = index.find("href=\"", at + 1)) {
    const std::string target = index.substr(at + 6, 2);
    CHECK((target == "./" || target[0] == '#'));
  }
}

TEST_CASE("from what size an ability is solved", "[report]") {
  std::vector<StudyResult> results = {fixture().result};
  const auto solved = [&](const char* ability) {
    std::vector<int64_t> sizes;
    for (const MeasuredAbility& found : measured(ability, results)) {
      sizes.push_back(found.solved == nullptr ? 0 : found.solved->parameters);
    }
    return sizes;
  };
  CHECK(solved("chain of thought") == std::vector<int64_t>{7152});
  CHECK(solved("code").empty());
  const std::string section = abilities_section(results, {"one/report.html"});
  CHECK_THAT(section, ContainsSubstring("<data value=\"7152\">7,152</data> parameters") &&
                          ContainsSubstring("not measured in these runs"));

  // A seed that fails at the largest size leaves no size from which on all succeed.
  StudyResult failed = fixture().result;
  for (Cell& cell : failed.cells) {
    if (cell.n_embd == 32 && cell.seed == 1) cell.arms[0].exact_match = 0.9;
  }
  // The same cells as those of another task, asked with its first prompt kind.
  StudyResult named = fixture().result;
  named.study = "emergence";
  for (Cell& cell : named.cells) cell.task = "postfix";
  results = {failed, named};
  CHECK(solved("chain of thought") == std::vector<int64_t>{0});
  CHECK(solved("code") == std::vector<int64_t>{7152});
  CHECK_THAT(abilities_section(results, {"one/report.html", "two/report.html"}),
             ContainsSubstring("not in every seed up to <data value=\"26560\">"));
  // What is asked without a chain says nothing of them, whatever the study is called.
  for (Cell& cell : results[0].cells)
    for (ArmResult& arm : cell.arms)
      if (arm.arm == "cot") arm.arm = "answer";
  CHECK(solved("chain of thought").empty());
}

TEST_CASE("axes and numbers", "[report]") {
  CHECK(short_number(26208) == "26.2k");
  CHECK(short_number(999.9) == "1k");
  CHECK(short_number(588) == "588");
  CHECK(flop_number(83.1e9) == "83.1 GFLOP");
  CHECK(share_number(0.104) == ".104");
  CHECK(share_number(1) == "1.000");
  CHECK(whole_number(1234567) == "1,234,567");
  CHECK(whole_number(123) == "123");
  CHECK(loss_number(0.00012345) == "0.00012");
  const Axis sizes = log_axis("n", {588, 2008, 7088, 26432}, short_number);
  CHECK(sizes.ticks.size() == 4);
  CHECK(sizes.low < 588);
  CHECK(sizes.high > 26432);
  CHECK(loss_axis("l", {0.001, 2.3}).logarithmic);
  const Axis plain = loss_axis("l", {2.1, 2.3});
  CHECK_FALSE(plain.logarithmic);
  CHECK(plain.low == 0);
  CHECK(plain.ticks.size() >= 3);
  CHECK(position_axis("p", 8).ticks.size() == 8);
  CHECK(position_axis("p", 64).ticks.size() <= 13);
}
