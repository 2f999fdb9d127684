// A table that a study draws of its own, as data: part of result.json, drawn by the report. Its entries may be coloured
// by the group that they are of: a map that says which of several ways stands where.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

struct GridEntry {
  std::string text;
  int32_t group = -1;  // index into Grid::groups; -1: of none
};

struct Grid {
  std::string title;
  std::string note;          // a sentence or two: how to read it
  std::string across, down;  // what columns and rows are; may be empty
  std::vector<std::string> columns = {};
  std::vector<std::string> rows = {};
  std::vector<std::vector<GridEntry>> entries = {};  // [rows][columns]
  std::vector<std::string> groups = {};              // a colour each, explained in a legend
};

nlohmann::ordered_json to_json(const Grid& grid);
// UserError naming `where` when a key is missing, of the wrong type, or entries are not those of rows and columns.
Grid parse_grid(const nlohmann::ordered_json& json, std::string_view where);

}  // namespace surtsey::experiments
