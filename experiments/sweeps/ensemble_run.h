// One ensemble: trained, or taken from an earlier run; evaluated as it is and with rounded weights;
// written down as cells. The one training loop of all studies.
#pragma once

#include "experiments/sweeps/pack.h"

namespace surtsey::experiments {

// Where a pack keeps what it writes beside its result.
struct PackFolders {
  // Of saves, until the caller has written the result.
  std::filesystem::path checkpoints;
  // Of the weights of trained models, a folder a cell, which TrainedModels reads; empty: not kept.
  std::filesystem::path models = {};
};

// Trains and evaluates. With `resume` the newest save is gone on from. `selecting`: only the
// held-out loss is computed, never an answer. Throws Interrupted after a signal, with a save made.
PackResult run_pack(engine::Device& device, const SweepOptions& options, const Experiment& experiment,
                    const std::vector<Member>& members, bool selecting, const PackFolders& folders, bool resume);

}  // namespace surtsey::experiments
