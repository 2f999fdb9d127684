// A chart that a study draws of its own, as data: part of result.json, drawn by the report.
//
// Every report shows accuracy and loss against size. A study whose finding is another curve (an
// envelope of losses, a coordinate check) adds figures in Study::describe(), from the numbers of
// its cells alone.
#pragma once

#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace surtsey::experiments {

inline constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

struct FigurePoint {
  double x = 0;
  double y = 0;
  double low = kNoValue;  // an interval of y, or none
  double high = kNoValue;
};

struct FigureSeries {
  std::string name;
  std::vector<FigurePoint> points;
  bool marks = true;   // a dot each
  bool joined = true;  // a line through them, in their order
  bool dashed = false;
};

struct FigureAxis {
  std::string label;
  bool logarithmic = false;  // values that are not positive are left out
};

struct Figure {
  std::string title;
  std::string note;  // one sentence: how to read it
  FigureAxis x;
  FigureAxis y;
  std::vector<FigureSeries> series;
  std::vector<std::pair<std::string, double>> references = {};  // horizontal lines
};

nlohmann::ordered_json to_json(const Figure& figure);
// UserError naming `where` when a key is missing or of the wrong type.
Figure parse_figure(const nlohmann::ordered_json& json, std::string_view where);

}  // namespace surtsey::experiments
