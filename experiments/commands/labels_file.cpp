#include "experiments/commands/labels_file.h"

#include "experiments/base/file.h"
#include "experiments/formats/strict_json.h"
#include "graph/error.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

constexpr const char* kLabelsFile = "labels.json";

// transformers' choice where nothing is said of it.
tasks::ProblemType usual_problem(size_t labels) {
  return labels == 1 ? tasks::ProblemType::regression : tasks::ProblemType::single_label;
}

}  // namespace

void write_labels(const std::filesystem::path& folder, const tasks::LabelSet& labels) {
  nlohmann::json names = nlohmann::json::object();
  for (size_t i = 0; i < labels.names.size(); ++i) names[std::to_string(i)] = labels.names[i];
  write_file_atomic(folder / kLabelsFile,
                    nlohmann::json({{"id2label", names}, {"problem_type", name(labels.problem)}}).dump() + "\n");
}

tasks::LabelSet read_labels(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kLabelsFile;
  const std::string file = path.string();
  check(std::filesystem::exists(path),
        "{}: is not there; `surtsey finetune` with num_labels writes it beside the adapter", file);
  const nlohmann::json object = parse_strict_json(read_file(path), file, 3);
  const bool has = object.contains("id2label") && object["id2label"].is_object() && !object["id2label"].empty();
  check(has, "{}: has no id2label, an object of labels' names by number", file);
  tasks::LabelSet labels;
  for (size_t i = 0; i < object["id2label"].size(); ++i) {
    const auto label = object["id2label"].find(std::to_string(i));
    check(label != object["id2label"].end() && label->is_string(), "{}: id2label has no name for {} of its {} labels",
          file, i, object["id2label"].size());
    labels.names.push_back(label->get<std::string>());
  }
  const bool said = object.contains("problem_type") && object["problem_type"].is_string();
  labels.problem =
      said ? tasks::parse_problem_type(object["problem_type"].get<std::string>()) : usual_problem(labels.names.size());
  return labels;
}

tasks::LabelSet labels_of_model(const hub::Config& config) {
  tasks::LabelSet labels{.names = config.label_names};
  for (int64_t i = labels.count(); i < config.labels; ++i) labels.names.push_back(fmt::format("LABEL_{}", i));
  labels.problem =
      config.problem_type.empty() ? usual_problem(labels.names.size()) : tasks::parse_problem_type(config.problem_type);
  return labels;
}

bool has_default_names(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] != fmt::format("LABEL_{}", i)) return false;
  return true;
}

}  // namespace surtsey::experiments::commands
