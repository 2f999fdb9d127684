#include "experiments/results/grid.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

Json to_json(const Grid& grid) {
  Json entries = Json::array();
  for (const auto& row : grid.entries) {
    Json& own = entries.emplace_back(Json::array());
    for (const GridEntry& one : row) {
      own.push_back(one.group < 0 ? Json(one.text) : Json{{"text", one.text}, {"group", one.group}});
    }
  }
  return {{"title", grid.title},     {"note", grid.note}, {"across", grid.across}, {"down", grid.down},
          {"columns", grid.columns}, {"rows", grid.rows}, {"entries", entries},    {"groups", grid.groups}};
}

Grid parse_grid(const Json& json, std::string_view where) {
  Grid grid;
  try {
    grid.title = json.at("title").get<std::string>();
    grid.note = json.at("note").get<std::string>();
    grid.across = json.at("across").get<std::string>();
    grid.down = json.at("down").get<std::string>();
    grid.columns = json.at("columns").get<std::vector<std::string>>();
    grid.rows = json.at("rows").get<std::vector<std::string>>();
    grid.groups = json.at("groups").get<std::vector<std::string>>();
    for (const Json& row : json.at("entries")) {
      auto& own = grid.entries.emplace_back();
      for (const Json& one : row) {
        GridEntry& entry = own.emplace_back();
        entry.text = (one.is_string() ? one : one.at("text")).get<std::string>();
        if (!one.is_string()) entry.group = one.at("group").get<int32_t>();
      }
    }
  } catch (const Json::exception& error) {
    throw UserError(fmt::format("{}: {}", where, error.what()));
  }
  check(grid.entries.size() == grid.rows.size(), "{}: {} rows of entries, there are {} rows", where,
        grid.entries.size(), grid.rows.size());
  for (const auto& row : grid.entries) {
    check(row.size() == grid.columns.size(), "{}: {} entries in a row, there are {} columns", where, row.size(),
          grid.columns.size());
    for (const GridEntry& one : row)
      check(one.group < int32_t(grid.groups.size()), "{}: an entry of group {}, there are {}", where, one.group,
            grid.groups.size());
  }
  return grid;
}

}  // namespace surtsey::experiments
