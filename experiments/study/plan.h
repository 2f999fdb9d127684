// What a study would train and what that would cost, before anything is trained:
//
//   build/experiments/STUDY plan --scale full
//
// Parameters, floating-point operations and memory come from the plans of the training programs.
// Time is measured: a few steps of a small and of a large pack on the device, from which the
// others follow as a time a step and a rate. Evaluation is not in these numbers.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/study.h"

namespace surtsey::experiments {

struct PackPlan {
  std::string cell;        // the first of the pack
  size_t models = 0;       // in one ensemble
  bool selecting = false;  // to choose a learning rate
  int64_t steps = 0;
  PackCost cost;
  double expected_seconds = 0;  // of training; 0: nothing of the study could be measured
};

struct StudyPlan {
  std::vector<PackPlan> packs;        // in the order of the run
  std::vector<std::string> left_out;  // what the device leaves out, and why
  std::string timing;                 // what the expected seconds rest on

  double flops() const;
  double seconds() const;
  int64_t cells() const;
  uint64_t most_bytes() const;  // of the largest pack; packs run one after the other
};

// The packs of a study's experiments on this device. Its keys must be set and checked.
std::vector<PlannedPack> packs_of(const Study& study, const engine::DeviceInfo& device,
                                  std::vector<std::string>* left_out = nullptr);

// What each pack costs, those that cost the same compiled once.
std::vector<PackCost> costs_of(const std::vector<PlannedPack>& packs, const graph::Target& target);

// Without timing nothing runs on the device.
StudyPlan plan_study(const Study& study, engine::Device& device, bool timing = true);

// A table with totals.
std::string plan_text(const StudyPlan& plan, const engine::DeviceInfo& device);

}  // namespace surtsey::experiments
