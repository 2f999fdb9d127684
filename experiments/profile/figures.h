// The figures of a profile page as SVG; a click on a mark leads to its kernel (#kernel-N, N being
// the place of its row).
#pragma once

#include <string>

#include "experiments/profile/profile.h"

namespace surtsey::experiments {

// CSS class of a phase, in every figure and table.
std::string phase_color(graph::Phase phase);

// GFLOP/s over arithmetic intensity under the measured roofs; kernels without arithmetic are left
// out.
std::string roofline_figure(const Profile& profile);

// One replay of each mode on one axis, with the memory that is alive.
std::string timeline_figure(const Profile& profile);

// Area is isolated time: model scopes, inside them what they hold, by phase. Squarified: Bruls,
// Huizing, van Wijk, "Squarified Treemaps" (2000).
std::string treemap_figure(const Profile& profile);

struct Rectangle {
  double x = 0, y = 0, width = 0, height = 0;
};
// Rectangles of the given areas (descending, their sum the area of `all`) that fill `all`, as
// square as they come.
std::vector<Rectangle> squarify(const std::vector<double>& areas, const Rectangle& all);

}  // namespace surtsey::experiments
