#include "experiments/tasks/tuning/labels.h"

#include "experiments/base/join.h"
#include "experiments/formats/strict_json.h"
#include "experiments/tasks/tuning/rows.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace surtsey::experiments::tasks {
namespace {

using nlohmann::json;

constexpr int kLabelDepth = 64;
constexpr size_t kLabelsNamed = 8;  // that a message lists
constexpr const char* kProblems[] = {"regression", "single_label_classification", "multi_label_classification"};

bool says_something(const json& text) {
  return text.is_string() && text.get_ref<const std::string&>().find_first_not_of(" \t\r\n") != std::string::npos;
}

bool has_no_fraction(double number) { return number == std::floor(number); }

std::string listed_labels(const std::vector<std::string>& names) {
  std::vector<std::string> some(names.begin(), names.begin() + std::ptrdiff_t(std::min(names.size(), kLabelsNamed)));
  return join(some, ", ") + (names.size() > kLabelsNamed ? ", .." : "");
}

// One of a row's labels, or the only one.
void add_label(LabelledRow& row, const json& label, const std::string& where) {
  if (label.is_number()) {
    check(std::isfinite(label.get<double>()), "{}: label is {}, not a finite number", where, label.dump());
    row.numbers.push_back(label.get<double>());
  } else {
    check(says_something(label), "{}: label is {}, not a name or a number", where, label.dump());
    row.names.push_back(label.get<std::string>());
  }
  check(row.numbers.empty() || row.names.empty(), "{}: its labels are names and numbers", where);
}

}  // namespace

const char* name(ProblemType problem) { return kProblems[size_t(problem)]; }

ProblemType parse_problem_type(std::string_view word) {
  const auto found = std::find(std::begin(kProblems), std::end(kProblems), word);
  check(found != std::end(kProblems), "problem_type is '{}'; there are {}", word,
        join(std::vector<std::string>(std::begin(kProblems), std::end(kProblems)), ", "));
  return ProblemType(found - std::begin(kProblems));
}

LabelledRow parse_labelled_row(std::string_view line, const std::string& where, bool labelled) {
  const json object = parse_strict_json(line, where + ": the line", kLabelDepth);
  check(object.is_object(), "{}: the line is {}, not an object", where, object.type_name());
  const char* column = object.contains("text") ? "text" : "sentence";
  const char* label = object.contains("labels") ? "labels" : "label";
  const bool has_label = object.contains(label) && !object[label].is_null();
  check(object.contains(column) && (has_label || !labelled),
        "{}: for a head of labels a row has \"text\" (or \"sentence\") and \"label\" (or \"labels\")", where);
  LabelledRow row;
  check(says_something(object[column]), "{}: {} is no text that says something", where, column);
  row.text = object[column].get<std::string>();
  if (object.contains("text_pair") && !object["text_pair"].is_null()) {
    check(object["text_pair"].is_string(), "{}: text_pair is {}, not a text", where, object["text_pair"].type_name());
    row.pair = object["text_pair"].get<std::string>();
  }
  row.labelled = has_label;
  if (!has_label) return row;
  const json& value = object[label];
  row.list = value.is_array();
  if (!row.list) add_label(row, value, where);
  for (size_t i = 0; row.list && i < value.size(); ++i) add_label(row, value[i], where);
  return row;
}

// ---- as numbers ----

std::vector<float> LabelSet::values(const LabelledRow& row, const std::string& where) const {
  const size_t given = row.names.size() + row.numbers.size();
  std::vector<float> made(names.size(), 0);
  if (problem == ProblemType::regression) {
    check(row.names.empty(), "{}: label is '{}', not a number, which a regression learns", where,
          row.names.empty() ? "" : row.names.front());
    check(given == names.size() && (row.list || names.size() == 1), "{}: has {} numbers, num_labels is {}", where,
          given, names.size());
    for (size_t i = 0; i < made.size(); ++i) made[i] = float(row.numbers[i]);
    for (const float number : made)
      check(std::isfinite(number), "{}: label is {}, beyond what f32 holds", where, row.numbers.front());
    return made;
  }
  const bool single = problem == ProblemType::single_label;
  check(row.list != single, "{}: {}", where,
        single ? "labels is a list, where the text has one label (problem_type single_label_classification)"
               : "label is no list, where a text has several (problem_type multi_label_classification)");
  if (!single && zeros_and_ones && row.names.empty()) {
    const bool whole = given == names.size() &&
                       std::all_of(row.numbers.begin(), row.numbers.end(), [](double n) { return n == 0 || n == 1; });
    check(whole, "{}: labels is no list of {} zeros and ones", where, names.size());
    for (size_t i = 0; i < made.size(); ++i) made[i] = float(row.numbers[i]);
    return made;
  }
  for (const double number : row.numbers) {
    check(has_no_fraction(number) && number >= 0 && number < double(names.size()),
          "{}: label is {}; numbers of labels are 0 to {}, as num_labels is {}", where, number, names.size() - 1,
          names.size());
    made[size_t(number)] = 1;
  }
  for (const std::string& label : row.names) {
    const auto found = std::find(names.begin(), names.end(), label);
    check(found != names.end(), "{}: label '{}' is none of the {} ({})", where, label, names.size(),
          listed_labels(names));
    made[size_t(found - names.begin())] = 1;
  }
  return made;
}

// ---- how a file is labelled ----

void LabelScan::add(const LabelledRow& row, const std::string& where) {
  // A list without labels is of either kind.
  const bool says = !row.names.empty() || !row.numbers.empty();
  if (first_.empty()) list_ = row.list;
  check(row.list == list_, "{}: {} of {} is{}: a file is labelled in one way", where,
        row.list ? "its labels are a list, which the label" : "its label is no list, which that", first_,
        row.list ? " not" : "");
  if (says) {
    const bool first = names_.empty() && !numbered_;
    if (first) named_ = !row.names.empty();
    check(named_ == !row.names.empty(),
          "{}: its label is a {}, and before it labels are {}: a file has one or the other", where,
          row.names.empty() ? "number" : "name", named_ ? "names" : "numbers");
    numbered_ = numbered_ || !row.numbers.empty();
  }
  if (first_.empty()) first_ = where;
  for (const std::string& label : row.names) names_.emplace(label, where);
  for (const double number : row.numbers) {
    if (broken_.empty() && !has_no_fraction(number)) broken_ = where;
    zeros_and_ones_ = zeros_and_ones_ && (number == 0 || number == 1);
  }
  zeros_and_ones_ = zeros_and_ones_ && row.numbers.size() == size_t(request_.count);
}

LabelSet LabelScan::labels(const std::string& file) const {
  const int64_t count = request_.count;
  LabelSet set;
  set.problem = request_.problem.value_or(count == 1 ? ProblemType::regression
                                          : list_    ? ProblemType::multi_label
                                                     : ProblemType::single_label);
  check(set.problem != ProblemType::single_label || count > 1,
        "num_labels {} with problem_type {}: a text has one label of two or more", count, name(set.problem));
  const bool regression = set.problem == ProblemType::regression;
  check(regression || broken_.empty(), "{}: its label is no whole number: with num_labels {} a text has {}", broken_,
        count, set.problem == ProblemType::single_label ? "one label of them" : "some of these labels");
  set.zeros_and_ones = zeros_and_ones_;
  const auto known = [&](const auto& label) {
    return std::find(request_.known.begin(), request_.known.end(), label.first) != request_.known.end();
  };
  const bool has_known = int64_t(request_.known.size()) == count;
  if (named_ && !regression && !(has_known && std::all_of(names_.begin(), names_.end(), known))) {
    for (const auto& [label, where] : names_) set.names.push_back(label);
    check(set.count() == count, "{} has {} labels, num_labels is {} ({})", file, set.count(), count,
          listed_labels(set.names));
    return set;
  }
  set.names = request_.known;
  if (has_known) return set;
  set.names.clear();
  for (int64_t i = 0; i < count; ++i) set.names.push_back(std::to_string(i));
  return set;
}

LabelSet labels_of(const std::filesystem::path& path, LabelRequest request) {
  LabelScan scan(std::move(request));
  JsonLines lines(path);
  int64_t rows = 0;
  for (; lines.next(); ++rows) {
    const std::string where = lines.where();
    scan.add(parse_labelled_row(lines.line(), where), where);
  }
  check(rows > 0, "{}: has no rows: there is nothing to learn", path.string());
  return scan.labels(path.string());
}

}  // namespace surtsey::experiments::tasks
