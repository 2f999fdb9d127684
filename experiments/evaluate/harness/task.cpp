#include "experiments/evaluate/harness/task.h"

#include "experiments/base/config.h"
#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/base/utf8.h"
#include "experiments/evaluate/harness/metrics.h"
#include "experiments/formats/strict_json.h"
#include "graph/error.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kOutputTypes = {"loglikelihood", "multiple_choice", "generate_until",
                                                          "loglikelihood_rolling"};
constexpr double kMostAnswerTokens = 1 << 20;
constexpr int kMostDepth = 32;  // of an item's lists and objects

// What the fields of items are called where nobody says otherwise.
struct UsualFields {
  OutputType type;
  const char *text, *target, *choice;
};
constexpr std::array<UsualFields, 4> kUsual = {{{OutputType::multiple_choice, "question", "answer", "choices"},
                                                {OutputType::loglikelihood, "context", "continuation", ""},
                                                {OutputType::generate_until, "question", "answer", ""},
                                                {OutputType::loglikelihood_rolling, "", "text", ""}}};

struct TaskKeys {
  std::string type, dataset, fewshot_dataset;
  ConfigTable table;

  explicit TaskKeys(EvalTask& task) {
    table.add("task", &task.name, "what results call it; the file's name");
    table.add("dataset", &dataset, "file of items, an object a line; beside this file");
    table.add("fewshot_dataset", &fewshot_dataset, "file that shots are drawn from; none: the items");
    table.add("output_type", &type, "what is asked").one_of({kOutputTypes.begin(), kOutputTypes.end()});
    table.add("description", &task.description, "what stands before all");
    table.add("doc_to_text", &task.doc_to_text, "template of the question");
    table.add("doc_to_target", &task.doc_to_target, "template of the answer");
    table.add("doc_to_choice", &task.doc_to_choice, "a template a choice, or the field that has the list");
    table.add("target_delimiter", &task.target_delimiter, "between question and answer");
    table.add("fewshot_delimiter", &task.fewshot_delimiter, "behind each shot");
    table.add("num_fewshot", &task.num_fewshot, "shots, where --shots says nothing")
        .at_least(0)
        .at_most(kMostAnswerTokens);
    table.add("until", &task.until, "what ends an answer that is written");
    table.add("max_gen_toks", &task.max_gen_toks, "its tokens at most").at_least(1).at_most(kMostAnswerTokens);
    table.add("strip", &task.strip, "blanks around an answer do not count");
    table.add("regex", &task.regex, "of an answer only what this finds: its first group, or all");
    table.add("regex_group_select", &task.regex_group_select, "which of several finds; -1: the last")
        .at_least(-1)
        .at_most(kMostAnswerTokens);
    table.add("filter_name", &task.filter_name, "what results call strip and regex");
    table.add("ignore_case", &task.ignore_case, "answers that differ in case are equal");
    table.add("ignore_punctuation", &task.ignore_punctuation, "in ASCII's punctuation");
    table.add("ignore_numbers", &task.ignore_numbers, "in digits");
    table.add("metric_list", &task.metrics, "what is measured; none: all that this output_type has");
  }
};

// Lines of a file, each an object.
std::vector<std::string> read_items(const fs::path& path) {
  const std::string text = read_text(path);
  std::vector<std::string> lines;
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    number += 1;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    parse_strict_json(line, fmt::format("{}:{}: an item, a line of its own", path.string(), number), kMostDepth);
    lines.push_back(json_text(Json::parse(line)));  // in the order of its fields
  }
  check(!lines.empty(), "{}: has no items", path.string());
  return lines;
}

bool has_fields(const Json& item, const UsualFields& usual) {
  for (const char* field : {usual.text, usual.target, usual.choice}) {
    if (*field != 0 && !item.contains(field)) return false;
  }
  return true;
}

// What the fields of the first item say.
std::string type_by_fields(const std::vector<std::string>& items, const fs::path& path) {
  const Json first = Json::parse(items.front());
  for (const UsualFields& usual : kUsual) {
    if (has_fields(first, usual)) return std::string(name(usual.type));
  }
  throw UserError(fmt::format(
      "{}: its items have neither question, choices and answer, nor context and continuation, nor question and answer, "
      "nor text: a task file (TOML) that names it says what is asked",
      path.string()));
}

// What follows from the type, where the file did not say it; and what does not go together.
void complete(EvalTask& task, TaskKeys& keys, const fs::path& path) {
  const auto place = std::find(kOutputTypes.begin(), kOutputTypes.end(), keys.type) - kOutputTypes.begin();
  task.output_type = OutputType(place);
  const auto usual =
      std::find_if(kUsual.begin(), kUsual.end(), [&](const UsualFields& one) { return one.type == task.output_type; });
  if (!keys.table.was_set("doc_to_text")) task.doc_to_text = usual->text;
  if (!keys.table.was_set("doc_to_target")) task.doc_to_target = usual->target;
  if (!keys.table.was_set("doc_to_choice") && *usual->choice != 0) task.doc_to_choice = {usual->choice};
  const bool choosing = task.output_type == OutputType::multiple_choice;
  check(choosing == !task.doc_to_choice.empty(), "{}: doc_to_choice goes with output_type multiple_choice, not {}",
        path.string(), keys.type);
  check(task.regex.empty() || task.output_type == OutputType::generate_until,
        "{}: regex goes with output_type generate_until, not {}", path.string(), keys.type);
  for (const std::string& stop : task.until) check(!stop.empty(), "{}: until has an empty text", path.string());
  const std::vector<std::string> known = metrics_of(task.output_type);
  if (task.metrics.empty()) task.metrics = known;
  for (const std::string& metric : task.metrics) {
    check(std::find(known.begin(), known.end(), metric) != known.end(), "{}: {} has no metric '{}'; there are {}",
          path.string(), keys.type, metric, join(known, ", "));
  }
  check(!task.name.empty() && task.name.find('/') == task.name.npos && !task.name.starts_with('.'),
        "{}: '{}' is no name of a task: files of results carry it", path.string(), task.name);
  task.text = keys.table.to_toml();
}

}  // namespace

std::string_view name(OutputType type) { return kOutputTypes[size_t(type)]; }

EvalTask load_task(const fs::path& path) {
  if (path.extension() == ".txt") return text_task(path.stem().string(), read_text(path));
  check(path.extension() == ".toml" || path.extension() == ".jsonl",
        "{}: a task is a .toml file, a .jsonl file of items, or a .txt file", path.string());
  EvalTask task;
  task.name = path.stem().string();
  TaskKeys keys(task);
  fs::path items = path;
  if (path.extension() == ".toml") {
    keys.table.load_file(path);
    check(!keys.dataset.empty(), "{}: dataset is missing, the file of items", path.string());
    items = path.parent_path() / keys.dataset;
    if (!keys.fewshot_dataset.empty()) task.shots = read_items(path.parent_path() / keys.fewshot_dataset);
  }
  task.items = read_items(items);
  if (keys.type.empty()) keys.type = type_by_fields(task.items, items);
  complete(task, keys, path);
  return task;
}

EvalTask text_task(std::string name, std::string text) {
  check_utf8(text, name);
  check(!text.empty(), "{}: has no text", name);
  EvalTask task;
  task.name = std::move(name);
  task.items = {json_text(Json{{"text", std::move(text)}})};
  TaskKeys keys(task);
  keys.type = kOutputTypes[size_t(OutputType::loglikelihood_rolling)];
  complete(task, keys, task.name);
  return task;
}

}  // namespace surtsey::experiments
