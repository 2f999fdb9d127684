// The style sheet of a report page, light and dark.
#pragma once

#include <string_view>

namespace surtsey::experiments {

extern const std::string_view kReportStyle;

}  // namespace surtsey::experiments
