// The directory of one run:
//
//   config.toml     the resolved configuration
//   env.json        device, driver, versions, commit, command line
//   metrics.jsonl   one line per logging interval and cell; metrics.csv and events/ say the same
//   samples.jsonl   one line per evaluated item
//   result.json     what the study found (result.h); written last, atomically
//
// Whole files are replaced atomically (base/file.h). Lines are appended by flush() in one write and synced, so a killed
// run loses what came after the last flush and at most tears its last line. Errors are UserErrors that name the path
// and the reason.
//
// A directory has one writer: it holds DIR/lock (base/folder_lock.h) for as long as the RunDirectory lives.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/base/file.h"
#include "experiments/base/folder_lock.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

// Seconds since the epoch.
double wall_time();

// One line of metrics.jsonl: {"cell", "step", "tokens", then the values by name, "time"}. A value that is not finite
// stands there as null.
struct MetricLine {
  std::string cell;
  int64_t step = 0;
  int64_t tokens = 0;
  std::vector<std::pair<std::string, double>> values;  // "loss", "grad_norm", "learning_rate", ...
  double time = wall_time();                           // when the line came about; 0 where no file says it
};

std::string to_json_line(const MetricLine& metric);
// Throws UserError naming `source`.
MetricLine parse_metric(std::string_view line, std::string_view source);
// Every complete line; none where there is no file. A line that cannot be read (a crash may leave zeros) is left out
// with a warning that names it.
std::vector<MetricLine> load_metrics(const std::filesystem::path& path);

// For a run that goes on: drops the lines of FOLDER/metrics.jsonl that it does again. Those are of steps after `step`,
// and for evaluations (lines that have the value `evaluation`) after `asked`.
void forget_metrics_after(const std::filesystem::path& folder, int64_t step, int64_t asked,
                          std::string_view evaluation);

// Content of env.json.
struct Environment {
  Facts device;    // name, type, driver, api version, ...
  Facts host;      // cpu, cores, memory, system
  Facts versions;  // surtsey, shader compiler, ...
  std::string commit;
  std::vector<std::string> command;
};

class RunDirectory {
 public:
  enum class Mode {
    kFresh,    // throws UserError if the directory already holds a result or lines of a run
    kReplace,  // drops the lines and the result of an earlier run
    kResume,   // keeps them; see keep_only
  };

  // Creates the directory and its parents, takes its lock (UserError when another process has it) and proves that it
  // can be written. What a killed writer left half done goes.
  RunDirectory(std::filesystem::path directory, Mode mode);
  // Flushes; an error here is reported on stderr, as a destructor cannot throw, and in the exit status.
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return directory_; }

  void write_config(std::string_view toml);
  void write_environment(const Environment& environment);

  void append(const MetricLine& metric);
  void append(const SampleLine& sample);
  // Writes and syncs what was appended.
  void flush();

  // For a resumed sweep: keeps only the lines of these cells, which are done; the others run again.
  void keep_only(const std::vector<std::string>& cells);

  // Flushes, makes metrics.csv and the event files (metrics_export.h), then replaces result.json.
  void write_result(const StudyResult& result);

 private:
  std::filesystem::path directory_;
  FolderLock lock_;
  std::string metrics_;  // lines not yet on disk
  std::string samples_;
};

}  // namespace surtsey::experiments
