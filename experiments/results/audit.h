// The same answers under other metrics (E09): is a jump in exact match a jump of the model, or of
// the metric? (Schaeffer et al. 2023; Du et al. 2024.)
//
// Everything comes from result.json and samples.jsonl of runs that are done; nothing is trained.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/results/result.h"

namespace surtsey::experiments {

// One arm of one trained model.
struct AuditRow {
  std::string cell;
  int64_t parameters = 0;
  uint32_t seed = 0;
  double tokens_per_answer = 0;
  double final_answer = 0;      // exact match as its study counts it
  double whole_answer = 0;      // every token right
  double position_product = 0;  // what independent errors would give for the whole answer
  double edit_similarity = 0;   // 1 - token edit distance / longer length, mean over items
  double loss_per_token = 0;    // nats
  // Mean of (1 - p)^2, where p is the probability of the whole right answer: the part of the Brier
  // score that falls to the right answer.
  double brier_right = 0;
};

// Rows of one prompt kind of one kind of model, all sizes and seeds, the smallest size first.
struct AuditSeries {
  std::string name;  // "task, variant, arm", without what is empty
  std::vector<AuditRow> rows;
};

// Least number of insertions, deletions and substitutions of words that make one text the other.
size_t token_edit_distance(const std::string& left, const std::string& right);

// Of the cells that count: learning rate chosen, not for validation only. Arms that only ask
// whether chains are causal are left out.
std::vector<AuditSeries> audit_series(const StudyResult& result, const std::vector<SampleLine>& samples);

// Where the loss of one larger size should fall by a power law (a line in log-log) through the
// smaller half of the sizes, and where it fell.
struct Forecast {
  int64_t parameters = 0;
  Interval expected;
  Interval found;  // least and largest over the seeds
};
// For every size beyond the smaller half. Empty when that half has fewer than two sizes or three
// models, or a loss that is not positive.
std::vector<Forecast> forecast_losses(const AuditSeries& series, double confidence);

// How much of the variance of the whole-answer accuracy a monotone function of the loss explains,
// all sizes and seeds on one axis; the interval by resampling models. No interval ([0, 1]) for
// fewer than four models.
struct LossAxis {
  double explained = 0;
  Interval interval;
};
LossAxis loss_axis(const AuditSeries& series, double confidence, int resamples = 1000);

// One line a row, for spreadsheets.
std::string audit_csv(const std::map<std::string, std::vector<AuditSeries>>& runs);

}  // namespace surtsey::experiments
