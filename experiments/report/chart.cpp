#include "experiments/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/report/chart_data.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr double kWidth = 560;
constexpr double kHeight = 330;
constexpr double kLeft = 54;
constexpr double kRight = 14;
constexpr double kTop = 12;
constexpr double kBottom = 46;
constexpr double kPlotWidth = kWidth - kLeft - kRight;
constexpr double kPlotHeight = kHeight - kTop - kBottom;

double place(const Axis& axis, double value) {
  if (!axis.logarithmic) return (value - axis.low) / (axis.high - axis.low);
  return (std::log(value) - std::log(axis.low)) / (std::log(axis.high) - std::log(axis.low));
}

double x_of(const Chart& chart, double value) { return kLeft + kPlotWidth * place(chart.x, value); }

double y_of(const Chart& chart, double value) {
  return kTop + kPlotHeight * (1 - std::clamp(place(chart.y, value), 0.0, 1.0));
}

// Keeps labels apart: those nearer than `gap` pixels to the one before are dropped, and so are
// those that would run into it, at `wide` pixels a character.
std::vector<Tick> spaced(const Axis& axis, double pixels, double gap, double wide) {
  std::vector<Tick> kept;
  for (const Tick& tick : axis.ticks) {
    const double at = place(axis, tick.at) * pixels;
    if (at < -0.5 || at > pixels + 0.5) continue;
    const double width =
        kept.empty() ? 0 : wide * static_cast<double>(tick.label.size() + kept.back().label.size() + 2) / 2;
    if (!kept.empty() && at - place(axis, kept.back().at) * pixels < std::max(gap, width)) continue;
    kept.push_back(tick);
  }
  return kept;
}

std::vector<Tick> spaced_x(const Chart& chart) { return spaced(chart.x, kPlotWidth, 34, 7); }
std::vector<Tick> spaced_y(const Chart& chart) { return spaced(chart.y, kPlotHeight, 14, 0); }

std::string grid(const Chart& chart) {
  std::string svg;
  for (const Tick& tick : spaced_y(chart)) {
    const double y = y_of(chart, tick.at);
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"tick\" x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>",
        kLeft, kWidth - kRight, y, kLeft - 8, y + 4, escape_html(tick.label));
  }
  for (const Tick& tick : spaced_x(chart)) {
    const double x = x_of(chart, tick.at);
    svg += fmt::format(
        "<line class=\"notch\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text class=\"tick\" x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>",
        x, kHeight - kBottom, kHeight - kBottom + 4, kHeight - kBottom + 18, escape_html(tick.label));
  }
  svg += fmt::format("<line class=\"axis\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/>", kLeft, kWidth - kRight,
                     kHeight - kBottom);
  svg += fmt::format(
      "<text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>"
      "<text class=\"name\" transform=\"translate(13 {}) rotate(-90)\" "
      "text-anchor=\"middle\">{}</text>",
      kLeft + kPlotWidth / 2, kHeight - 8, escape_html(chart.x.label), kTop + kPlotHeight / 2,
      escape_html(chart.y.label));
  return svg;
}

std::string draw_mark(const Chart& chart, const Mark& mark, const std::string& color, double shift) {
  if (!std::isfinite(mark.x) || !std::isfinite(mark.y)) return "";
  const double x = x_of(chart, mark.x) + shift;
  const double y = y_of(chart, mark.y);
  std::string svg = fmt::format("<g class=\"mark {}\">", color);
  if (!mark.link.empty()) svg += fmt::format("<a href=\"{}\">", escape_html(mark.link));
  if (!mark.tip.empty()) svg += fmt::format("<title>{}</title>", escape_html(mark.tip));
  if (std::isfinite(mark.low) && std::isfinite(mark.high)) {
    const double low = y_of(chart, mark.low);
    const double high = y_of(chart, mark.high);
    svg += fmt::format(
        "<path class=\"whisker\" d=\"M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h5M{3:.1f} "
        "{2:.1f}h5\"/>",
        x, low, high, x - 2.5);
  }
  switch (mark.shape) {
    case MarkShape::kDot:
      svg += fmt::format("<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"/>", x, y);
      break;
    case MarkShape::kDiamond:
      svg += fmt::format("<path class=\"dot\" d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\"/>", x, y - 5);
      break;
    case MarkShape::kFaint:
      svg += fmt::format("<circle class=\"faint\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", x, y);
      break;
  }
  // A larger target for the pointer than the dot itself.
  svg += fmt::format("<circle class=\"hit\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"10\"/>", x, y);
  return svg + (mark.link.empty() ? "</g>" : "</a></g>");
}

std::string draw_series(const Chart& chart, const Series& series, double shift) {
  std::string svg;
  std::string path;
  for (const Range& range : band(series)) {
    path +=
        fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x_of(chart, range.x) + shift, y_of(chart, range.high));
  }
  if (!path.empty()) {
    const std::vector<Range> ranges = band(series);
    for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
      path += fmt::format("L{:.1f} {:.1f}", x_of(chart, range->x) + shift, y_of(chart, range->low));
    }
    svg += fmt::format("<path class=\"band {}\" d=\"{}z\"/>", series.color, path);
    path.clear();
  }
  for (const Point& point : series.line) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
    path +=
        fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x_of(chart, point.x) + shift, y_of(chart, point.y));
  }
  if (!path.empty()) {
    svg += fmt::format("<path class=\"line {}{}\" d=\"{}\"/>", series.color, series.dashed ? " dashed" : "", path);
  }
  for (const Mark& mark : series.marks) svg += draw_mark(chart, mark, series.color, shift);
  return svg;
}

// 1, 2, 5 times a power of ten, so that a span has at most `count` of them.
double round_step(double span, int count) {
  const double raw = span / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * 0.999) return factor * power;
  }
  return 10 * power;
}

std::vector<Tick> decade_ticks(double low, double high, std::string (*unit)(double)) {
  std::vector<Tick> ticks;
  const bool dense = std::log10(high / low) < 2.5;
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double at = factor * power;
      if (at >= low && at <= high && (dense || factor == 1.0)) ticks.push_back({at, unit(at)});
    }
  }
  return ticks;
}

}  // namespace

Axis log_axis(std::string label, const std::vector<double>& values, std::string (*unit)(double)) {
  Axis axis{std::move(label), 1, 10, true, {}};
  std::vector<double> distinct;
  for (const double value : values) {
    if (std::isfinite(value) && value > 0) distinct.push_back(value);
  }
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  if (!distinct.empty()) {
    const double margin = std::max(1.25, std::pow(distinct.back() / distinct.front(), 0.06));
    axis.low = distinct.front() / margin;
    axis.high = distinct.back() * margin;
  }
  if (!distinct.empty() && distinct.size() <= 8) {
    for (const double value : distinct) axis.ticks.push_back({value, unit(value)});
  } else {
    axis.ticks = decade_ticks(axis.low, axis.high, unit);
  }
  return axis;
}

Axis loss_axis(std::string label, const std::vector<double>& values, double span) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) low = 0, high = 1;
  Axis axis{std::move(label), low, high, low > 0 && high / low > span, {}};
  if (axis.logarithmic) {
    axis.low = low / 1.5;
    axis.high = high * 1.5;
    axis.ticks = decade_ticks(axis.low, axis.high, loss_number);
    return axis;
  }
  axis.low = std::min(0.0, low);
  axis.high = high > axis.low ? high + 0.08 * (high - axis.low) : axis.low + 1;
  const double step = round_step(axis.high - axis.low, 5);
  for (double at = std::ceil(axis.low / step) * step; at <= axis.high + step * 1e-9; at += step) {
    axis.ticks.push_back({at, fmt::format("{:.4g}", std::abs(at) < step * 1e-9 ? 0 : at)});
  }
  return axis;
}

Axis share_axis(std::string label) {
  return {std::move(label), 0, 1, false, {{0, "0"}, {0.2, ".2"}, {0.4, ".4"}, {0.6, ".6"}, {0.8, ".8"}, {1, "1"}}};
}

Axis position_axis(std::string label, int count) {
  Axis axis{std::move(label), 0.5, count + 0.5, false, {}};
  const int step = count <= 16 ? 1 : static_cast<int>(round_step(count, 12));
  for (int at = step == 1 ? 1 : step; at <= count; at += step) {
    axis.ticks.push_back({static_cast<double>(at), fmt::to_string(at)});
  }
  return axis;
}

std::vector<Range> band(const Series& series) {
  std::map<double, std::pair<Range, int>> at;
  for (const Mark& mark : series.marks) {
    if (mark.shape == MarkShape::kFaint || !std::isfinite(mark.x) || !std::isfinite(mark.y)) {
      continue;
    }
    auto& [range, count] = at.try_emplace(mark.x, Range{mark.x, mark.y, mark.y}, 0).first->second;
    range.low = std::min(range.low, mark.y);
    range.high = std::max(range.high, mark.y);
    ++count;
  }
  std::vector<Range> ranges;
  for (const Point& point : series.line) {
    const auto found = at.find(point.x);
    if (found != at.end() && found->second.second > 1) ranges.push_back(found->second.first);
  }
  return ranges;
}

std::string to_html(const Chart& chart) {
  std::string html = fmt::format("<figure class=\"chart\"><figcaption><h3>{}</h3>", escape_html(chart.title));
  if (!chart.note.empty()) html += fmt::format("<p>{}</p>", escape_html(chart.note));
  std::string legend;
  for (const Series& series : chart.series) {
    if (series.name.empty()) continue;
    legend += fmt::format(
        "<li><svg width=\"22\" height=\"10\" aria-hidden=\"true\"><path class=\"line {}{}\" "
        "d=\"M1 5H21\"/></svg>{}</li>",
        series.color, series.dashed ? " dashed" : "", escape_html(series.name));
  }
  for (const Reference& reference : chart.references) {
    legend += fmt::format(
        "<li><svg width=\"22\" height=\"10\" aria-hidden=\"true\"><path class=\"reference\" "
        "d=\"M1 5H21\"/></svg>{}</li>",
        escape_html(reference.label));
  }
  if (!legend.empty()) html += fmt::format("<ul class=\"legend\">{}</ul>", legend);
  html += fmt::format("</figcaption><svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth,
                      kHeight, escape_html(chart.title));
  html += grid(chart);
  for (const Reference& reference : chart.references) {
    const double y = y_of(chart, reference.y);
    html += fmt::format("<line class=\"reference\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>", kLeft,
                        kWidth - kRight, y);
  }
  // Neighbouring series step aside by a few pixels so that equal values stay visible.
  std::vector<const Series*> with_whiskers;
  for (const Series& series : chart.series) {
    const bool any =
        std::any_of(series.marks.begin(), series.marks.end(), [](const Mark& mark) { return std::isfinite(mark.low); });
    if (any) with_whiskers.push_back(&series);
  }
  std::vector<double> shifts;
  for (const Series& series : chart.series) {
    const auto at = std::find(with_whiskers.begin(), with_whiskers.end(), &series);
    double shift = 0;
    if (at != with_whiskers.end() && with_whiskers.size() > 1) {
      const double middle = static_cast<double>(with_whiskers.size() - 1) / 2;
      shift = 5 * (static_cast<double>(at - with_whiskers.begin()) - middle);
    }
    shifts.push_back(shift);
    html += draw_series(chart, series, shift);
  }
  html += "</svg>";
  return html + chart_data(chart, spaced_x(chart), spaced_y(chart), shifts) + "</figure>\n";
}

}  // namespace surtsey::experiments
