#include "experiments/figure.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kColors = 6;  // of the page

// A number or null, JSON's word for what is none.
double number(const Json& json) { return json.is_null() ? kNoValue : json.get<double>(); }

Json axis_json(const FigureAxis& axis) { return {{"label", axis.label}, {"logarithmic", axis.logarithmic}}; }

FigureAxis parse_axis(const Json& json) {
  return {json.at("label").get<std::string>(), json.at("logarithmic").get<bool>()};
}

bool drawn(double value, const FigureAxis& axis) { return std::isfinite(value) && (!axis.logarithmic || value > 0); }

Axis make_axis(const FigureAxis& axis, const std::vector<double>& values) {
  if (axis.logarithmic) return log_axis(axis.label, values, short_number);
  return loss_axis(axis.label, values, std::numeric_limits<double>::infinity());
}

}  // namespace

Json to_json(const Figure& figure) {
  Json series = Json::array();
  for (const FigureSeries& one : figure.series) {
    Json points = Json::array();
    for (const FigurePoint& point : one.points) {
      Json numbers = {point.x, point.y};
      if (std::isfinite(point.low)) numbers.insert(numbers.end(), {point.low, point.high});
      points.push_back(std::move(numbers));
    }
    series.push_back(
        {{"name", one.name}, {"marks", one.marks}, {"joined", one.joined}, {"dashed", one.dashed}, {"points", points}});
  }
  Json references = Json::array();
  for (const auto& [label, y] : figure.references) {
    references.push_back({{"label", label}, {"y", y}});
  }
  return {{"title", figure.title},    {"note", figure.note}, {"x", axis_json(figure.x)},
          {"y", axis_json(figure.y)}, {"series", series},    {"references", references}};
}

Figure parse_figure(const Json& json, std::string_view where) {
  try {
    Figure figure;
    figure.title = json.at("title").get<std::string>();
    figure.note = json.at("note").get<std::string>();
    figure.x = parse_axis(json.at("x"));
    figure.y = parse_axis(json.at("y"));
    for (const Json& one : json.at("series")) {
      FigureSeries& series = figure.series.emplace_back();
      series.name = one.at("name").get<std::string>();
      series.marks = one.at("marks").get<bool>();
      series.joined = one.at("joined").get<bool>();
      series.dashed = one.at("dashed").get<bool>();
      for (const Json& point : one.at("points")) {
        FigurePoint& read = series.points.emplace_back();
        read.x = number(point.at(0));
        read.y = number(point.at(1));
        if (point.size() < 4) continue;
        read.low = number(point.at(2));
        read.high = number(point.at(3));
      }
    }
    for (const Json& line : json.at("references")) {
      figure.references.emplace_back(line.at("label").get<std::string>(), number(line.at("y")));
    }
    return figure;
  } catch (const Json::exception& error) {
    throw UserError(fmt::format("{}: {}", where, error.what()));
  }
}

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
