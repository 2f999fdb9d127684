// A sweep as a directory of numbered, hashed specifications, worked off by any number of processes
// on any number of machines that share the directory.
//
//   DIR/sweep.toml            the resolved configuration
//   DIR/packs/003.json        {"index", "hash", "spec", "estimate"}: a pack, the largest first
//   DIR/plan.json             how many packs there are, the hash of all, and whose study they are; written last
//   DIR/runs/003/             the run of a pack: result.json, samples.jsonl, metrics.jsonl (and as
//                             CSV and TensorBoard events), env.json, checkpoints, lock, and
//                             failed.json: {"error", "last", "failures"}, the first cause and the last
//   DIR/result.json, table.csv, table.jsonl     what collect() gathers
//
// The hash of a pack covers its spec, which decides every number of its result on one device and
// driver; the estimate is beside it. A pack is finished when its result carries its hash; a result
// that cannot be read, as it is empty or torn, is none, and the pack is run again. Who works on a
// pack holds a lock on runs/NNN/lock that ends with the process, however it ends.
#pragma once

#include <optional>
#include <set>

#include "experiments/base/folder_lock.h"
#include "experiments/sweeps/sweep_plan.h"

namespace surtsey::experiments {

// Whose packs they are: a study at a scale, or (empty) the keys of `surtsey sweep`.
struct PlannedStudy {
  std::string name, scale;
};

enum class PackState { kWaiting, kRunning, kStopped, kFailed, kFinished };
std::string_view name(PackState state);  // "waiting", ...

class SweepDirectory {
 public:
  // Writes the plan. A directory that holds the same plan is left as it is; UserError when it
  // holds another one.
  static SweepDirectory create(const std::filesystem::path& path, const std::string& toml,
                               const std::vector<SweepPack>& packs, const PlannedStudy& study = {});
  // UserError when there is no plan, or a specification was changed since.
  static SweepDirectory open(const std::filesystem::path& path);

  // Takes a plan and the runs of its packs out of the directory; nothing else that lies there, and nothing where there
  // is no plan. UserError while another process writes to it, or works on a pack.
  static void forget(const std::filesystem::path& path);

  // The resolved configuration of a planned directory.
  static std::filesystem::path config(const std::filesystem::path& path) { return path / "sweep.toml"; }

  const std::filesystem::path& path() const { return path_; }
  const PlannedStudy& study() const { return study_; }
  const std::vector<SweepPack>& packs() const { return packs_; }
  const SweepPack& pack(int64_t index) const;  // UserError out of range
  std::filesystem::path run_path(const SweepPack& pack) const;

  // Stopped: it has a checkpoint and nobody works on it.
  PackState state(const SweepPack& pack) const;
  // Nothing when someone else holds it.
  std::optional<FolderLock> lock(const SweepPack& pack) const;
  bool locked(const SweepPack& pack) const;
  // Of a finished pack. One that cannot be read is none: a warning says so once, and which pack is run again. UserError
  // for that of another specification.
  std::optional<StudyResult> result(const SweepPack& pack) const;
  // What a pack failed of first, and last where that is something else; "" unless it failed.
  std::string failure(const SweepPack& pack) const;

  // Runs a pack that the caller has locked and writes its result; goes on from its newest
  // checkpoint. An exception other than Interrupted is also left in failed.json, beside the first
  // one. `work` is what the pack is, where it is that of a study; checkpoints go where it is told.
  using Work = std::function<PackResult(const std::filesystem::path& checkpoints)>;
  void run(const SweepPack& pack, engine::Device& device, const std::vector<std::string>& command,
           const Work& work = {});

  // Seconds that are left for these packs: what was expected, times how much longer the finished
  // ones took than expected. Nothing before the first is finished, unless plan measured.
  std::optional<double> seconds_left() const;

  // Every finished cell, in the order of the plan.
  StudyResult collect() const;

 private:
  explicit SweepDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
  PlannedStudy study_;
  std::vector<SweepPack> packs_;
  mutable std::set<int64_t> warned_;  // packs whose result cannot be read
};

// One line a cell and arm, no times: two runs of one sweep on one device give the same text.
std::string sweep_table_csv(const StudyResult& result);
std::string sweep_table_jsonl(const StudyResult& result);

}  // namespace surtsey::experiments
