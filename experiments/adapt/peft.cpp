#include "experiments/adapt/peft.h"

#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/formats/safetensors.h"
#include "experiments/formats/strict_json.h"
#include "experiments/formats/tensor_directory.h"
#include "graph/error.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

namespace surtsey::experiments {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr int kDepth = 16;

struct PeftType {
  AdaptMethod method;
  const char* name;
  bool ours = false;
};
constexpr PeftType kTypes[] = {{AdaptMethod::lora, "LORA"},
                               {AdaptMethod::ia3, "IA3"},
                               {AdaptMethod::prefix, "PREFIX_TUNING"},
                               {AdaptMethod::prompt, "PROMPT_TUNING"},
                               {AdaptMethod::adapters, "ADAPTERS", true},
                               {AdaptMethod::bitfit, "BITFIT", true},
                               {AdaptMethod::partial, "PARTIAL", true},
                               {AdaptMethod::full, "FULL", true},
                               {AdaptMethod::head, "HEAD", true}};

const PeftType& type_of(AdaptMethod method) {
  return *std::find_if(std::begin(kTypes), std::end(kTypes), [&](const PeftType& t) { return t.method == method; });
}

// Options of PEFT that change what an adapter computes and are not supported: refused wherever they are on.
constexpr const char* kRefused[] = {
    "lora_bias",        "layer_replication", "trainable_token_indices", "target_parameters",
    "use_qalora",       "use_bdlora",        "alora_invocation_tokens", "arrow_config",
    "monteclora_config"};
// Starts that change the base's own weights.
constexpr const char* kChangesBase[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

// A file's keys, with messages that name it.
class Keys {
 public:
  Keys(const ordered_json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // Null where it is absent or null.
  const ordered_json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  bool on(const char* key) const {
    const ordered_json* value = find(key);
    if (value == nullptr) return false;
    if (value->is_boolean()) return value->get<bool>();
    return !((value->is_structured() || value->is_string()) && value->empty());
  }
  std::string shown(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? "missing" : found->dump();
  }
  double number(const char* key) const {
    check(find(key) != nullptr, "{}: has no {}", where_, key);
    return number_of(*find(key), key);
  }
  double number_of(const ordered_json& value, const std::string& key) const {
    check(value.is_number() && std::isfinite(value.get<double>()), "{}: {} is {}, not a number", where_, key,
          value.dump());
    return value.get<double>();
  }
  int64_t integer_of(const ordered_json& value, const std::string& key) const {
    const bool whole = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT32_MAX);
    check(whole && value.get<int64_t>() >= 0, "{}: {} is {}, not a whole number", where_, key, value.dump());
    return value.get<int64_t>();
  }
  int64_t integer(const char* key, int64_t fallback) const {
    return find(key) == nullptr ? fallback : integer_of(*find(key), key);
  }
  std::string word(const char* key, std::string fallback) const {
    const ordered_json* value = find(key);
    if (value == nullptr) return fallback;
    check(value->is_string(), "{}: {} is {}, not a string", where_, key, value->dump());
    return value->get<std::string>();
  }
  std::vector<std::string> words(const char* key) const {
    const ordered_json* value = find(key);
    std::vector<std::string> list;
    if (value == nullptr) return list;
    if (value->is_string()) return {value->get<std::string>()};
    check(value->is_array(), "{}: {} is {}, not a list", where_, key, value->dump());
    for (const ordered_json& one : *value) {
      check(one.is_string(), "{}: {} has {}, which is no string", where_, key, one.dump());
      list.push_back(one.get<std::string>());
    }
    return list;
  }
  // An object of numbers, in the file's order: the first that fits a module counts.
  template <typename Number, typename Read>
  std::vector<std::pair<std::string, Number>> patterns(const char* key, Read&& read) const {
    std::vector<std::pair<std::string, Number>> list;
    const ordered_json* value = find(key);
    if (value == nullptr) return list;
    check(value->is_object(), "{}: {} is no object", where_, key);
    for (const auto& [module, number] : value->items())
      list.emplace_back(module, read(number, fmt::format("{}.{}", key, module)));
    return list;
  }

 private:
  const ordered_json& object_;
  std::string where_;
};

void read_lora(const Keys& keys, const std::string& where, AdaptConfig& config) {
  for (const char* key : kRefused)
    check(!keys.on(key), "{}: {} is {}, which is not supported", where, key, keys.shown(key));
  check(!keys.on("bias") || keys.word("bias", "") == "none", "{}: bias is {}; adapters without are supported", where,
        keys.shown("bias"));
  if (const ordered_json* start = keys.find("init_lora_weights"); start != nullptr && start->is_string()) {
    for (const char* word : kChangesBase)
      check(!start->get<std::string>().starts_with(word),
            "{}: init_lora_weights is {}, which changes the base's weights: convert it to a plain LoRA", where,
            start->dump());
  }
  config.r = keys.integer("r", 8);
  config.lora_alpha = keys.number("lora_alpha");
  if (keys.find("lora_dropout") != nullptr) config.lora_dropout = keys.number("lora_dropout");
  config.use_rslora = keys.on("use_rslora");
  config.use_dora = keys.on("use_dora");
  config.rank_pattern = keys.patterns<int64_t>(
      "rank_pattern", [&](const ordered_json& value, const std::string& key) { return keys.integer_of(value, key); });
  config.alpha_pattern = keys.patterns<double>(
      "alpha_pattern", [&](const ordered_json& value, const std::string& key) { return keys.number_of(value, key); });
}

ordered_json list_or_null(const std::vector<std::string>& words) {
  return words.empty() ? ordered_json() : ordered_json(words);
}

template <typename Number>
ordered_json object_of(const std::vector<std::pair<std::string, Number>>& pairs) {
  ordered_json object = ordered_json::object();
  for (const auto& [key, value] : pairs) object[key] = value;
  return object;
}

void write_lora(const AdaptConfig& config, const AdaptedBase& base, ordered_json& out) {
  const double alpha = config.lora_alpha;
  const bool whole = alpha == std::floor(alpha) && std::abs(alpha) < 1e15;
  out["r"] = config.r;
  out["lora_alpha"] = whole ? ordered_json(int64_t(alpha)) : ordered_json(alpha);
  out["lora_dropout"] = config.lora_dropout;
  out["fan_in_fan_out"] = base.transposed;
  out["bias"] = "none";
  out["use_rslora"] = config.use_rslora;
  out["use_dora"] = config.use_dora;
  out["init_lora_weights"] = true;
  out["target_modules"] = base.modules;
  out["exclude_modules"] = nullptr;
  out["rank_pattern"] = object_of(config.rank_pattern);
  out["alpha_pattern"] = object_of(config.alpha_pattern);
  out["layers_to_transform"] = nullptr;
  out["layers_pattern"] = nullptr;
  out["layer_replication"] = nullptr;
  out["lora_bias"] = false;
}

void write_ours(const AdaptConfig& config, ordered_json& out) {
  if (config.method == AdaptMethod::adapters) {
    out["adapter_kind"] = config.adapter_kind;
    out["reduction_factor"] = config.reduction_factor;
    out["non_linearity"] = config.non_linearity;
  }
  if (config.method == AdaptMethod::partial) {
    out["num_layers"] = config.num_layers;
    out["trainable"] = config.trainable;
  }
  if (config.num_labels > 0 && !config.problem_type.empty()) out["problem_type"] = config.problem_type;
}

}  // namespace

ordered_json peft_config(const AdaptConfig& config, const AdaptedBase& base) {
  const PeftType& type = type_of(config.method);
  ordered_json out;
  out["peft_type"] = type.name;
  out["auto_mapping"] = nullptr;
  out["base_model_name_or_path"] = base.name;
  out["revision"] = nullptr;
  out["task_type"] = config.num_labels > 0 ? "SEQ_CLS" : "CAUSAL_LM";
  out["inference_mode"] = true;
  const bool virtual_tokens = config.method == AdaptMethod::prefix || config.method == AdaptMethod::prompt;
  if (!virtual_tokens) out["modules_to_save"] = list_or_null(base.whole);
  if (config.method == AdaptMethod::lora) write_lora(config, base, out);
  if (config.method == AdaptMethod::ia3) {
    out["target_modules"] = base.modules;
    out["exclude_modules"] = nullptr;
    out["feedforward_modules"] = base.feed_forward;
    out["fan_in_fan_out"] = base.transposed;
    out["init_ia3_weights"] = true;
  }
  if (virtual_tokens) {
    const bool prefix = config.method == AdaptMethod::prefix;
    out["num_virtual_tokens"] = config.num_virtual_tokens;
    out["token_dim"] = prefix ? base.key_heads * base.head_width : base.width;
    out["num_transformer_submodules"] = 1;
    out["num_attention_heads"] = base.key_heads;
    out["num_layers"] = base.layers;
    if (prefix) {
      out["encoder_hidden_size"] = base.width;
      out["prefix_projection"] = false;
    } else {
      // SAMPLE_VOCAB is newer than most readers, and where training began changes nothing.
      const bool text = config.prompt_tuning_init == "TEXT";
      out["prompt_tuning_init"] = text ? "TEXT" : "RANDOM";
      out["prompt_tuning_init_text"] = text ? ordered_json(config.prompt_tuning_init_text) : ordered_json();
      out["tokenizer_name_or_path"] = text ? ordered_json(base.name) : ordered_json();
      out["tokenizer_kwargs"] = nullptr;
    }
  }
  if (type.ours) write_ours(config, out);
  return out;
}

AdaptConfig parse_peft_config(std::string_view text, const std::string& where) {
  parse_strict_json(text, where, kDepth);
  const ordered_json object = ordered_json::parse(text);
  const Keys keys(object, where);
  AdaptConfig config;
  const std::string given = keys.shown("peft_type");
  std::vector<std::string> names;
  const PeftType* type = nullptr;
  for (const PeftType& one : kTypes) {
    names.emplace_back(one.name);
    if (given == fmt::format("\"{}\"", one.name)) type = &one;
  }
  check(type != nullptr, "{}: peft_type is {}; adapters of {} are supported", where, given, join(names, ", "));
  config.method = type->method;
  for (const std::string& module : keys.words("modules_to_save"))
    check(module == "score" || module == "classifier" || module == "pooler",
          "{}: modules_to_save has '{}', which is not supported; score, classifier and pooler are", where, module);
  if (config.method == AdaptMethod::lora) read_lora(keys, where, config);
  config.feedforward_modules = keys.words("feedforward_modules");
  config.target_modules = keys.words("target_modules");
  config.num_virtual_tokens = keys.integer("num_virtual_tokens", config.num_virtual_tokens);
  config.adapter_kind = keys.word("adapter_kind", config.adapter_kind);
  config.reduction_factor = keys.integer("reduction_factor", config.reduction_factor);
  config.non_linearity = keys.word("non_linearity", config.non_linearity);
  config.num_layers = config.method == AdaptMethod::partial ? keys.integer("num_layers", 0) : 0;
  config.trainable = keys.words("trainable");
  config.problem_type = keys.word("problem_type", config.problem_type);
  return config;
}

graph::State read_adapter_tensors(const std::filesystem::path& file) {
  graph::State tensors;
  for (const auto& [name, from] : open_safetensors(file)) {
    check(from.type && !is_block_type(*from.type), "{}: {} is {}, which is no weight", file.string(), name,
          from.type_name);
    std::vector<std::byte> bytes(from.bytes);
    from.file->read(from.offset, bytes);
    std::vector<float> numbers(size_t(graph::element_count(from.shape)));
    dequantize_row(*from.type, bytes, numbers);
    const std::string own = name.starts_with(kPeftPrefix) ? name.substr(kPeftPrefix.size()) : name;
    tensors.emplace(own, graph::HostTensor({graph::DType::f32, from.shape}, {numbers.begin(), numbers.end()}));
  }
  return tensors;
}

void write_adapter(const std::filesystem::path& folder, const ordered_json& config, const graph::State& tensors) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  check(!error, "{}: {}", folder.string(), error.message());
  Safetensors content;
  content.metadata["format"] = "pt";
  for (const auto& [name, tensor] : tensors)
    content.tensors.emplace(name == kPromptEmbeddings ? name : std::string(kPeftPrefix) + name, tensor);
  const std::vector<std::byte> bytes = format_safetensors(content);
  write_file_atomic(folder / kAdapterTensors, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  write_file_atomic(folder / kAdapterConfig, json_text(config, 2) + "\n");
}

}  // namespace surtsey::experiments
