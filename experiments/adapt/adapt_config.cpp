#include "experiments/adapt/adapt_config.h"

#include "experiments/base/join.h"
#include "experiments/tasks/tuning/labels.h"
#include "experiments/text/regex.h"
#include "graph/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace surtsey::experiments {
namespace {

constexpr const char* kMethods[] = {"full", "partial", "lora", "adapters", "prefix", "prompt", "bitfit", "ia3", "head"};
constexpr int64_t kMostRank = 65536;

std::vector<std::string> method_names() { return {std::begin(kMethods), std::end(kMethods)}; }

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

void check_word(const char* key, const std::string& word, std::initializer_list<std::string_view> words) {
  check(one_of(word, words), "{} is '{}'; there are {}", key, word,
        join(std::vector<std::string>(words.begin(), words.end()), ", "));
}

// NAME=NUMBER
template <typename Number>
std::vector<std::pair<std::string, Number>> parse_patterns(const char* key, const std::vector<std::string>& entries) {
  std::vector<std::pair<std::string, Number>> result;
  for (const std::string& entry : entries) {
    const size_t at = entry.rfind('=');
    Number value{};
    const char* const end = entry.data() + entry.size();
    const bool split = at != std::string::npos && at > 0;
    const auto parsed = split ? std::from_chars(entry.data() + at + 1, end, value) : std::from_chars_result{end, {}};
    check(split && parsed.ec == std::errc() && parsed.ptr == end && at + 1 < entry.size(),
          "{}: '{}' is not NAME=NUMBER, as q_proj=16", key, entry);
    result.emplace_back(entry.substr(0, at), value);
  }
  return result;
}

}  // namespace

const char* name(AdaptMethod method) { return kMethods[size_t(method)]; }

AdaptMethod parse_adapt_method(std::string_view name) {
  const auto found = std::find(std::begin(kMethods), std::end(kMethods), name);
  check(found != std::end(kMethods), "method is '{}'; there are {}", name, join(method_names(), ", "));
  return AdaptMethod(found - std::begin(kMethods));
}

bool fits_pattern(std::string_view pattern, std::string_view name) {
  // The last * and the place in the name from which it has taken nothing yet.
  size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == name[n]))) {
      ++p;
      ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return pattern.substr(p).find_first_not_of('*') == std::string_view::npos;
}

bool names_module(std::string_view asked, std::string_view module) {
  if (asked.find_first_of("*?") != std::string_view::npos) return fits_pattern(asked, module);
  return module == asked || (module.ends_with(asked) && module[module.size() - asked.size() - 1] == '.');
}

bool pattern_names_module(std::string_view key, std::string_view module) {
  if (names_module(key, module)) return true;
  if (key.find_first_of("\\[](){}|^$+*?") == std::string_view::npos) return false;
  const text::Regex whole(fmt::format("\\A(?:.*\\.)?(?:{})\\z", key), "rank_pattern, alpha_pattern");
  bool found = false;
  whole.for_each_match(module, [&](size_t, size_t) { found = true; });
  return found;
}

int64_t AdaptConfig::rank_of(std::string_view module) const {
  for (const auto& [key, rank] : rank_pattern)
    if (pattern_names_module(key, module)) return rank;
  return r;
}

double AdaptConfig::scale_of(std::string_view module, int64_t rank) const {
  double alpha = lora_alpha;
  for (const auto& [key, own] : alpha_pattern) {
    if (!pattern_names_module(key, module)) continue;
    alpha = own;
    break;
  }
  return alpha / (use_rslora ? std::sqrt(double(rank)) : double(rank));
}

void check_adapt_config(const AdaptConfig& config) {
  const auto whole = [](const char* key, int64_t value, int64_t least, int64_t most) {
    check(value >= least && value <= most, "{} is from {} to {}, not {}", key, least, most, value);
  };
  const auto number = [](const std::string& key, double value) {
    check(std::isfinite(value) && std::abs(value) <= kLargestNumber, "{} is {}, not a number", key, value);
  };
  whole("r", config.r, 1, kMostRank);
  for (const auto& [key, rank] : config.rank_pattern)
    whole(fmt::format("rank_pattern: {}", key).c_str(), rank, 1, kMostRank);
  number("lora_alpha", config.lora_alpha);
  for (const auto& [key, alpha] : config.alpha_pattern) number("alpha_pattern: " + key, alpha);
  check(config.lora_dropout >= 0 && config.lora_dropout < 1, "lora_dropout is from 0 to below 1, not {}",
        config.lora_dropout);
  whole("reduction_factor", config.reduction_factor, 1, kMostRank);
  whole("num_virtual_tokens", config.num_virtual_tokens, 1, 1 << 20);
  whole("num_layers", config.num_layers, 0, 1000);
  whole("num_labels", config.num_labels, 0, 1 << 20);
  check_word("adapter_kind", config.adapter_kind, {"houlsby", "pfeiffer"});
  check_word("non_linearity", config.non_linearity, {"relu", "gelu", "tanh", "swish"});
  check_word("prompt_tuning_init", config.prompt_tuning_init, {"RANDOM", "SAMPLE_VOCAB", "TEXT"});
  if (!config.problem_type.empty()) tasks::parse_problem_type(config.problem_type);
  check(config.method != AdaptMethod::partial || config.num_layers > 0 || !config.trainable.empty(),
        "method partial wants num_layers (of the last blocks) or trainable (patterns of parameters' names)");
  check(config.method != AdaptMethod::head || config.num_labels > 0, "method head wants num_labels: of a regression 1");
  check(config.prompt_tuning_init != "TEXT" || !config.prompt_tuning_init_text.empty(),
        "prompt_tuning_init TEXT wants prompt_tuning_init_text");
  check(config.method != AdaptMethod::ia3 || !config.use_dora, "use_dora is LoRA's, the method is ia3");
}

void add_adapt_fields(ConfigTable& table, AdaptKeys& keys) {
  AdaptConfig& c = keys.config;
  table.add("method", &keys.method, "what trains").one_of(method_names());
  table.add("weights", &c.weights,
            "what the base is kept in: stored (as its file has it), f32, f16, bf16, q8_0, q4_0, int8, int4");
  table.add("num_layers", &c.num_layers, "partial: the last so many blocks").at_least(0).at_most(1000);
  table.add("trainable", &c.trainable, "partial: names of parameters, by patterns with * and ?");
  table.add("target_modules", &c.target_modules,
            "lora, ia3: ends or patterns of modules' names, or all-linear; empty: PEFT's choice for the family");
  table.add("r", &c.r, "lora: the rank").at_least(1).at_most(double(kMostRank));
  table.add("lora_alpha", &c.lora_alpha, "lora: the change is times lora_alpha / r");
  table.add("lora_dropout", &c.lora_dropout, "lora: of what A reads, in training").at_least(0).at_most(.99);
  table.add("use_rslora", &c.use_rslora, "lora: times lora_alpha / sqrt(r)");
  table.add("use_dora", &c.use_dora, "lora: rows' lengths train apart from their directions");
  table.add("rank_pattern", &keys.rank_pattern, "lora: NAME=RANK, of modules whose name ends so");
  table.add("alpha_pattern", &keys.alpha_pattern, "lora: NAME=ALPHA");
  table.add("feedforward_modules", &c.feedforward_modules, "ia3: modules whose input is scaled, not their output");
  table.add("adapter_kind", &c.adapter_kind, "adapters: behind attention and the MLP, or behind the MLP alone")
      .one_of({"houlsby", "pfeiffer"});
  table.add("reduction_factor", &c.reduction_factor, "adapters: n_embd over the width inside").at_least(1);
  table.add("non_linearity", &c.non_linearity, "adapters: inside").one_of({"relu", "gelu", "tanh", "swish"});
  table.add("num_virtual_tokens", &c.num_virtual_tokens, "prefix, prompt: how many stand before a text").at_least(1);
  table.add("prompt_tuning_init", &c.prompt_tuning_init, "prompt: where they start")
      .one_of({"RANDOM", "SAMPLE_VOCAB", "TEXT"});
  table.add("prompt_tuning_init_text", &c.prompt_tuning_init_text, "prompt: of TEXT");
  table.add("num_labels", &c.num_labels, "of a head of labels that trains beside the method; 0: none").at_least(0);
  table.add("problem_type", &c.problem_type,
            "regression, single_label_classification, multi_label_classification; empty: by num_labels and the rows");
}

AdaptConfig adapt_config(const AdaptKeys& keys) {
  AdaptConfig config = keys.config;
  config.method = parse_adapt_method(keys.method);
  config.rank_pattern = parse_patterns<int64_t>("rank_pattern", keys.rank_pattern);
  config.alpha_pattern = parse_patterns<double>("alpha_pattern", keys.alpha_pattern);
  check_adapt_config(config);
  return config;
}

}  // namespace surtsey::experiments
