// Charts that zoom and answer to the pointer: the numbers that a drawing carries, and the script
// that lays a uPlot chart over it (pages/plot.js). Without the library in the build there is
// neither.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "experiments/report/chart.h"

namespace surtsey::experiments {

// A script element with the numbers of a chart, its ticks as the drawing has them, and by how many
// pixels the marks of each series step aside; empty without the library.
std::string chart_data(const Chart& chart, const std::vector<Tick>& x_ticks, const std::vector<Tick>& y_ticks,
                       const std::vector<double>& shifts);

// For the head and for the end of a page that has charts: style sheet and script elements; the
// licence of the library stands in the script.
std::string chart_style();
std::string chart_scripts();

// JSON as it may stand inside a script element: nothing in it looks like markup.
std::string embedded_json(const nlohmann::ordered_json& data);

}  // namespace surtsey::experiments
