// Whether every model of a study trains on this device at all:
//
//   build/experiments/STUDY try --scale paper
//
// One model of each kind that the study would train, of each size, takes three steps of one
// sequence. Its plan at the batch of the study is not allocated; `plan` says what that takes.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/study.h"

namespace surtsey::experiments {

inline constexpr int32_t kTrySteps = 3;

struct ModelTry {
  std::string cell;  // the first that has this model
  int64_t parameters = 0;
  uint64_t bytes = 0;          // of training, one model and one sequence
  double seconds = 0;          // of the steps
  std::vector<double> losses;  // of each step
};

// The options of the study must be set and checked. UserError for a loss that is not finite.
std::vector<ModelTry> try_study(const Study& study, engine::Device& device);

std::string try_text(const std::vector<ModelTry>& models);

}  // namespace surtsey::experiments
