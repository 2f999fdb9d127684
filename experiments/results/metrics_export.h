// metrics.jsonl in the two forms that other programs read: CSV, and TensorBoard event files.
//
//   RUN/metrics.csv                            cell, step, tokens, then a column a metric
//   RUN/events/CELL/events.out.tfevents.surtsey   `tensorboard --logdir RUN/events`
//
// Both are made anew from metrics.jsonl, atomically, so they never say more than it does.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace surtsey::experiments {

// Does nothing where there is no metrics.jsonl. UserError when something cannot be written.
void export_metrics(const std::filesystem::path& run);

// A column a name of a value, in the order of first appearance; cells that lack one are empty.
std::string metrics_csv(const std::vector<MetricLine>& metrics);

// The bytes of an event file: records of (length, masked CRC-32C, protobuf Event, masked CRC-32C),
// the first one the file version, then one Event a line with a scalar for each value, at the time of the line; `now`
// stands for a time that is not known.
std::string event_file(const std::vector<MetricLine>& metrics, double now);

}  // namespace surtsey::experiments
