// A model of others with a head that classifies texts in place of its own, as transformers has it:
// BertForSequenceClassification, LlamaForSequenceClassification, GPT2ForSequenceClassification, ..
#pragma once

#include "experiments/models/hub/source.h"

#include <string>
#include <vector>

namespace surtsey::experiments::hub {

// One of so many labels in place of the head there is, and of an encoder the pooler below it: new where the model has
// none (Source::is_new()). A head of as many labels stays as it is, unless it is renewed: its labels are to be others.
// UserError: an encoder-decoder.
void give_label_head(Source& source, int64_t labels, bool renew = false);

// What its labels are called, and problem_type; both go into a config.json.
void name_labels(Source& source, std::vector<std::string> names, std::string problem_type);

}  // namespace surtsey::experiments::hub
