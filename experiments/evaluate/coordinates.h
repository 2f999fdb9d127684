// The coordinate check (Yang et al. 2022, appendix D.1): how large a typical coordinate of each
// activation is after a few steps of training, against the width.
//
// In a parametrisation whose best learning rate does not move with the width, mean |x| is flat in
// the width at every point of the model, step after step. Where it grows, some width diverges at a
// learning rate that suits a narrower one; where it falls, some layer stops learning.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "experiments/tasks/task.h"
#include "experiments/train/train.h"

namespace surtsey::experiments {

// "embed", "blocks.0" .. "blocks.{L-1}" (the residual stream after them) and "logits".
std::vector<std::string> coordinate_names(const ModelConfig& config);

// Reads coordinates.tokens u32 [N, T]; an output f32 [] for each name: mean |x| over everything.
graph::Program coordinate_program(const Model& model, int64_t rows, int64_t block);

// Trains the members for `steps` optimizer steps and looks at `rows` sequences of the validation
// stream of seed 0: [member][point].
std::vector<std::vector<double>> coordinates_after(engine::Device& device, const Model& model,
                                                   const TrainConfig& config, const tasks::DataSource& source,
                                                   int64_t steps, int32_t rows = 32);

// Slope of the least-squares line through log y against log x. Numbers must be positive.
double log_slope(std::span<const double> x, std::span<const double> y);

}  // namespace surtsey::experiments
