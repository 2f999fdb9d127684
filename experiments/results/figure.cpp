#include "experiments/results/figure.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

// A number or null, JSON's word for what is none.
double number(const Json& json) { return json.is_null() ? kNoValue : json.get<double>(); }

Json axis_json(const FigureAxis& axis) { return {{"label", axis.label}, {"logarithmic", axis.logarithmic}}; }

FigureAxis parse_axis(const Json& json) {
  return {json.at("label").get<std::string>(), json.at("logarithmic").get<bool>()};
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

}  // namespace surtsey::experiments
