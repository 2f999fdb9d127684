#include "experiments/models/hub/rope.h"

#include "experiments/base/join.h"

#include <algorithm>

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;

constexpr RopeType kRopeTypes[] = {RopeType::plain, RopeType::linear,   RopeType::dynamic,
                                   RopeType::yarn,  RopeType::longrope, RopeType::llama3};
constexpr double kMostFactor = 1e6;
constexpr double kMostTheta = 1e12;
constexpr int64_t kMostPositions = int64_t(1) << 24;

// Parameters of each type beside rope_type, type and rope_theta: those it cannot do without first.
struct Parameters {
  std::vector<std::string> required, optional;
};

Parameters parameters_of(RopeType type) {
  const std::string original = "original_max_position_embeddings";
  switch (type) {
    case RopeType::plain:
      return {{}, {"factor", original}};
    case RopeType::linear:
    case RopeType::dynamic:
      return {{"factor"}, {original}};
    case RopeType::yarn:
      return {{"factor"},
              {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", original}};
    case RopeType::longrope:
      return {{"short_factor", "long_factor"}, {"factor", "attention_factor", original}};
    case RopeType::llama3:
      return {{"factor", "low_freq_factor", "high_freq_factor", original}, {}};
  }
  return {};
}

RopeType parse_type(const Fields& fields) {
  const std::string word = fields.word("rope_type", fields.word("type", "default"));
  std::vector<std::string> names;
  for (const RopeType type : kRopeTypes) {
    if (word == name(type)) return type;
    names.emplace_back(name(type));
  }
  throw UserError(
      fmt::format("{}: rope_type '{}' is not supported; there are {}", fields.where(), word, join(names, ", ")));
}

std::vector<double> factors(const Fields& fields, const char* key, int64_t head_dim) {
  const std::vector<double> values = fields.list(key, number_element);
  check(int64_t(values.size()) == head_dim / 2, "{}: {} has {} numbers, half a head has {}", fields.where(), key,
        values.size(), head_dim / 2);
  for (const double value : values) {
    check(value > 0 && value <= kMostFactor, "{}: {} has {:g}, a factor is positive and at most {:g}", fields.where(),
          key, value, kMostFactor);
  }
  return values;
}

}  // namespace

RopeConfig parse_rope(const Fields& config, int64_t head_dim) {
  RopeConfig rope;
  rope.theta = config.number("rope_theta", rope.theta, 1, kMostTheta);
  const json* scaling = config.find("rope_scaling");
  const json* parameters = config.find("rope_parameters");
  check(scaling == nullptr || parameters == nullptr || *scaling == *parameters,
        "{}: rope_scaling and rope_parameters contradict each other", config.where());
  const char* key = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  const json* object = parameters != nullptr ? parameters : scaling;
  if (object == nullptr) return rope;
  check(object->is_object(), "{}: {} is no object", config.where(), key);
  const Fields fields(*object, config.where() + ": " + key);
  rope.theta = fields.number("rope_theta", rope.theta, 1, kMostTheta);
  rope.type = parse_type(fields);

  const Parameters known = parameters_of(rope.type);
  for (const std::string& parameter : known.required) {
    check(fields.has(parameter), "{}: rope_type '{}' takes {}, which is missing", fields.where(), name(rope.type),
          parameter);
  }
  for (const auto& [parameter, value] : object->items()) {
    const bool of_all = parameter == "rope_type" || parameter == "type" || parameter == "rope_theta";
    const auto in = [&](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), parameter) != names.end();
    };
    const bool whole = parameter == "partial_rotary_factor" && value == 1.0;  // all of the head turns
    check(of_all || whole || value.is_null() || in(known.required) || in(known.optional),
          "{}: rope_type '{}' with {} is not supported", fields.where(), name(rope.type), parameter);
  }
  if (rope.type == RopeType::plain) return rope;
  rope.has_factor = fields.has("factor");
  if (rope.has_factor) rope.factor = fields.number("factor", 1, 1e-6, kMostFactor);
  rope.original_positions = fields.integer("original_max_position_embeddings", 0, 1, kMostPositions);
  rope.attention_factor = fields.optional_number("attention_factor", 1e-6, kMostFactor);
  rope.beta_fast = fields.number("beta_fast", rope.beta_fast, 1e-6, kMostFactor);
  rope.beta_slow = fields.number("beta_slow", rope.beta_slow, 1e-6, kMostFactor);
  check(rope.beta_slow <= rope.beta_fast, "{}: beta_slow {:g} is above beta_fast {:g}", fields.where(), rope.beta_slow,
        rope.beta_fast);
  rope.mscale = fields.optional_number("mscale", 0, kMostFactor);
  rope.mscale_all_dim = fields.optional_number("mscale_all_dim", 0, kMostFactor);
  rope.truncate = fields.flag("truncate", true);
  if (rope.type == RopeType::longrope) {
    rope.short_factor = factors(fields, "short_factor", head_dim);
    rope.long_factor = factors(fields, "long_factor", head_dim);
  }
  if (rope.type == RopeType::llama3) {
    rope.low_frequency_factor = fields.number("low_freq_factor", 1, 1e-6, kMostFactor);
    rope.high_frequency_factor = fields.number("high_freq_factor", 4, 1e-6, kMostFactor);
    check(rope.low_frequency_factor < rope.high_frequency_factor,
          "{}: low_freq_factor {:g} is not below high_freq_factor {:g}", fields.where(), rope.low_frequency_factor,
          rope.high_frequency_factor);
  }
  return rope;
}

void add_rope(json& config, const RopeConfig& rope) {
  config["rope_theta"] = rope.theta;
  config["rope_scaling"] = nullptr;
  if (rope.type == RopeType::plain) return;
  json scaling = {{"rope_type", name(rope.type)}};
  if (rope.has_factor) scaling["factor"] = rope.factor;
  if (rope.original_positions > 0) scaling["original_max_position_embeddings"] = rope.original_positions;
  if (rope.attention_factor) scaling["attention_factor"] = *rope.attention_factor;
  if (rope.type == RopeType::yarn) {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    if (rope.mscale) scaling["mscale"] = *rope.mscale;
    if (rope.mscale_all_dim) scaling["mscale_all_dim"] = *rope.mscale_all_dim;
    if (!rope.truncate) scaling["truncate"] = false;
  }
  if (rope.type == RopeType::longrope) {
    scaling["short_factor"] = rope.short_factor;
    scaling["long_factor"] = rope.long_factor;
  }
  if (rope.type == RopeType::llama3) {
    scaling["low_freq_factor"] = rope.low_frequency_factor;
    scaling["high_freq_factor"] = rope.high_frequency_factor;
  }
  config["rope_scaling"] = std::move(scaling);
}

}  // namespace surtsey::experiments::hub
