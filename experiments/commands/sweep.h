// `surtsey sweep`: plan, run, status, collect, submit.
//
// All throw UserError on bad input. A sweep is a directory (sweep_directory.h); any number of
// processes may run it at once, on machines that share it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace surtsey::experiments::commands {

// Prints cells, parameters, FLOPs, memory and expected time, and writes the directory.
struct SweepPlanOptions {
  std::string study;  // --study: the packs of this study, which its own program plans; empty: the keys of a sweep
  std::string scale = "quick";  // of the study
  std::string file;             // SWEEP.toml; empty: keys alone
  std::string directory;        // --out
  std::string device;           // index, name or UUID: packs are cut for it and measured on it
  bool measure = true;          // a few steps of the largest and the smallest pack
  std::vector<std::string> keys;
};
void sweep_plan(const SweepPlanOptions& options);
std::string sweep_help();  // the keys with their defaults

// Runs one pack, or all that are not finished, the largest first. What is finished never runs
// again; what was stopped goes on from its checkpoint. With several devices a process each.
struct SweepRunOptions {
  std::string directory;
  int64_t index = -1;  // --index; -1: all
  bool all = false;
  bool only_failed = false;
  std::vector<std::string> devices;  // empty: the one that would be chosen
  std::vector<std::string> command;  // as it was called
};
void sweep_run(const SweepRunOptions& options);

// One line a pack, and the time that is left.
struct SweepStatusOptions {
  std::string directory;
  bool json = false;
};
void sweep_status(const SweepStatusOptions& options);

// Writes result.json, table.csv and table.jsonl of what is finished, and prints the table.
void sweep_collect(const std::string& directory);

// Writes DIR/slurm/job.sh, an array job with a task for every pack that is not finished, and hands
// it to sbatch unless `dry`. Packs from 1000 on are arrays of their own (job-1000.sh, ..), as Slurm
// bounds the number of a task. A task that Slurm signals saves, and asks to be queued again.
struct SweepSubmitOptions {
  std::string directory;
  bool slurm = false;
  bool dry = false;
  int64_t most = 0;                // tasks at once; 0: as many as there are
  std::string time;                // --time of sbatch
  std::string partition;           // --partition of sbatch
  std::vector<std::string> extra;  // more options, a #SBATCH line each: "--gres=gpu:1", "--comment=two words"
};
void sweep_submit(const SweepSubmitOptions& options);

}  // namespace surtsey::experiments::commands
