// The fixed parts of a report page: its style sheet (light and dark) and its script (a filter for
// the table of samples; the page is complete without it).
#pragma once

#include <string_view>

namespace surtsey::experiments {

extern const std::string_view kReportStyle;
extern const std::string_view kReportScript;

}  // namespace surtsey::experiments
