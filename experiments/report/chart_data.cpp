#include "experiments/report/chart_data.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "experiments/base/json_text.h"
#include "experiments/report/pages/texts.h"

namespace surtsey::experiments {
namespace {

using nlohmann::ordered_json;

bool has_library() { return !page_text("uplot_script").empty(); }

const char* shape_name(MarkShape shape) {
  switch (shape) {
    case MarkShape::kDot:
      return "dot";
    case MarkShape::kDiamond:
      return "diamond";
    case MarkShape::kFaint:
      return "faint";
  }
  return "dot";
}

ordered_json axis_data(const Axis& axis, const std::vector<Tick>& ticks) {
  ordered_json list = ordered_json::array();
  for (const Tick& tick : ticks) list.push_back({tick.at, tick.label});
  return {{"label", axis.label},
          {"log", axis.logarithmic},
          {"low", axis.low},
          {"high", axis.high},
          {"ticks", std::move(list)}};
}

// Values that are no numbers become null.
ordered_json series_data(const Series& series, double shift) {
  ordered_json line = ordered_json::array();
  for (const Point& point : series.line) {
    if (std::isfinite(point.x)) line.push_back({point.x, point.y});
  }
  ordered_json ranges = ordered_json::array();
  for (const Range& range : band(series)) ranges.push_back({range.x, range.low, range.high});
  ordered_json marks = ordered_json::array();
  for (const Mark& mark : series.marks) {
    if (!std::isfinite(mark.x) || !std::isfinite(mark.y)) continue;
    marks.push_back({mark.x, mark.y, mark.low, mark.high, mark.tip, shape_name(mark.shape), mark.link});
  }
  return {{"name", series.name},     {"color", series.color},     {"dashed", series.dashed},  {"shift", shift},
          {"line", std::move(line)}, {"band", std::move(ranges)}, {"marks", std::move(marks)}};
}

}  // namespace

std::string chart_data(const Chart& chart, const std::vector<Tick>& x_ticks, const std::vector<Tick>& y_ticks,
                       const std::vector<double>& shifts) {
  if (!has_library()) return "";
  ordered_json series = ordered_json::array();
  for (size_t at = 0; at < chart.series.size(); ++at) {
    series.push_back(series_data(chart.series[at], shifts[at]));
  }
  ordered_json references = ordered_json::array();
  for (const Reference& reference : chart.references) {
    references.push_back({reference.y, reference.label});
  }
  return fmt::format("<script type=\"application/json\">{}</script>",
                     embedded_json({{"x", axis_data(chart.x, x_ticks)},
                                    {"y", axis_data(chart.y, y_ticks)},
                                    {"series", std::move(series)},
                                    {"references", std::move(references)}}));
}

std::string chart_style() { return std::string(page_text("uplot_style")); }

std::string chart_scripts() {
  if (!has_library()) return "";
  return fmt::format("<script>/*\n{}*/\n{}</script>\n<script>{}</script>\n", page_text("uplot_license"),
                     page_text("uplot_script"), page_text("plot_script"));
}

std::string embedded_json(const ordered_json& data) {
  const std::string text = json_text(data);
  std::string safe;
  for (const char c : text) safe += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return safe;
}

}  // namespace surtsey::experiments
