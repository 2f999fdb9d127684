// What is preferred to what, as people write it down: one JSON object a line, in TRL's columns.
//
//   {"prompt": "..", "chosen": "..", "rejected": ".."}   two answers to what was asked; each may be a list of messages
//   {"chosen": "..", "rejected": ".."}                   the prompt is what both begin with, by letters or messages
// A number "margin" beside them says by how much, for a model of rewards (Touvron et al. 2023, 2307.09288, equation 2).
#pragma once

#include "experiments/tasks/tuning/rows.h"

#include <string>
#include <string_view>

namespace surtsey::experiments::tasks {

struct PreferenceRow {
  TuningRow chosen, rejected;
  float margin = 0;
  bool same = false;  // both are one answer: there is nothing to prefer
};

// UserError beginning with `where`: columns that are missing or of another type, answers of two kinds, a margin that is
// no finite number, and what tuning_row_of() refuses of either answer.
PreferenceRow parse_preference_row(std::string_view line, const std::string& where);

}  // namespace surtsey::experiments::tasks
