// report.html of a run directory: one file that works from disk, without network and without
// script.
//
// It shows the claims with their verdicts, accuracy against parameters and against FLOPs for every
// prompt kind with Wilson intervals, loss against parameters, accuracy against loss, accuracy by
// position, learning rates and seeds, every cell in a table, caveats, and sample answers. All
// numbers come from result.json; they are recomputed from samples.jsonl and the page says whether
// they agree.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/results/record.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

struct ReportInput {
  StudyResult result;
  std::vector<SampleLine> samples;  // empty: no table of samples and no check of the numbers
  std::vector<MetricLine> metrics;  // empty: no training curves
  Facts environment;                // shown in the footer: commit, versions, command
};

// The whole page. Numbers of result.json that the page prints stand in <data value="...">.
std::string render_report(const ReportInput& input);

// Reads result.json, samples.jsonl, metrics.jsonl and env.json of a run directory.
ReportInput load_report_input(const std::filesystem::path& run_directory);

// Writes report.html into a run directory and returns its path.
std::filesystem::path write_report(const std::filesystem::path& run_directory);

// For `surtsey report DIR`. A run directory: its report. A directory of run directories: the report
// of each, then an index report.html over all. Returns the path of the page to open. Throws
// UserError when there is no result.json in DIR or one level below.
std::filesystem::path write_reports(const std::filesystem::path& directory);

}  // namespace surtsey::experiments
