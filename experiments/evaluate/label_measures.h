// How far a head's scores (label_scores.h) are from what texts are labelled with (tasks/tuning/labels.h).
#pragma once

#include "experiments/tasks/tuning/labels.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

// What a text's scores say of its labels: the softmax or each sigmoid, in double; of a regression the scores.
std::vector<double> label_outputs(tasks::ProblemType problem, std::span<const float> scores);

struct LabelMeasures {
  int64_t texts = 0;
  double loss = 0;    // the mean, as it is trained on
  int64_t right = 0;  // single label: texts whose largest score is their label's
  // Several labels, of all texts together: those given and had, given and not had, had and not given; the harmonic
  // mean of precision and recall, 1 where there is nothing to give.
  int64_t hits = 0, wrong = 0, missed = 0;
  double micro_f1 = 0;
  double squared_error = 0;     // regression: the mean
  std::vector<double> pearson;  // regression: of each label; NaN where one side does not vary

  // "24 of 26 right: 92.3 % (75.9 to 97.9 %, Wilson, 95 %)", or what the problem has in its place.
  std::string sentence(tasks::ProblemType problem) const;
  // By the names of metrics: accuracy; micro_f1; mse, pearson (the mean over labels).
  std::vector<std::pair<std::string, double>> named(tasks::ProblemType problem) const;
};
// [n][K] each. Labels with a sigmoid of at least `threshold` are given.
LabelMeasures label_measures(tasks::ProblemType problem, std::span<const std::vector<float>> scores,
                             std::span<const std::vector<float>> labels, double threshold = 0.5);

}  // namespace surtsey::experiments
