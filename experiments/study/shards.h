// A study over processes and machines: its packs as a sweep directory (sweep_directory.h), which is the directory of
// the run at the same time.
//
//   STUDY shard --out DIR ..      writes the plan; `surtsey sweep plan --study STUDY --out DIR ..` is the same
//   STUDY work --out DIR          works off packs, one after the other, that nobody else works on; any number at once,
//                                 also by `surtsey sweep run DIR` and `surtsey sweep submit DIR --slurm`
//   STUDY collect --out DIR       puts the cells and lines of all packs together, judges, and writes the report
//
// Packs are those of a plain run and stand in its order, so what is collected is what a plain run writes.
#pragma once

#include "experiments/study/study.h"
#include "experiments/sweeps/sweep_directory.h"

namespace surtsey::experiments {

// Writes the plan of the packs into the directory, the largest first. `toml` is the resolved configuration.
SweepDirectory shard_study(const Study& study, engine::Device& device, const std::filesystem::path& path,
                           const std::string& toml, bool timing);

// Which packs to work off.
struct ShardChoice {
  int64_t index = -1;  // -1: all
  bool only_failed = false;
};
// A pack that waits for others runs them, or waits for who does. UserError when one failed.
void work_shards(const Study& study, SweepDirectory& directory, engine::Device& device, const ShardChoice& choice,
                 const std::vector<std::string>& command);

// The cells of all packs as a plain run has them, with their lines in the run's directory. UserError while some are
// not finished.
void gather_shards(const Study& study, const SweepDirectory& directory, StudyRun& run);

}  // namespace surtsey::experiments
