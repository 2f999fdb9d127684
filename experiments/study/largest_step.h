// The training step of a study's largest cell, for those who look at kernels rather than at abilities.
#pragma once

#include "experiments/kernels/analysis_run.h"
#include "experiments/profile/run.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {

// The step with the most arithmetic of all that the study would run. UserError: it would train nothing.
PackStep largest_step(engine::Device& device, const Study& study);

// run_profile() of that step, with the batches it would see.
void profile_pack_step(engine::Device& device, const PackStep& step, const ProfileRequest& request);
// run_analysis() of it.
void analyze_pack_step(const PackStep& step, const AnalysisRequest& request);

}  // namespace surtsey::experiments
