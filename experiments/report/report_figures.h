// From a result to charts and caveats: what the report shows, apart from how the page is put
// together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "experiments/report/chart.h"
#include "experiments/results/record.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

// The cells of one task that count: chosen learning rate, not trained for the choice only.
struct TaskGroup {
  std::string task;                   // "" when the study has one task without a name
  std::vector<const Cell*> cells;     // selected
  std::vector<const Cell*> others;    // learning rates that were not chosen, and the selection seed
  std::vector<std::string> variants;  // in order of appearance
  std::vector<std::string> arms;      // in order of appearance
};

std::vector<TaskGroup> group_by_task(const StudyResult& result);

// Without the cells of rounded weights, which are no models of another size.
TaskGroup as_trained(const TaskGroup& group);

// Product of the position accuracies.
double position_product(const ArmResult& arm);

Chart accuracy_by_parameters(const TaskGroup& group);
// Of the cells that were trained in this run; without series where there are none.
Chart accuracy_by_flops(const TaskGroup& group);
Chart loss_by_parameters(const TaskGroup& group);
// Every cell on the loss axis, the view that cannot be made sharp by the metric alone.
Chart accuracy_by_loss(const TaskGroup& group);
// One chart for each arm of the first variant whose answer has several tokens: exact match beside
// metrics that do not multiply errors.
std::vector<Chart> metrics_by_parameters(const TaskGroup& group);
// One chart for each arm whose answer has several tokens; a line a size, means over seeds.
std::vector<Chart> accuracy_by_position(const TaskGroup& group);
// Training loss of the first seed of each size; no series when the metrics have no "loss".
Chart loss_by_tokens(const TaskGroup& group, const std::vector<MetricLine>& metrics);

// What a reader must keep in mind about these very numbers: budget, learning rates, seeds, bimodal
// seeds, collapsed positions, compute of the direct arm, the metric. Each sentence states what was
// found, not only what could be.
std::vector<std::string> derive_caveats(const StudyResult& result);

}  // namespace surtsey::experiments
