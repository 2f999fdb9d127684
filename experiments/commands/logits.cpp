// `surtsey logits`: an import held against its source.
#include "experiments/adapt/adaptation.h"
#include "experiments/base/computing_device.h"
#include "experiments/base/file.h"
#include "experiments/commands/commands.h"
#include "experiments/evaluate/model_outputs.h"
#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/label_head.h"
#include "graph/debug.h"

#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::json;

int32_t whole_number(const json& value, const std::string& where) {
  const bool small = value.is_number_integer() && value.get<double>() >= 0 && value.get<double>() <= INT32_MAX;
  check(small, "{} has {}, which is no index", where, value.dump());
  return value.get<int32_t>();
}

// One row, or a list of rows; `nested` says which.
std::vector<std::vector<int32_t>> read_rows(const json& object, const char* key, const std::string& file,
                                            bool* nested = nullptr) {
  if (!object.contains(key)) return {};
  const json& value = object.at(key);
  const std::string where = fmt::format("{}: {}", file, key);
  check(value.is_array() && !value.empty(), "{} is not a list of numbers, or of such lists", where);
  const bool rows = value.front().is_array();
  if (nested != nullptr) *nested = rows;
  std::vector<std::vector<int32_t>> result;
  for (const json& row : rows ? value : json::array({value})) {
    check(row.is_array(), "{} has rows and something else", where);
    auto& numbers = result.emplace_back();
    for (const json& one : row) numbers.push_back(whole_number(one, where));
  }
  return result;
}

// Nested lists as the tensor's axes, from axis `axis` on.
json nested_lists(const graph::HostTensor& tensor, size_t axis, size_t& next) {
  json list = json::array();
  for (int64_t i = 0; i < tensor.type.shape[axis]; ++i) {
    if (axis + 1 < tensor.type.shape.size()) {
      list.push_back(nested_lists(tensor, axis + 1, next));
    } else {
      list.push_back(float(tensor.values[next++]));
    }
  }
  return list;
}

}  // namespace

void logits(const LogitsOptions& options) {
  check(options.format == "json" || options.format == "text", "-o is json or text, not '{}'", options.format);
  const json given = parse_strict_json(read_file(options.input), options.input, 8);
  bool nested = false;
  ModelInputs inputs;
  inputs.input_ids = read_rows(given, "input_ids", options.input, &nested);
  check(!inputs.input_ids.empty(), "{}: has no input_ids", options.input);
  inputs.token_type_ids = read_rows(given, "token_type_ids", options.input);
  inputs.attention_mask = read_rows(given, "attention_mask", options.input);
  inputs.decoder_input_ids = read_rows(given, "decoder_input_ids", options.input);

  const std::unique_ptr<hub::Source> source = hub::open_model(options.model);
  if (!options.adapter.empty()) {
    const int64_t labels = adapter_labels(options.adapter);
    if (labels > 0) hub::give_label_head(*source, labels);
  }
  engine::Device device = open_computing_device({.select = options.device});
  const auto outputs = model_outputs(device, *source, inputs, options.adapter);
  json result = json::object();
  for (const auto& [name, tensor] : outputs) {
    size_t next = 0;
    json lists = nested_lists(tensor, 0, next);
    // A single row comes back as one.
    if (!nested) lists = json(lists.front());
    if (options.format == "json") {
      result[name] = std::move(lists);
      continue;
    }
    fmt::print("{} {}: {}\n", name, to_string(tensor.type), lists.dump().substr(0, 400));
  }
  if (options.format == "json") fmt::print("{}\n", result.dump());
}

}  // namespace surtsey::experiments::commands
