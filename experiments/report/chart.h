// Charts as inline SVG: no script, no fonts, no network. Colours are CSS classes of the page
// (report_style.h), so one drawing serves the light and the dark theme. Where the build found uPlot
// a chart carries its numbers too, and pages/plot.js lays a chart over the drawing that zooms.
#pragma once

#include "experiments/base/numbers.h"
#include "experiments/report/html.h"
#include "experiments/results/figure.h"

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

struct Tick {
  double at = 0;
  std::string label;
};

struct Axis {
  std::string label;
  double low = 0;
  double high = 1;
  bool logarithmic = false;
  std::vector<Tick> ticks;
};

enum class MarkShape { kDot, kDiamond, kFaint };

// One measurement. Whiskers are drawn where low and high are numbers.
struct Mark {
  double x = 0;
  double y = 0;
  double low = kNoValue;
  double high = kNoValue;
  std::string tip;  // shown by the browser when the pointer rests on the mark
  MarkShape shape = MarkShape::kDot;
  std::string link = {};  // where a click leads, or empty
};

struct Point {
  double x = 0;
  double y = 0;
};

struct Series {
  std::string name;   // in the legend; none if empty
  std::string color;  // CSS class: "c0" .. "c5" for kinds, "s0" .. "s6" for an ordered size
  bool dashed = false;
  std::vector<Point> line;
  std::vector<Mark> marks;
};

// A horizontal line, explained in the legend: chance, a bound, the entropy of guessing.
struct Reference {
  double y = 0;
  std::string label;
};

struct Chart {
  std::string title;
  std::string note;  // one sentence below the title: how to read it
  Axis x;
  Axis y;
  std::vector<Series> series;
  std::vector<Reference> references;
};

// Ticks of the given values where they are few enough to be labelled, else of round numbers; a
// margin is added on both sides. Values must be positive. `unit` formats a value.
Axis log_axis(std::string label, const std::vector<double>& values, std::string (*unit)(double));
// Round ticks around the values, logarithmic when they are positive and span more than `span`.
Axis loss_axis(std::string label, const std::vector<double>& values, double span = 20);
// 0 to 1.
Axis share_axis(std::string label);
// 1 .. count, one tick each where they fit.
Axis position_axis(std::string label, int count);

// The lowest and the highest mark of a series at the same x, for every x of its line with two marks
// or more; faint marks do not count. What the chart draws as a band: the range of the seeds.
struct Range {
  double x = 0;
  double low = 0;
  double high = 0;
};
std::vector<Range> band(const Series& series);

// <figure> with title, note, legend and drawing.
std::string to_html(const Chart& chart);

}  // namespace surtsey::experiments
