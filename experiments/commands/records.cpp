#include "experiments/commands/records.h"

#include "experiments/base/json_text.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::ordered_json;

ordered_json to_json(const Record::Value::Content& content) {
  return std::visit([](const auto& value) { return ordered_json(value); }, content);
}

ordered_json to_json(const Record& record) {
  ordered_json object = ordered_json::object();
  for (const auto& [name, value] : record.fields()) object[name] = to_json(value.content());
  return object;
}

std::string cell(const Record::Value::Content& content) {
  if (const auto* text = std::get_if<std::string>(&content)) return *text;
  if (const auto* number = std::get_if<double>(&content)) return fmt::format("{:.4g}", *number);
  return to_json(content).dump();
}

std::string duration(double ns) {
  if (ns < 1e4) return fmt::format("{:.0f} ns", ns);
  if (ns < 1e7) return fmt::format("{:.1f} us", ns / 1e3);
  return fmt::format("{:.2f} ms", ns / 1e6);
}

std::string time_cell(const Record& record) {
  const std::string time = duration(record.number("median_ns"));
  if (!record.contains("deviation_ns")) return time;
  return fmt::format("{} ± {}", time, duration(record.number("deviation_ns")));
}

void print_markdown(const std::vector<Record>& records, const std::vector<std::string>& columns) {
  std::string head = "|", rule = "|";
  for (const std::string& name : columns) {
    head += fmt::format(" {} |", name);
    rule += " ---: |";
  }
  fmt::print("{} time |\n{} ---: |\n", head, rule);
  for (const Record& record : records) {
    std::string line = "|";
    for (const std::string& name : columns) line += fmt::format(" {} |", cell(record.at(name)));
    fmt::print("{} {} |\n", line, time_cell(record));
  }
}

void print_csv(const std::vector<Record>& records) {
  for (size_t i = 0; i < records.size(); ++i) {
    std::string head, line;
    for (const auto& [name, field] : records[i].fields()) {
      const ordered_json value = to_json(field.content());
      if (value.is_array()) continue;
      head += (head.empty() ? "" : ",") + name;
      line += (line.empty() ? "" : ",") + value.dump();
    }
    if (i == 0) fmt::print("{}\n", head);
    fmt::print("{}\n", line);
  }
}

}  // namespace

Record::Value& Record::operator[](const std::string& name) {
  for (auto& [known, value] : fields_) {
    if (known == name) return value;
  }
  return fields_.emplace_back(name, Value()).second;
}

const Record::Value::Content& Record::at(const std::string& name) const {
  for (const auto& [known, value] : fields_) {
    if (known == name) return value.content();
  }
  throw UserError(fmt::format("a record has no field '{}'", name));
}

double Record::number(const std::string& name) const {
  return std::visit(
      [&](const auto& value) -> double {
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>) return double(value);
        throw UserError(fmt::format("a record's field '{}' is not a number", name));
      },
      at(name));
}

bool Record::contains(const std::string& name) const {
  return std::any_of(fields_.begin(), fields_.end(), [&](const auto& field) { return field.first == name; });
}

std::vector<uint64_t> take_samples(int64_t warmup, int64_t repetitions, const std::function<uint64_t()>& sample) {
  for (int64_t i = 0; i < warmup; ++i) sample();
  std::vector<uint64_t> samples;
  for (int64_t i = 0; i < repetitions; ++i) samples.push_back(sample());
  return samples;
}

double median(std::vector<uint64_t> samples) {
  std::sort(samples.begin(), samples.end());
  const size_t half = samples.size() / 2;
  if (samples.size() % 2 == 1) return double(samples[half]);
  return (double(samples[half - 1]) + double(samples[half])) / 2;
}

void add_samples(Record& record, const std::vector<uint64_t>& samples) {
  double mean = 0, squares = 0;
  for (const uint64_t sample : samples) mean += double(sample) / double(samples.size());
  for (const uint64_t sample : samples) squares += std::pow(double(sample) - mean, 2);
  const double freedom = std::max<double>(1, double(samples.size()) - 1);
  record["median_ns"] = int64_t(std::llround(median(samples)));
  record["deviation_ns"] = int64_t(std::llround(std::sqrt(squares / freedom)));
  record["samples_ns"] = samples;
}

void print_records(const std::vector<Record>& records, const std::string& format,
                   const std::vector<std::string>& columns) {
  if (format == "md") print_markdown(records, columns);
  if (format == "csv") print_csv(records);
  ordered_json list = ordered_json::array();
  for (const Record& record : records) list.push_back(to_json(record));
  if (format == "json") fmt::print("{}\n", json_text(list, 2));
  if (format == "jsonl") {
    for (const ordered_json& record : list) fmt::print("{}\n", json_text(record));
  }
}

void for_each_combination(const std::vector<std::vector<int64_t>>& lists,
                          const std::function<void(const std::vector<int64_t>&)>& visit) {
  std::vector<int64_t> values(lists.size());
  const std::function<void(size_t)> choose = [&](size_t list) {
    if (list == lists.size()) {
      visit(values);
      return;
    }
    for (const int64_t value : lists[list]) {
      values[list] = value;
      choose(list + 1);
    }
  };
  choose(0);
}

}  // namespace surtsey::experiments::commands
