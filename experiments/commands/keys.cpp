#include "experiments/commands/keys.h"

#include "graph/error.h"

#include <toml++/toml.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::json;

struct Pair {
  std::string key;
  std::string text;  // as an override would have it
  std::string source;
};

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string as_text(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void add_file(const std::string& file, std::vector<Pair>& pairs) {
  json content;
  std::ifstream in(file);
  check(in.good(), "--config: {} cannot be read", file);
  if (file.ends_with(".json")) {
    content = json::parse(in, nullptr, false);
    check(content.is_object(), "{} is not a JSON object", file);
    // A checkpoint keeps the model's keys in an object of their own.
    for (const char* inside : {"config", "model"}) {
      if (content.contains(inside) && content[inside].is_object()) content = json(content[inside]);
    }
  } else {
    try {
      std::ostringstream text;
      text << toml::json_formatter(toml::parse(in, file));
      content = json::parse(text.str());
    } catch (const toml::parse_error& error) {
      const auto& at = error.source().begin;
      throw UserError(fmt::format("{}:{}:{}: {}", file, uint32_t(at.line), uint32_t(at.column), error.description()));
    }
  }
  for (const auto& [key, value] : content.items()) pairs.push_back({key, as_text(value), file});
}

// The type of a model's key decides how its text is read.
json model_value(const json& known, const std::string& text) {
  if (known.is_string()) return text;
  const json value = json::parse(text, nullptr, false);
  return value.is_discarded() ? json(text) : value;
}

}  // namespace

std::vector<std::string> normalise_keys(const std::vector<std::string>& arguments) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    check(argument.starts_with("--") && argument.size() > 2, "unexpected argument '{}'", argument);
    if (argument.find('=') != std::string::npos) {
      keys.push_back(argument);
    } else {
      const bool has_value = i + 1 < arguments.size() && !arguments[i + 1].starts_with("--");
      check(has_value, "'{}' needs a value: {}=VALUE", argument, argument);
      keys.push_back(argument + "=" + arguments[++i]);
    }
  }
  return keys;
}

void read_keys(ModelConfig& model, ConfigTable& table, const std::string& file,
               const std::vector<std::string>& arguments) {
  std::vector<Pair> pairs;
  if (!file.empty()) add_file(file, pairs);
  for (const std::string& argument : normalise_keys(arguments)) {
    const size_t equals = argument.find('=');
    pairs.push_back({argument.substr(2, equals - 2), argument.substr(equals + 1), argument});
  }
  const std::vector<std::string> model_keys = model_config_keys();
  const json known = to_json(model);
  std::vector<std::string> all = model_keys;
  all.push_back("model");
  for (const ConfigField& field : table.fields()) all.push_back(field.name);

  for (const Pair& pair : pairs) {
    if (pair.key == "model") apply_descriptor(model, pair.text);
  }
  json changes = json::object();
  for (const Pair& pair : pairs) {
    if (pair.key == "model") continue;
    if (contains(model_keys, pair.key)) {
      changes[pair.key] = model_value(known.value(pair.key, json()), pair.text);
      continue;
    }
    const std::string near = nearest_word(pair.key, all);
    check(contains(all, pair.key), "{}: unknown key '{}'{}", pair.source, pair.key,
          near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
    table.override_one(fmt::format("--{}={}", pair.key, pair.text));
  }
  model = model_config_from_json(changes, model);
}

}  // namespace surtsey::experiments::commands
