// A study's own table as part of its page: <figure> with title, note, legend and table.
#pragma once

#include "experiments/results/grid.h"

#include <string>

namespace surtsey::experiments {

std::string to_html(const Grid& grid);

}  // namespace surtsey::experiments
