// One size of one kind of model in a study: packs over seeds and learning rates.
//
// The learning rate of a size is chosen by the held-out loss of models with a seed of their own,
// which may train for fewer steps. They are never asked a test question and never part of a claim.
#pragma once

#include "experiments/sweeps/pack.h"
#include "experiments/sweeps/study_run.h"

namespace surtsey::experiments {

// Trains and evaluates what is not finished yet, marks the chosen learning rate, and returns it
// (the first of the grid when choose_rate is false). One model configuration: recipe_config().
double run_experiment(StudyRun& run, const SweepOptions& options, const Experiment& experiment);

// Cells that a claim may rest on: of this task and variant, selected, not validation only.
std::vector<const Cell*> claim_cells(const StudyResult& result, std::string_view task, std::string_view variant);

// The models of a run with `save_models` that its result.json holds under this task, variant and
// width (0: the largest), at the chosen learning rate. UserError when there are none.
TrainedModels load_trained_models(const std::filesystem::path& run, std::string_view task, std::string_view variant,
                                  int32_t width);

}  // namespace surtsey::experiments
