#include "experiments/models/hub/label_head.h"

#include "graph/error.h"

#include <algorithm>

namespace surtsey::experiments::hub {

void give_label_head(Source& source, int64_t labels, bool renew) {
  Config config = source.config();
  check(config.family() != Family::t5, "{}: an encoder-decoder has no head of labels; encoders and decoders have",
        source.path().string());
  if (config.head == Head::classification && config.labels == labels && !renew) return;
  config.head = Head::classification;
  config.labels = labels;
  config.label_names.clear();
  config.problem_type.clear();
  config.architecture.clear();
  const auto there = [&](const std::string& name) {
    const std::vector<Placement>& all = source.placements();
    return std::find_if(all.begin(), all.end(), [&](const Placement& one) { return one.row.name == name; });
  };
  std::vector<Placement> placements;
  for (const TensorRow& row : hugging_face_layout(config)) {
    const auto found = there(row.name);
    if (found != source.placements().end() && !row.name.starts_with("head.")) {
      placements.push_back(*found);
    } else if (row.required) {
      placements.push_back(zero_placement(row));
    }
  }
  source.replace_head(std::move(config), std::move(placements));
}

void name_labels(Source& source, std::vector<std::string> names, std::string problem_type) {
  Config config = source.config();
  ensure(config.head == Head::classification && config.labels == int64_t(names.size()), "[hub] {} names for {} labels",
         names.size(), config.labels);
  config.label_names = std::move(names);
  config.problem_type = std::move(problem_type);
  source.replace_head(std::move(config), source.placements());
}

}  // namespace surtsey::experiments::hub
