// How far a run's models are on the rows that are held out: one way for each kind of rows that `surtsey finetune`,
// `dpo` and `reward` learn.
#pragma once

#include "experiments/align/preference_training.h"
#include "experiments/evaluate/evaluate.h"
#include "experiments/evaluate/label_scores.h"
#include "experiments/tasks/tuning/tuning_source.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace surtsey::experiments::commands {

struct HeldOutResult {
  double loss = 0;
  double measure = 0;                                   // what a run's page has beside it: a share that is right, ..
  std::string sentence;                                 // of the measure, for the log
  std::vector<std::pair<std::string, double>> metrics;  // for metrics.jsonl, beside eval_loss
};

class HeldOut {
 public:
  virtual ~HeldOut() = default;
  // Of the first so many held-out rows, of each member.
  virtual std::vector<HeldOutResult> of(int64_t rows) = 0;
};

// Texts: nats a learned token, and the share of those that is right.
std::unique_ptr<HeldOut> held_out_texts(Evaluator& evaluator, const tasks::TuningSource& source);
// Texts with labels: the problem's loss a text, and its measures.
std::unique_ptr<HeldOut> held_out_labels(LabelProgram& scorer, const tasks::TuningSource& source,
                                         tasks::ProblemType problem);
// Pairs of answers, by log-probabilities beside the reference's, or by the scores of a model of rewards; `rows` are an
// even number.
std::unique_ptr<HeldOut> held_out_pairs(Evaluator& evaluator, const tasks::TuningSource& source,
                                        align::PreferenceObjective objective);
std::unique_ptr<HeldOut> held_out_pairs(LabelProgram& scorer, const tasks::TuningSource& source,
                                        align::PreferenceObjective objective);

// f32 [rows]: what the first member gives to the learned tokens of each row, in the order of the source.
std::vector<float> log_probs_of(Evaluator& evaluator, const tasks::TuningSource& source, tasks::Split split);

}  // namespace surtsey::experiments::commands
