#include "experiments/report/figure_chart.h"

#include <fmt/format.h>

#include <cmath>

namespace surtsey::experiments {
namespace {

constexpr size_t kColors = 6;  // of the page

bool drawn(double value, const FigureAxis& axis) { return std::isfinite(value) && (!axis.logarithmic || value > 0); }

Axis make_axis(const FigureAxis& axis, const std::vector<double>& values) {
  if (axis.logarithmic) return log_axis(axis.label, values, short_number);
  return loss_axis(axis.label, values, std::numeric_limits<double>::infinity());
}

}  // namespace

Chart to_chart(const Figure& figure) {
  Chart chart;
  chart.title = figure.title;
  chart.note = figure.note;
  std::vector<double> xs, ys;
  for (size_t i = 0; i < figure.series.size(); ++i) {
    const FigureSeries& from = figure.series[i];
    Series& series = chart.series.emplace_back();
    series.name = from.name;
    const bool ordered = figure.series.size() > kColors;
    series.color = ordered ? fmt::format("s{}", i * 7 / figure.series.size()) : fmt::format("c{}", i);
    series.dashed = from.dashed;
    for (const FigurePoint& point : from.points) {
      if (!drawn(point.x, figure.x) || !drawn(point.y, figure.y)) continue;
      xs.push_back(point.x);
      for (const double y : {point.y, point.low, point.high}) {
        if (drawn(y, figure.y)) ys.push_back(y);
      }
      if (from.joined) series.line.push_back({point.x, point.y});
      if (!from.marks) continue;
      const std::string tip = fmt::format("{}: {:.4g} at {:.4g}", from.name, point.y, point.x);
      series.marks.push_back({point.x, point.y, point.low, point.high, tip});
    }
  }
  for (const auto& [label, y] : figure.references) {
    if (!drawn(y, figure.y)) continue;
    ys.push_back(y);
    chart.references.push_back({y, label});
  }
  if (xs.empty()) return chart;
  chart.x = make_axis(figure.x, xs);
  chart.y = make_axis(figure.y, ys);
  return chart;
}

}  // namespace surtsey::experiments
