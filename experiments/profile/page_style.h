// Style and script of a profile page, beside those of reports (report_style.h). The script sorts
// and filters the table and shows what a kernel was made of; the page is read without it.
#pragma once

#include <string_view>

namespace surtsey::experiments {

extern const std::string_view kProfileStyle;
extern const std::string_view kProfileScript;

}  // namespace surtsey::experiments
