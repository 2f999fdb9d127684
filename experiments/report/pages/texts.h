// Texts that the build puts into the program for the pages to carry: pages/report.js and
// pages/plot.js, and uPlot (https://github.com/leeoniya/uPlot, MIT) where the build found it.
#pragma once

#include <string_view>

namespace surtsey::experiments {

// "plot_script", "report_script", "uplot_license", "uplot_script", "uplot_style"; empty when the
// build has none of that name.
std::string_view page_text(std::string_view name);

}  // namespace surtsey::experiments
