#include "experiments/adapt/modules.h"

#include "experiments/models/hub/import.h"
#include "experiments/models/hub/layout.h"

#include <algorithm>
#include <map>

namespace surtsey::experiments {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string without_weight(const std::string& name) { return name.substr(0, name.size() - kWeight.size()); }

// Parameters that activations are multiplied with, as projection.h has them.
bool is_projection(const graph::ParameterSpec& spec) {
  if (spec.shape.size() != 2 || !spec.name.ends_with(kWeight)) return false;
  const std::string matrix = without_weight(spec.name);
  const std::string last = matrix.substr(matrix.rfind('.') + 1);
  static const std::vector<std::string> kParts = {"q",    "k",    "v",         "out",    "up",
                                                  "gate", "down", "transform", "pooler", "head"};
  return std::find(kParts.begin(), kParts.end(), last) != kParts.end();
}

}  // namespace

std::vector<Module> modules_of(const Model& model, const hub::Source* source) {
  std::map<std::string, hub::TensorRow> rows;
  if (source != nullptr) {
    for (const hub::TensorRow& row : hub::hugging_face_layout(source->config())) rows.emplace(row.name, row);
  }
  std::vector<Module> modules;
  std::map<std::string, size_t> places;
  for (const graph::ParameterSpec& spec : model.store().specs()) {
    if (!is_projection(spec) || spec.name.starts_with(hub::kAdapterPrefix)) continue;
    const std::string matrix = without_weight(spec.name);
    const std::string bias = matrix + ".bias";
    ModulePart part{matrix, spec.name, model.store().contains(bias) ? bias : "", 0, spec.shape[0]};
    Module module{.in = spec.shape[1], .out = spec.shape[0], .head = spec.name.ends_with("head.weight")};
    const auto row = rows.find(hub::source_name(model.config(), spec.name));
    if (row != rows.end()) {
      module.name = without_weight(hub::saved_name(source->config(), row->second.file_name));
      module.out = row->second.file_rows;
      module.transposed = row->second.transposed;
      part.first_row = row->second.first_row;
    } else {
      const std::string theirs = hugging_face_name(spec.name);
      module.name = theirs.empty() ? matrix : without_weight(theirs);
    }
    const auto [place, first] = places.emplace(module.name, modules.size());
    if (first) modules.push_back(std::move(module));
    modules[place->second].parts.push_back(std::move(part));
  }
  return modules;
}

int64_t find_module(const std::vector<Module>& modules, const hub::Source* source, const std::string& name) {
  const auto plain = [&](const std::string& module) {
    return source == nullptr ? module : hub::canonical_file_name(source->config(), module + std::string(kWeight));
  };
  const std::string wanted = plain(name);
  for (size_t i = 0; i < modules.size(); ++i)
    if (!wanted.empty() && plain(modules[i].name) == (source == nullptr ? name : wanted)) return int64_t(i);
  return -1;
}

std::string adapter_parameter(const std::string& name) { return hub::kAdapterPrefix + name; }

}  // namespace surtsey::experiments
