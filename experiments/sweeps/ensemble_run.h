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

// One pack to run. References are to what outlives the call.
struct PackRequest {
  const SweepOptions& options;
  const Experiment& experiment;
  std::vector<Member> members;
  PackFolders folders;
  const TrainedModels* start = nullptr;  // training begins with the weights of these, each seed with its own
  bool selecting = false;                // only the held-out loss is computed, never an answer
  bool resume = false;                   // the newest save is gone on from
};

// Trains and evaluates. Throws Interrupted after a signal, with a save made. Models that all diverge are evaluated as
// they are when that is found, with a warning: a learning rate that is too large is a finding of a sweep.
PackResult run_pack(engine::Device& device, const PackRequest& request);

}  // namespace surtsey::experiments
