// Objectives of pairs at the door that training has for whole sequences (train/train_program.h): rows 2p and 2p + 1 of
// a batch are what is chosen and what is rejected of pair p.
#pragma once

#include "experiments/align/objectives.h"
#include "experiments/train/train_program.h"

#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments::align {

inline constexpr const char* kPreferenceMargin = "rewards/margins";
inline constexpr const char* kPreferenceAccuracy = "rewards/accuracies";

struct PreferenceObjective {
  std::function<Objective(const Sequences&)> function;
  std::vector<std::string> measures;  // their names, TRL's
};

// Of log-probabilities, with the reference's as the one number of a row.
PreferenceObjective dpo_objective(const DpoOptions& options);
// Of a head's one score of each text, with the margin as the label of what is chosen.
PreferenceObjective reward_objective(const RewardOptions& options);

// What such an objective is of numbers that are on the host, in double: rows as Sequences has them, one column each.
struct SequenceNumbers {
  std::vector<double> log_probs, learned, scores, labels, numbers;  // [B], or empty
};
struct MeasuredObjective {
  double loss = 0;
  std::vector<double> measures;
};
MeasuredObjective measured(const PreferenceObjective& objective, const SequenceNumbers& rows);

}  // namespace surtsey::experiments::align
