// From a list of experiments to packs, and from packs to cells. Plan, try, profile, analysis, run and shards of a study
// all read the same list.
//
// The learning rate of a size is chosen by the held-out loss of models with a seed of their own, which may train for
// fewer steps. They are never asked a test question and never part of a claim. A pack whose learning rate another
// experiment chooses (Experiment::rate_of, budgets) is in the list like any other, and says which packs it waits for.
#pragma once

#include <span>

#include "experiments/sweeps/pack.h"
#include "experiments/sweeps/study_run.h"

namespace surtsey::experiments {

// Of a run with `save_models`: the weights of CELL in models/CELL.
inline constexpr const char* kModelsFolder = "models";

struct PlannedPack {
  Experiment experiment;
  std::vector<Member> members;
  bool selecting = false;  // to choose a learning rate
  // Its learning rate is the one that these packs of the list choose, out of `rates`; until they are done, the first.
  std::vector<size_t> chosen_by;
  std::vector<double> rates;
  // It begins with, or rests on, the models that these packs of the list train (Experiment::origin): `origin` once they
  // are done.
  std::vector<size_t> origin_packs;
  std::vector<double> origin_rates;
  std::vector<Cell> origin;
  bool kept = false;  // its models are the origin of others

  std::vector<size_t> waits_for() const;
  std::string name() const { return cell_name(experiment, members.front()); }  // of its first cell
  std::vector<std::string> cells() const;
  bool counts() const { return experiment.steps > 0; }  // whether a plan lists it
};

// The packs of the experiments, in their order; what this device leaves out is told in `left_out`, where given. Models
// that another run trained are not looked for: see with_trained_models().
std::vector<PlannedPack> packs_of(std::span<const Experiment> experiments, const SweepOptions& options,
                                  const engine::DeviceInfo& device, std::vector<std::string>* left_out = nullptr);

// The models of a run with `save_models` that its result.json holds under this task, variant and width (0: the
// largest), at the chosen learning rate. UserError when there are none.
TrainedModels load_trained_models(const std::filesystem::path& run, std::string_view task, std::string_view variant,
                                  int32_t width);

// The experiments, with those that ask models of another run told their seeds, steps and rates. UserError when that run
// did not keep them.
std::vector<Experiment> with_trained_models(std::vector<Experiment> experiments);

// Tells a pack that waited for others what it takes of their cells: the learning rate, and the models that are its
// origin.
void take_from(PlannedPack& pack, std::span<const Cell> cells);

// Trains and asks, or does what the experiment does instead. Models that are kept lie in models/ of `run`; with
// `resume` the newest checkpoint is gone on from.
PackResult run_planned(engine::Device& device, const SweepOptions& options, const PlannedPack& pack,
                       const std::filesystem::path& checkpoints, const std::filesystem::path& run, bool resume);

// Runs every pack that the run has not finished, then marks the cells of the learning rates that were chosen.
void run_packs(StudyRun& run, const SweepOptions& options, const std::vector<PlannedPack>& packs);

// Marks the cells of the learning rates that were chosen, when all are done.
void mark_chosen(std::vector<Cell>& cells, const std::vector<PlannedPack>& packs);

}  // namespace surtsey::experiments
