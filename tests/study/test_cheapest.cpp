// The way that costs least, and maps of it: choices by hand, JSON and back, what a page shows.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include "experiments/report/grid_table.h"
#include "experiments/study/cheapest.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

namespace {

// Reading costs at each use, training once: they cross at 1000 uses.
std::vector<WayCost> crossing() { return {{"read", 0, .011}, {"train", 10, .001}, {"guess", 0, 0, false}}; }

Grid crossing_map() {
  Grid map{"Which way", "a <note>", "uses", "what"};
  const std::vector<Situation> situations = {{"facts", crossing()}, {"nothing", {{"guess", 0, 0, false}}}};
  const std::vector<double> uses = {1, 1e6};
  fill_map(map, situations, uses, "none");
  return map;
}

}  // namespace

TEST_CASE("cheapest: update and use, among those that reach", "[study]") {
  CHECK(cheapest(crossing(), 1) == 0);
  CHECK(cheapest(crossing(), 999) == 0);
  CHECK(cheapest(crossing(), 1001) == 1);
  CHECK(cheapest(std::vector<WayCost>{{"guess", 0, 0, false}}, 1) == -1);
  CHECK(short_seconds(.0031) == "3.1 ms");
  CHECK(short_seconds(12) == "12 s");
  CHECK(short_seconds(240) == "4 min");
  CHECK(short_seconds(9000) == "2.5 h");
}

TEST_CASE("cheapest: a map names its ways, and is the same from JSON", "[study]") {
  const Grid map = crossing_map();
  CHECK(map.columns == std::vector<std::string>{"1", "1M"});
  CHECK(map.groups == std::vector<std::string>{"read", "train", "guess"});
  CHECK(map.entries[0][0].text == "read: 11 ms");
  CHECK(map.entries[0][0].group == 0);
  CHECK(map.entries[0][1].text == "train: 17 min");
  CHECK(map.entries[0][1].group == 1);
  CHECK(map.entries[1][0].text == "none");
  CHECK(map.entries[1][0].group == -1);
  const Grid again = parse_grid(to_json(map), "a file");
  CHECK(to_json(again) == to_json(map));
  const std::string html = to_html(again);
  CHECK_THAT(html, ContainsSubstring("a &lt;note&gt;"));
  CHECK_THAT(html, ContainsSubstring("<td class=\"way c1\">train: 17 min</td>"));
  CHECK_THAT(html, ContainsSubstring("<td>none</td>"));
}

TEST_CASE("grids: entries that do not fit are refused by name", "[study]") {
  auto json = to_json(crossing_map());
  json["entries"][0].erase(0);
  CHECK_THROWS_WITH(parse_grid(json, "grids[0]"), ContainsSubstring("grids[0]: 1 entries in a row, there are 2"));
  json = to_json(crossing_map());
  json["entries"][0][0]["group"] = 7;
  CHECK_THROWS_WITH(parse_grid(json, "grids[0]"), ContainsSubstring("an entry of group 7, there are 3"));
  json.erase("rows");
  CHECK_THROWS_WITH(parse_grid(json, "grids[0]"), ContainsSubstring("rows"));
}
