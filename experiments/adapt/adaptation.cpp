#include "experiments/adapt/adaptation.h"

#include "experiments/adapt/adapter_graph.h"
#include "experiments/adapt/packed.h"
#include "experiments/base/join.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/stack.h"
#include "graph/functions.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Initialisation;
using graph::Value;

constexpr size_t kMostListed = 12;

// The names there are, shortly.
std::string listed(const std::set<std::string>& names) {
  std::vector<std::string> some(names.begin(), names.end());
  const size_t more = some.size() > kMostListed ? some.size() - kMostListed : 0;
  some.resize(some.size() - more);
  return join(some, ", ") + (more > 0 ? fmt::format(" and {} more", more) : "");
}

std::string last_word(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// Linear's own start in PyTorch: uniform within 1 / sqrt(in).
Initialisation linear_start(int64_t in) { return Initialisation::uniform(1 / std::sqrt(double(in))); }

graph::HostTensor read_base(const hub::Source& source, const ModelConfig& config, const graph::ParameterSpec& spec) {
  const std::vector<float> numbers = source.read_floats(hub::source_name(config, spec.name));
  const auto count = size_t(graph::element_count(spec.shape));
  // A table of positions may be longer than texts are to be.
  ensure(numbers.size() >= count, "{}: {} has {} numbers, {} wants {}", source.path().string(), spec.name,
         numbers.size(), spec.name, count);
  return {spec.type(), {numbers.begin(), numbers.begin() + std::ptrdiff_t(count)}};
}

}  // namespace

void Adaptation::describe(const Model& model) {
  model_ = model.config();
  for (const graph::ParameterSpec& spec : model.store().specs()) {
    check(!spec.name.starts_with(hub::kAdapterPrefix), "the model has an adapter already: {}", spec.name);
    parameters_.push_back(spec);
    parameters_.back().storage = nullptr;
  }
  modules_ = modules_of(model, source_);
  if (source_ == nullptr) return;
  base_ = [source = source_, config = model_, specs = parameters_](const std::string& name) {
    const auto spec = std::find_if(specs.begin(), specs.end(), [&](const auto& one) { return one.name == name; });
    ensure(spec != specs.end(), "[adapt] the base has no parameter {}", name);
    return read_base(*source, config, *spec);
  };
}

Adaptation::Adaptation(AdaptConfig config, const hub::Source& source, const Model& model)
    : config_(std::move(config)), source_(&source) {
  describe(model);
  plan();
}

Adaptation::Adaptation(AdaptConfig config, const Model& model, BaseTensor base)
    : config_(std::move(config)), base_(std::move(base)) {
  describe(model);
  plan();
}

std::string Adaptation::stack_prefix() const { return main_stack(model_).prefix; }

void Adaptation::add(const std::string& name, graph::Shape shape, Initialisation initialisation, bool made) {
  added_.push_back({adapter_parameter(name), std::move(shape), initialisation, made});
}

// ---- what trains ----

// PEFT's choice where no modules are named.
std::vector<std::string> Adaptation::default_modules() const {
  const bool scales = config_.method == AdaptMethod::ia3;
  std::set<std::string> words;
  for (const Module& module : modules_) words.insert(last_word(module.name));
  const auto have = [&](std::vector<std::string> wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const auto& word) { return words.contains(last_word(word)); });
  };
  // GPT-2; LLaMA, of which Qwen scales q, not k; BERT; T5.
  const bool qwen = source_ != nullptr && source_->config().family() == hub::Family::llama &&
                    source_->config().llama().model_type.starts_with("qwen");
  const std::vector<std::string> choices[][2] = {
      {{"c_attn"}, {"c_attn", "mlp.c_proj"}},
      {{"q_proj", "v_proj"}, {qwen ? "q_proj" : "k_proj", "v_proj", "down_proj"}},
      {{"query", "value"}, {"key", "value", "output.dense"}},
      {{"q", "v"}, {"k", "v", have({"wo"}) ? "wo" : "down"}}};
  for (const auto& choice : choices)
    if (have(choice[scales ? 1 : 0])) return choice[scales ? 1 : 0];
  return {"all-linear"};
}

void Adaptation::target_modules(const std::vector<std::string>& asked) {
  std::set<std::string> names;
  for (const Module& module : modules_) names.insert(module.name);
  std::set<size_t> chosen;
  const auto match = [&](const char* key, const std::string& one, auto&& found) {
    bool any = false;
    for (size_t i = 0; i < modules_.size(); ++i) {
      const bool whole = is_saved_whole(modules_[i].parts.front().weight);
      const bool fits = one == "all-linear" ? !modules_[i].head && !whole : names_module(one, modules_[i].name);
      check(!fits || !whole, "{}: '{}' is {}, which trains whole", key, one, modules_[i].name);
      if (fits) found(i);
      any = any || fits;
    }
    check(any, "{}: '{}' matches no module; there are {}", key, one, listed(names));
  };
  for (const std::string& one : asked) match("target_modules", one, [&](size_t i) { chosen.insert(i); });
  std::set<size_t> inputs;
  std::vector<std::string> forward = config_.feedforward_modules;
  if (config_.method == AdaptMethod::ia3 && config_.target_modules.empty() && forward.empty()) forward = {asked.back()};
  for (const std::string& one : forward) match("feedforward_modules", one, [&](size_t i) { inputs.insert(i); });
  for (const size_t i : inputs)
    check(chosen.contains(i), "feedforward_modules: {} is none of target_modules", modules_[i].name);
  for (const auto& [key, rank] : config_.rank_pattern)
    check(std::any_of(chosen.begin(), chosen.end(),
                      [&](size_t i) { return pattern_names_module(key, modules_[i].name); }),
          "rank_pattern: '{}' matches no module that is changed; there are {}", key, listed(names));
  for (const auto& [key, alpha] : config_.alpha_pattern)
    check(std::any_of(chosen.begin(), chosen.end(),
                      [&](size_t i) { return pattern_names_module(key, modules_[i].name); }),
          "alpha_pattern: '{}' matches no module that is changed; there are {}", key, listed(names));
  for (const size_t i : chosen) {
    const std::string& module = modules_[i].name;
    const int64_t rank = config_.rank_of(module);
    targets_.push_back({i, rank, config_.scale_of(module, rank), inputs.contains(i)});
  }
}

// Parameters of the base that train: full, partial, bitfit.
void Adaptation::plan_base() {
  std::set<std::string> names, chosen(whole_.begin(), whole_.end());
  for (const graph::ParameterSpec& spec : parameters_) names.insert(spec.name);
  if (config_.method == AdaptMethod::full) chosen.insert(names.begin(), names.end());
  if (config_.method == AdaptMethod::bitfit)
    for (const std::string& name : names)
      if (name.ends_with(".bias")) chosen.insert(name);
  if (config_.method == AdaptMethod::partial) {
    for (const std::string& pattern : config_.trainable) {
      bool any = false;
      for (const std::string& name : names) {
        if (!fits_pattern(pattern, name)) continue;
        chosen.insert(name);
        any = true;
      }
      check(any, "trainable: '{}' matches no parameter; there are {}", pattern, listed(names));
    }
    check(config_.num_layers <= model_.n_layer, "num_layers is {}, the model has {} blocks", config_.num_layers,
          model_.n_layer);
    for (const std::string& name : names) {
      if (config_.num_layers == 0) break;
      const std::string prefix = stack_prefix();
      bool on = name.starts_with(prefix + "norm.") || name.starts_with(prefix + "head.") ||
                name.starts_with(prefix + "pooler.");
      for (int64_t i = model_.n_layer - config_.num_layers; i < model_.n_layer; ++i)
        on = on || name.starts_with(fmt::format("{}blocks.{}.", prefix, i));
      if (on) chosen.insert(name);
    }
  }
  // In the order of the store.
  for (const graph::ParameterSpec& spec : parameters_)
    if (chosen.contains(spec.name)) trained_.push_back(spec.name);
}

std::string Adaptation::head_name() const {
  return model_.architecture == Architecture::encoder ? "classifier" : "score";
}

// What trains whatever the method: the head of labels, and a pooler that no file has.
void Adaptation::plan_head() {
  if (config_.num_labels == 0) return;
  check(model_.head == HeadKind::classify && model_.n_labels == config_.num_labels,
        "num_labels is {}, and {} has no head of so many labels", config_.num_labels,
        source_ == nullptr ? "the model" : source_->path().string());
  for (const graph::ParameterSpec& spec : parameters_) {
    const bool pooler = spec.name.starts_with("pooler.") &&
                        (saves_pooler_ || (source_ != nullptr && source_->is_new(hub::source_name(model_, spec.name))));
    if (pooler || spec.name.starts_with("head.")) whole_.push_back(spec.name);
  }
}

bool Adaptation::is_saved_whole(const std::string& parameter) const {
  return std::find(whole_.begin(), whole_.end(), parameter) != whole_.end();
}

// Whether it begins with numbers that are drawn, for the base has none.
bool Adaptation::is_new(const std::string& parameter) const {
  if (!is_saved_whole(parameter)) return false;
  return source_ == nullptr || source_->is_new(hub::source_name(model_, parameter));
}

// A parameter of the base in an adapter's file.
std::string Adaptation::file_name(const std::string& parameter) const {
  if (!is_saved_whole(parameter)) return hub::source_name(model_, parameter);
  const std::string end = last_word(parameter), matrix = parameter.substr(0, parameter.size() - end.size() - 1);
  if (matrix == "head") return fmt::format("{}.{}", head_name(), end);
  for (const Module& module : modules_)
    if (module.parts.front().matrix == matrix) return fmt::format("{}.{}", module.name, end);
  return parameter;
}

// Modules behind which an adapter stands, by our names of the matrices.
std::map<std::string, std::string> Adaptation::bottlenecks() const {
  std::map<std::string, std::string> places;
  for (const Module& module : modules_) {
    const std::string& matrix = module.parts.front().matrix;
    const bool behind_attention = matrix.ends_with("attention.out") || matrix.ends_with("cross.out");
    if (matrix.ends_with("mlp.down") || (behind_attention && config_.adapter_kind == "houlsby"))
      places[matrix] = module.name;
  }
  return places;
}

void Adaptation::plan() {
  check_adapt_config(config_);
  const AdaptMethod method = config_.method;
  const int64_t C = model_.n_embd;
  plan_head();
  if ((method == AdaptMethod::lora || method == AdaptMethod::ia3) && targets_.empty())
    target_modules(config_.target_modules.empty() ? default_modules() : config_.target_modules);
  for (const Target& target : targets_) {
    const Module& module = modules_[target.module];
    if (method == AdaptMethod::ia3) {
      add(module.name + ".ia3_l", target.input ? graph::Shape{1, module.in} : graph::Shape{module.out, 1},
          Initialisation::constant(1));
      continue;
    }
    add(module.name + ".lora_A.weight", {target.rank, module.in}, linear_start(module.in));
    add(module.name + ".lora_B.weight", {module.out, target.rank}, Initialisation::constant(0));
    if (!config_.use_dora) continue;
    add(module.name + ".lora_magnitude_vector", {module.out}, Initialisation::constant(0));
    add(module.name + ".weight_norm", {module.out}, Initialisation::constant(0), true);
  }
  if (method == AdaptMethod::adapters) {
    check(model_.mlp || config_.adapter_kind == "houlsby", "adapter_kind pfeiffer: the model has no MLP");
    const int64_t inside = std::max<int64_t>(1, C / config_.reduction_factor);
    for (const auto& [matrix, module] : bottlenecks()) {
      add(module + ".adapter_down.weight", {inside, C}, linear_start(C));
      add(module + ".adapter_down.bias", {inside}, Initialisation::constant(0));
      add(module + ".adapter_up.weight", {C, inside}, Initialisation::constant(0));
      add(module + ".adapter_up.bias", {C}, Initialisation::constant(0));
    }
  }
  if (method == AdaptMethod::prefix) {
    const int64_t width = model_.kv_heads() * model_.head_width();
    for (int64_t i = 0; i < model_.n_layer; ++i)
      for (const char* part : {"key", "value"})
        add(fmt::format("prefix.{}.{}", i, part), {config_.num_virtual_tokens, width}, Initialisation::normal(1));
  }
  if (method == AdaptMethod::prompt)
    add("prompt_embeddings", {config_.num_virtual_tokens, C}, Initialisation::normal(1));
  if (method == AdaptMethod::prefix || method == AdaptMethod::prompt)
    check(model_.architecture == Architecture::decoder && model_.position != Position::relative,
          "method {}: virtual tokens stand before the text of a decoder, not of an encoder or an encoder-decoder, and "
          "not with relative positions; full, partial, lora, adapters, bitfit, ia3 and head are for each",
          name(method));
  plan_base();
  if (method == AdaptMethod::bitfit) {
    const auto biased = [](const Module& module) { return !module.parts.front().bias.empty(); };
    const bool none = std::none_of(modules_.begin(), modules_.end(), biased);
    for (const Module& module : modules_) {
      if (none && module.parts.front().matrix.find("blocks.") != std::string::npos)
        add(module.name + ".bias", {module.out}, Initialisation::constant(0));
    }
  }
}

int64_t Adaptation::virtual_tokens() const {
  const bool has = config_.method == AdaptMethod::prefix || config_.method == AdaptMethod::prompt;
  return has ? config_.num_virtual_tokens : 0;
}

std::vector<std::string> Adaptation::modules() const {
  std::vector<std::string> names;
  for (const Target& target : targets_) names.push_back(modules_[target.module].name);
  if (config_.method == AdaptMethod::adapters)
    for (const auto& [matrix, module] : bottlenecks()) names.push_back(module);
  std::sort(names.begin(), names.end());
  return names;
}

void Adaptation::vary_rank() {
  check(config_.method == AdaptMethod::lora && config_.rank_pattern.empty() && config_.alpha_pattern.empty(),
        "ranks differ by member in LoRA alone, without rank_pattern and alpha_pattern");
  varies_ = true;
}

graph::HostTensor Adaptation::rank_scale(int64_t rank) const {
  check(rank >= 1 && rank <= config_.r, "a member's rank is from 1 to r, {}, not {}", config_.r, rank);
  graph::HostTensor scale = graph::HostTensor::zeros({DType::f32, {config_.r}});
  std::fill_n(scale.values.begin(), rank, config_.scale_of("", rank));
  scale.round_to_storage();
  return scale;
}

// ---- installing ----

void Adaptation::install(Model& model, const graph::Target& target) const {
  if (config_.method != AdaptMethod::full) {
    if (source_ != nullptr) {
      freeze_weights(model, *source_, config_.weights, target);
    } else {
      freeze_weights(model.store(), config_.weights == "stored" ? "f32" : config_.weights);
    }
    const std::set<std::string> trained(trained_.begin(), trained_.end());
    model.store().train([&](const graph::ParameterSpec& spec) { return trained.contains(spec.name); });
  }
  attach(model, false);
}

void Adaptation::install_frozen(Model& model) const { attach(model, true); }

void Adaptation::attach(Model& model, bool frozen) const {
  std::set<std::string> still;
  for (const Added& one : added_) {
    model.store().add(one.name, one.shape, one.initialisation);
    if (frozen || one.made) still.insert(one.name);
  }
  model.store().freeze([&](const graph::ParameterSpec& spec) { return still.contains(spec.name); });
  hang_hooks(model);
  if (virtual_tokens() > 0) hang_virtual_tokens(model);
  if (config_.method == AdaptMethod::lora && config_.lora_dropout > 0 && !frozen) model.let_hooks_draw();
}

void Adaptation::hang_hooks(Model& model) const {
  std::map<std::string, LowRank> low;
  std::map<std::string, ScaledModule> scaled;
  for (const Target& target : targets_) {
    const Module& module = modules_[target.module];
    for (const ModulePart& part : module.parts) {
      if (config_.method == AdaptMethod::lora) {
        low[part.matrix] = {adapter_parameter(module.name),
                            part,
                            module.out,
                            target.scale,
                            config_.lora_dropout,
                            config_.use_dora,
                            varies_};
      } else {
        scaled[part.matrix] = {adapter_parameter(module.name), part, target.input};
      }
    }
  }
  if (!low.empty()) model.on_projection(low_rank_hook(std::move(low)));
  if (!scaled.empty()) model.on_projection(scaled_hook(std::move(scaled)));
  if (config_.method == AdaptMethod::adapters) {
    std::map<std::string, std::string> places = bottlenecks();
    for (auto& [matrix, module] : places) module = adapter_parameter(module);
    model.on_projection(bottleneck_hook(std::move(places), config_.non_linearity));
  }
  if (config_.method == AdaptMethod::bitfit) {
    std::map<std::string, Biased> biased;
    for (const Module& module : modules_) {
      if (!model.store().contains(adapter_parameter(module.name + ".bias"))) continue;
      for (const ModulePart& part : module.parts) biased[part.matrix] = {adapter_parameter(module.name), part};
    }
    if (!biased.empty()) model.on_projection(bias_hook(std::move(biased)));
  }
}

void Adaptation::hang_virtual_tokens(Model& model) const {
  VirtualTokens tokens{.count = virtual_tokens()};
  if (config_.method == AdaptMethod::prompt) {
    tokens.embeddings = [](graph::Parameters& parameters) {
      return parameters.get(adapter_parameter("prompt_embeddings"));
    };
  } else {
    const graph::Shape heads = {virtual_tokens(), model_.kv_heads(), model_.head_width()};
    tokens.keys = [heads](graph::Parameters& parameters, const std::string& attention) {
      const std::string block = attention.substr(0, attention.rfind('.'));
      const auto part = [&](const char* which) {
        const Value rows = parameters.get(adapter_parameter(fmt::format("prefix.{}.{}", last_word(block), which)));
        return graph::permute(graph::reshape(rows, heads), {1, 0, 2});
      };
      return std::array<Value, 2>{part("key"), part("value")};
    };
  }
  model.set_virtual_tokens(std::move(tokens));
}

}  // namespace surtsey::experiments
