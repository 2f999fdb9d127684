// A study's own figure as a chart of the page.
#pragma once

#include "experiments/report/chart.h"
#include "experiments/results/figure.h"

namespace surtsey::experiments {

Chart to_chart(const Figure& figure);

}  // namespace surtsey::experiments
