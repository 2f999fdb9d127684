// Adaptations in files, and merged into their base.
#include "experiments/adapt/adaptation.h"

#include "experiments/adapt/peft.h"
#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/formats/tensor_directory.h"
#include "experiments/models/hub/import.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>

namespace surtsey::experiments {
namespace {

using graph::HostTensor;

constexpr const char* kHeadWeights[] = {"score.weight", "classifier.weight"};  // of labels: decoders', encoders'
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight", kScale = ".ia3_l";

std::string without(const std::string& name, std::string_view end) { return name.substr(0, name.size() - end.size()); }

// The last so many words of a name.
std::string last_words(const std::string& name, int count) {
  size_t at = name.size();
  for (int i = 0; i < count && at != std::string::npos && at > 0; ++i) at = name.rfind('.', at - 1);
  return at == std::string::npos || at == 0 ? name : name.substr(at + 1);
}

// The shortest ends of names that mean these modules and no others.
std::vector<std::string> shortest_names(const std::set<std::string>& chosen, const std::vector<Module>& all) {
  constexpr int kMostWords = 16;
  for (int count = 1; count < kMostWords; ++count) {
    std::set<std::string> ends;
    for (const std::string& name : chosen) ends.insert(last_words(name, count));
    const bool others = std::any_of(all.begin(), all.end(), [&](const Module& module) {
      const auto means = [&](const std::string& end) { return names_module(end, module.name); };
      return !chosen.contains(module.name) && std::any_of(ends.begin(), ends.end(), means);
    });
    if (!others) return {ends.begin(), ends.end()};
  }
  return {chosen.begin(), chosen.end()};
}

// Columns [first, first + width) of a matrix, and back.
void copy_columns(const HostTensor& from, int64_t first, HostTensor& to, int64_t at, int64_t width) {
  const int64_t rows = from.type.shape[0], in = from.type.shape[1], out = to.type.shape[1];
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(from.values.begin() + r * in + first, width, to.values.begin() + r * out + at);
}

}  // namespace

// ---- reading ----

Adaptation::Adaptation(const std::filesystem::path& folder, const hub::Source& source, const Model& model)
    : source_(&source) {
  const std::filesystem::path keys = folder / kAdapterConfig, file = folder / kAdapterTensors;
  config_ = parse_peft_config(read_file(keys), keys.string());
  describe(model);
  graph::State tensors = read_adapter_tensors(file);
  read_targets(tensors, file.string());
  check(config_.method != AdaptMethod::head || model.config().head == HeadKind::classify,
        "{}: is a head of labels alone, which `surtsey classify` reads", folder.string());
  // Over a model without a head of labels what stands below it is read alone.
  if (model.config().head == HeadKind::classify) config_.num_labels = adapter_labels(folder);
  const auto of_pooler = [&](const std::string& name) {
    const std::string plain = hub::canonical_file_name(source.config(), name);
    return plain == "pooler.dense.weight" || plain == "pooler.dense.bias";
  };
  if (config_.num_labels == 0)
    std::erase_if(tensors, [&](const auto& one) {
      return one.first.starts_with("score.") || one.first.starts_with("classifier.") || of_pooler(one.first);
    });
  for (const auto& [name, tensor] : tensors) saves_pooler_ = saves_pooler_ || of_pooler(name);
  plan();
  read_tensors(std::move(tensors), file.string());
}

// The modules that a file's tensors are of, by their names; ranks by their shapes.
void Adaptation::read_targets(const graph::State& file, const std::string& where) {
  const bool low = config_.method == AdaptMethod::lora, scales = config_.method == AdaptMethod::ia3;
  if (!low && !scales) return;
  std::vector<std::string> wrong;
  for (const auto& [name, tensor] : file) {
    const std::string_view end = low ? kA : kScale;
    if (!name.ends_with(end)) continue;
    const std::string module = without(name, end);
    const int64_t found = find_module(modules_, source_, module);
    if (found < 0 || tensor.type.shape.size() != 2 || tensor.type.shape[0] == 0) {
      wrong.push_back(fmt::format("{} {}", name, graph::to_string(tensor.type.shape)));
      continue;
    }
    const std::string& own = modules_[size_t(found)].name;
    const int64_t rank = low ? tensor.type.shape[0] : 0;
    const bool input = scales && tensor.type.shape[0] == 1 && modules_[size_t(found)].out != 1;
    targets_.push_back({size_t(found), rank, low ? config_.scale_of(own, rank) : 1, input});
  }
  check(wrong.empty(), "{}: does not fit {}: {}", where, source_->path().string(), join(wrong, "; "));
  check(!targets_.empty(), "{}: has no {}", where, low ? "pair of lora_A and lora_B" : "ia3_l");
  std::sort(targets_.begin(), targets_.end(), [](const Target& a, const Target& b) { return a.module < b.module; });
}

void Adaptation::read_tensors(graph::State file, const std::string& where) {
  // The file's names by ours: a prefix of the class may be there or not, what trains of the base has the hub's names.
  graph::State found;
  for (auto& [name, tensor] : file) {
    std::string own = name;
    // Some versions write DoRA's vector as the layer that it is in memory.
    constexpr std::string_view kLayer = ".lora_magnitude_vector.weight", kWeight = ".weight";
    if (own.ends_with(kLayer)) own = without(own, kWeight);
    const size_t split = std::min(name.find(".lora_"), std::min(name.find(".ia3_l"), name.find(".adapter_")));
    const int64_t module = split == std::string::npos ? -1 : find_module(modules_, source_, name.substr(0, split));
    if (module >= 0) own = modules_[size_t(module)].name + own.substr(split);
    for (const std::string& parameter : trained_)
      if (file_name(parameter) == name) own = parameter;
    found.emplace(own, std::move(tensor));
  }
  if (config_.method == AdaptMethod::prefix && found.contains(std::string(kPromptEmbeddings))) {
    const HostTensor all = found.at(std::string(kPromptEmbeddings));
    const int64_t width = model_.kv_heads() * model_.head_width();
    const graph::Shape expected = {config_.num_virtual_tokens, model_.n_layer * 2 * width};
    check(all.type.shape == expected, "{}: {} is {} and not {}", where, kPromptEmbeddings,
          graph::to_string(all.type.shape), graph::to_string(expected));
    found.erase(std::string(kPromptEmbeddings));
    for (int64_t i = 0; i < 2 * model_.n_layer; ++i) {
      HostTensor part = HostTensor::zeros({graph::DType::f32, {expected[0], width}});
      copy_columns(all, i * width, part, 0, width);
      found.emplace(fmt::format("prefix.{}.{}", i / 2, i % 2 == 0 ? "key" : "value"), std::move(part));
    }
  }
  std::vector<std::string> wrong;
  const auto take = [&](const std::string& name, const std::string& parameter, const graph::Shape& shape) {
    const auto tensor = found.find(name);
    if (tensor == found.end()) {
      wrong.push_back(fmt::format("{} is missing", name));
      return;
    }
    if (tensor->second.type.shape != shape)
      wrong.push_back(fmt::format("{} is {} and not {}", name, graph::to_string(tensor->second.type.shape),
                                  graph::to_string(shape)));
    tensors_[parameter] = std::move(tensor->second);
    found.erase(tensor);
  };
  for (const Added& one : added_)
    if (!one.made) take(one.name.substr(std::string_view(hub::kAdapterPrefix).size()), one.name, one.shape);
  for (const graph::ParameterSpec& spec : parameters_)
    if (std::find(trained_.begin(), trained_.end(), spec.name) != trained_.end())
      take(spec.name, spec.name, spec.shape);
  for (const auto& [name, tensor] : found)
    wrong.push_back(fmt::format("{} {}", name, graph::to_string(tensor.type.shape)));
  check(wrong.empty(), "{}: does not fit {}: {}", where, source_->path().string(), join(wrong, "; "));
}

int64_t adapter_virtual_tokens(const std::filesystem::path& folder) {
  const std::filesystem::path keys = folder / kAdapterConfig;
  const AdaptConfig config = parse_peft_config(read_file(keys), keys.string());
  const bool has = config.method == AdaptMethod::prefix || config.method == AdaptMethod::prompt;
  return has ? config.num_virtual_tokens : 0;
}

int64_t adapter_labels(const std::filesystem::path& folder) {
  for (const auto& [name, tensor] : open_safetensors(folder / kAdapterTensors))
    for (const char* head : kHeadWeights)
      if ((name == head || name.ends_with(std::string(".") + head)) && tensor.shape.size() == 2) return tensor.shape[0];
  return 0;
}

// ---- writing ----

void Adaptation::save(const std::filesystem::path& folder, const graph::State& trained, const std::string& base) const {
  AdaptedBase facts{.name = base,
                    .layers = model_.n_layer,
                    .key_heads = model_.kv_heads(),
                    .head_width = model_.head_width(),
                    .width = model_.n_embd,
                    .whole = {}};
  for (const std::string& name : whole_) {
    if (!name.ends_with(".weight")) continue;
    facts.whole.push_back(name.starts_with("head.") ? head_name() : "pooler");
  }
  std::set<std::string> names, inputs;
  for (const Target& target : targets_) {
    const Module& module = modules_[target.module];
    facts.transposed = module.transposed;
    names.insert(module.name);
    if (target.input) inputs.insert(module.name);
  }
  facts.modules = shortest_names(names, modules_);
  facts.feed_forward = shortest_names(inputs, modules_);

  graph::State file;
  const auto wanted = [&](const std::string& name) -> const HostTensor& {
    const auto found = trained.find(name);
    check(found != trained.end(), "[adapt] the tensor {} is missing", name);
    return found->second;
  };
  const int64_t width = model_.kv_heads() * model_.head_width();
  if (config_.method == AdaptMethod::prefix) {
    HostTensor whole = HostTensor::zeros({graph::DType::f32, {config_.num_virtual_tokens, 2 * model_.n_layer * width}});
    for (int64_t i = 0; i < 2 * model_.n_layer; ++i)
      copy_columns(wanted(adapter_parameter(fmt::format("prefix.{}.{}", i / 2, i % 2 == 0 ? "key" : "value"))), 0,
                   whole, i * width, width);
    file.emplace(kPromptEmbeddings, std::move(whole));
  }
  for (const Added& one : added_) {
    const std::string name = one.name.substr(std::string_view(hub::kAdapterPrefix).size());
    if (!one.made && !name.starts_with("prefix.")) file.emplace(name, wanted(one.name));
  }
  for (const std::string& name : trained_) file.emplace(file_name(name), wanted(name));
  write_adapter(folder, peft_config(config_, facts), file);
}

// ---- merging ----

std::vector<std::string> Adaptation::merged_names() const {
  const AdaptMethod method = config_.method;
  const bool can = method != AdaptMethod::adapters && method != AdaptMethod::prefix && method != AdaptMethod::prompt;
  check(can, "{} cannot be merged: weights of the base cannot say it; full, partial, lora, ia3, bitfit and head can",
        name(method));
  std::vector<std::string> names = trained_;
  for (const Target& target : targets_) {
    for (const ModulePart& part : modules_[target.module].parts) {
      names.push_back(part.weight);
      if (config_.method == AdaptMethod::ia3 && !target.input && !part.bias.empty()) names.push_back(part.bias);
    }
  }
  for (const Added& one : added_) {
    if (method != AdaptMethod::bitfit) break;
    for (const Module& module : modules_)
      if (one.name == adapter_parameter(module.name + ".bias"))
        for (const ModulePart& part : module.parts) names.push_back(part.matrix + ".bias");
  }
  return names;
}

HostTensor Adaptation::merged(const std::string& parameter, const HostTensor& base, const graph::State& trained) const {
  if (const auto found = trained.find(parameter); found != trained.end()) return found->second;
  HostTensor result = base;
  for (const Module& module : modules_) {
    for (const ModulePart& part : module.parts) {
      if (parameter != part.matrix + ".bias") continue;
      const auto bias = trained.find(adapter_parameter(module.name + ".bias"));
      if (bias == trained.end()) continue;
      for (int64_t i = 0; i < part.rows; ++i)
        result.values[size_t(i)] += bias->second.values[size_t(part.first_row + i)];
    }
  }
  for (const Target& target : targets_) {
    const Module& module = modules_[target.module];
    const std::string name = adapter_parameter(module.name);
    for (const ModulePart& part : module.parts) {
      if (parameter != part.weight && (part.bias.empty() || parameter != part.bias)) continue;
      const bool weight = parameter == part.weight;
      const int64_t columns = weight ? module.in : 1;
      if (config_.method == AdaptMethod::ia3) {
        if (target.input && !weight) continue;
        const std::vector<double>& l = trained.at(name + ".ia3_l").values;
        for (int64_t r = 0; r < part.rows; ++r)
          for (int64_t c = 0; c < columns; ++c)
            result.values[size_t(r * columns + c)] *= target.input ? l[size_t(c)] : l[size_t(part.first_row + r)];
        continue;
      }
      if (!weight) continue;
      const HostTensor& a = trained.at(name + ".lora_A.weight");
      const HostTensor& b = trained.at(name + ".lora_B.weight");
      for (int64_t r = 0; r < part.rows; ++r) {
        double* const row = result.values.data() + r * columns;
        for (int64_t k = 0; k < target.rank; ++k) {
          const double factor = target.scale * b.values[size_t((part.first_row + r) * target.rank + k)];
          for (int64_t c = 0; c < columns; ++c) row[c] += factor * a.values[size_t(k * columns + c)];
        }
        if (!config_.use_dora) continue;
        double sum = 0;
        for (int64_t c = 0; c < columns; ++c) sum += row[c] * row[c];
        const double magnitude = trained.at(name + ".lora_magnitude_vector").values[size_t(part.first_row + r)];
        for (int64_t c = 0; c < columns; ++c) row[c] *= magnitude / std::sqrt(sum);
      }
    }
  }
  result.round_to_storage();
  return result;
}

// ---- what trains ----

namespace {

// A name without its numbers, and the first of them.
std::pair<std::string, std::optional<int64_t>> without_number(const std::string& name) {
  std::string rest;
  std::optional<int64_t> number;
  size_t at = 0;
  while (at <= name.size()) {
    const size_t end = std::min(name.find('.', at), name.size());
    const std::string word = name.substr(at, end - at);
    const bool digits = !word.empty() && word.size() < 10 && word.find_first_not_of("0123456789") == std::string::npos;
    rest += (at > 0 ? "." : "") + (digits && !number ? "*" : word);
    if (digits && !number) number = std::stoll(word);
    at = end + 1;
  }
  return {rest, number};
}

std::string with_commas(int64_t number) {
  std::string text = std::to_string(number);
  for (auto at = int64_t(text.size()) - 3; at > 0; at -= 3) text.insert(size_t(at), ",");
  return text;
}

}  // namespace

TrainedParts trained_parts(const graph::ParameterStore& store) {
  TrainedParts result;
  std::vector<std::string> order;
  std::map<std::string, TrainedPart> parts;
  std::map<std::string, std::pair<int64_t, int64_t>> numbers;
  for (const graph::ParameterSpec& spec : store.specs()) {
    if (spec.name.ends_with(".weight_norm")) continue;
    const int64_t count = graph::element_count(spec.shape);
    result.all += count;
    if (spec.frozen()) continue;
    result.trained += count;
    const auto [name, number] = without_number(spec.name);
    auto [found, first] = parts.try_emplace(name);
    if (first) order.push_back(name);
    ++found->second.tensors;
    found->second.parameters += count;
    if (!number) continue;
    auto [range, fresh] = numbers.try_emplace(name, *number, *number);
    range->second = {std::min(range->second.first, *number), std::max(range->second.second, *number)};
  }
  for (const std::string& name : order) {
    TrainedPart part = parts.at(name);
    part.name = name;
    const size_t star = name.find('*');
    if (star != std::string::npos) {
      const auto [least, most] = numbers.at(name);
      part.name.replace(star, 1, least == most ? std::to_string(least) : fmt::format("{{{}..{}}}", least, most));
    }
    result.parts.push_back(std::move(part));
  }
  return result;
}

std::string shown(const TrainedParts& parts) {
  std::string text =
      fmt::format("trainable params: {} || all params: {} || trainable%: {:.4f}\n", with_commas(parts.trained),
                  with_commas(parts.all), 100 * double(parts.trained) / double(std::max<int64_t>(1, parts.all)));
  for (const TrainedPart& part : parts.parts)
    text += fmt::format("  {}: {} in {}\n", part.name, with_commas(part.parameters),
                        part.tensors == 1 ? "1 tensor" : fmt::format("{} tensors", part.tensors));
  return text;
}

}  // namespace surtsey::experiments
