#include "experiments/study/curves.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {

Curves::Line& Curves::find(const std::string& name) {
  const auto at = std::find_if(lines_.begin(), lines_.end(), [&](const Line& line) { return line.name == name; });
  return at != lines_.end() ? *at : lines_.emplace_back(Line{name, {}, {}, {}});
}

void Curves::line(const std::string& name, Look look) { find(name).look = look; }

void Curves::add(const std::string& line, double x, double y) {
  if (!std::isnan(y)) find(line).values[x].push_back(y);
}

void Curves::add(const std::string& line, const Cells& cells, const std::function<double(const Cell&)>& x,
                 const Score& y) {
  for (const Cell* cell : without_diverged(cells)) add(line, x(*cell), y.value(*cell));
}

void Curves::add(const std::string& line, const Cells& cells, double x, const Score& y) {
  for (const Cell* cell : without_diverged(cells)) add(line, x, y.value(*cell));
}

void Curves::add(const std::string& line, FigurePoint point) {
  if (!std::isnan(point.y)) find(line).points[point.x] = point;
}

void Curves::reference(const std::string& name, double y) {
  if (!std::isnan(y)) figure_.references.emplace_back(name, y);
}

Figure Curves::figure() const {
  Figure figure = figure_;
  for (const Line& line : lines_) {
    std::map<double, FigurePoint> points = line.points;
    for (const auto& [x, values] : line.values) {
      FigurePoint& point = points[x] = {x, mean(values)};
      if (!line.look.spread || values.size() < 2) continue;
      const Interval interval = t_interval(values);
      point.low = interval.low;
      point.high = interval.high;
    }
    if (points.empty()) continue;
    FigureSeries& series = figure.series.emplace_back();
    series.name = line.name;
    series.marks = line.look.marks;
    series.joined = line.look.joined;
    series.dashed = line.look.dashed;
    for (const auto& [x, point] : points) series.points.push_back(point);
  }
  return figure;
}

}  // namespace surtsey::experiments
