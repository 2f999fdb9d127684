// OUT/labels.json beside an adapter: {"id2label": {"0": ".."}, "problem_type": ".."}. As transformers has them in a
// model's configuration; PEFT's files have no place for them.
#pragma once

#include "experiments/models/hub/config.h"
#include "experiments/tasks/tuning/labels.h"

#include <filesystem>
#include <string>
#include <vector>

namespace surtsey::experiments::commands {

void write_labels(const std::filesystem::path& folder, const tasks::LabelSet& labels);
// UserError: it is not there, or says something else.
tasks::LabelSet read_labels(const std::filesystem::path& folder);
// The same of a model with a head of labels, by its config.json; where that says nothing, as transformers does.
tasks::LabelSet labels_of_model(const hub::Config& config);

// Whether these are LABEL_0, LABEL_1, ..: what transformers calls labels that nobody named.
bool has_default_names(const std::vector<std::string>& names);

}  // namespace surtsey::experiments::commands
