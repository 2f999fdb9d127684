#include "experiments/commands/keys.h"

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/models/shapes.h"
#include "graph/error.h"

#include <toml++/toml.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::json;

// A key of a model, or one that nobody knows.
struct Pair {
  std::string key;
  std::string text;    // as an override would have it
  std::string source;  // for messages: FILE:LINE:COLUMN, or the argument
};

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string as_text(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// What nanoGPT's command line has and this one spells otherwise, or does without.
std::string instead_of(const std::string& key) {
  static const std::map<std::string, const char*> kInstead = {
      {"always_save_checkpoint", "every eval_interval saves; leave it out"},
      {"backend", "there is one device; leave it out"},
      {"compile", "every model is compiled; leave it out"},
      {"dataset", "name the text itself: --data=FILE"},
      {"init_from", "go on with --resume, begin with the weights of a run with --from=RUN"},
      {"out_dir", "it is --out"},
      {"wandb_log", "curves are in metrics.csv and, for TensorBoard, in events/; leave it out"},
      {"wandb_project", "curves are in metrics.csv and, for TensorBoard, in events/; leave it out"},
      {"wandb_run_name", "curves are in metrics.csv and, for TensorBoard, in events/; leave it out"},
  };
  const auto found = kInstead.find(key);
  return found == kInstead.end() ? "" : fmt::format(" of nanoGPT: {}", found->second);
}

// Who reads what: a model's keys become pairs, the table takes the rest.
class KeysReader {
 public:
  KeysReader(ConfigTable& table, const std::vector<std::string>& model_keys) : table_(table), model_keys_(model_keys) {
    for (const ConfigField& field : table.fields()) table_keys_.push_back(field.name);
  }

  void read_file_of_keys(const std::string& file) {
    const std::string text = read_file(file);
    if (file.ends_with(".json")) {
      read_json(text, file);
    } else {
      read_toml(text, file);
    }
  }

  void read_argument(const std::string& argument) {
    const size_t equals = argument.find('=');
    const Pair pair{argument.substr(2, equals - 2), argument.substr(equals + 1), argument};
    try {
      if (!is_models(pair.key)) check_known(pair.key, argument);
    } catch (const UserError& error) {
      throw CommandLineError(error.what());
    }
    read_pair(pair);
  }

  const std::vector<Pair>& pairs() const { return pairs_; }

 private:
  bool is_models(const std::string& key) const { return key == "model" || contains(model_keys_, key); }

  void read_pair(const Pair& pair) {
    if (is_models(pair.key)) {
      pairs_.push_back(pair);
      return;
    }
    check_known(pair.key, pair.source);
    table_.set(pair.key, pair.text, pair.source);
  }

  void check_known(const std::string& key, const std::string& source) const {
    if (contains(table_keys_, key)) return;
    std::vector<std::string> all = model_keys_;
    all.push_back("model");
    all.insert(all.end(), table_keys_.begin(), table_keys_.end());
    const std::string near = nearest_word(key, all), instead = instead_of(key);
    check(false, "{}: unknown key '{}'{}", source, key,
          !instead.empty() ? instead
          : near.empty()   ? ""
                           : fmt::format("; did you mean '{}'?", near));
  }

  void read_json(const std::string& text, const std::string& file) {
    json content = json::parse(text, nullptr, false);
    check(content.is_object(), "{} is not a JSON object", file);
    // A checkpoint keeps the model's keys in an object of their own.
    for (const char* inside : {"config", "model"}) {
      if (content.contains(inside) && content[inside].is_object()) content = json(content[inside]);
    }
    for (const auto& [key, value] : content.items()) read_pair({key, as_text(value), file});
  }

  void read_toml(const std::string& text, const std::string& file) {
    try {
      const toml::table content = toml::parse(text, file);
      for (const auto& [name, node] : content) {
        const std::string key(name.str());
        const std::string source =
            fmt::format("{}:{}:{}", file, uint32_t(name.source().begin.line), uint32_t(name.source().begin.column));
        if (!is_models(key)) {
          check_known(key, source);
          continue;
        }
        check(!node.is_table() && !node.is_array(),
              "{}: '{}' takes one value, not a {}; keys of a model stand alone: n_layer = 4", source, key,
              node.is_table() ? "table" : "list");
        std::ostringstream value;
        value << toml::json_formatter(node);
        pairs_.push_back({key, as_text(json::parse(value.str())), source});
      }
    } catch (const toml::parse_error& error) {
      const auto& at = error.source().begin;
      throw UserError(fmt::format("{}:{}:{}: {}", file, uint32_t(at.line), uint32_t(at.column), error.description()));
    }
    table_.load_text(text, file, [&](std::string_view key) { return is_models(std::string(key)); });
  }

  ConfigTable& table_;
  const std::vector<std::string>& model_keys_;
  std::vector<std::string> table_keys_;
  std::vector<Pair> pairs_;
};

// The type of a model's key decides how its text is read.
json model_value(const json& known, const std::string& text) {
  if (known.is_string()) return text;
  // What has no value yet is a choice that is left open.
  if (known.is_boolean() || known.is_null()) {
    if (const std::optional<bool> word = parse_bool(text)) return *word;
  }
  const json value = json::parse(text, nullptr, false);
  return value.is_discarded() ? json(text) : value;
}

bool mentions(std::string_view message, std::string_view key) {
  const auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  for (size_t at = 0; (at = message.find(key, at)) != message.npos; at += key.size()) {
    const size_t end = at + key.size();
    if ((at == 0 || !in_word(message[at - 1])) && (end == message.size() || !in_word(message[end]))) return true;
  }
  return false;
}

// Where the keys stand that a message names, the last of each: "c.toml:2:1, --n_head=3: ".
std::string places_of(const std::vector<Pair>& pairs, std::string_view message) {
  std::map<std::string, std::string> last;
  for (const Pair& pair : pairs) {
    if (mentions(message, pair.key)) last[pair.key] = pair.source;
  }
  std::set<std::string> places;
  for (const auto& [key, source] : last) places.insert(source);
  return places.empty() ? "" : fmt::format("{}: ", fmt::join(places, ", "));
}

// Whether a value is of the type of the one that it replaces; words are looked up later.
void check_type(const json& known, const json& value, const Pair& pair) {
  const bool right = known.is_string()           ? true
                     : known.is_number_integer() ? value.is_number_integer()
                     : known.is_number()         ? value.is_number() && std::isfinite(value.get<double>())
                                                 : value.is_boolean() || value.is_null();
  const char* wanted = known.is_number_integer() ? "an integer"
                       : known.is_number()       ? "a finite number"
                                                 : "true or false";
  check(right, "{}: {} takes {}, not '{}'", pair.source, pair.key, wanted, pair.text);
}

}  // namespace

std::vector<std::string> normalise_keys(const std::vector<std::string>& arguments) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("--") || argument.size() == 2) {
      std::error_code error;
      const bool file = std::filesystem::is_regular_file(argument, error);
      throw CommandLineError(fmt::format("unexpected argument '{}': keys are written --key=value{}", argument,
                                         file ? fmt::format("; a text to train on is --data={}", argument) : ""));
    }
    if (argument.find('=') != std::string::npos) {
      keys.push_back(argument);
    } else {
      const bool has_value = i + 1 < arguments.size() && !arguments[i + 1].starts_with("--");
      if (!has_value) throw CommandLineError(fmt::format("'{}' needs a value: {}=VALUE", argument, argument));
      keys.push_back(argument + "=" + arguments[++i]);
    }
  }
  return keys;
}

void check_same_keys(const std::string& saved, const std::string& wanted, const std::set<std::string>& free,
                     const std::string& out) {
  const auto values = [](const std::string& toml) {
    std::map<std::string, std::string> result;
    std::istringstream lines(toml);
    for (std::string line; std::getline(lines, line);) {
      const size_t equals = line.find(" = ");
      if (!line.starts_with('#') && equals != std::string::npos) {
        result[line.substr(0, equals)] = line.substr(equals + 3);
      }
    }
    return result;
  };
  const std::map<std::string, std::string> before = values(saved);
  for (const auto& [key, value] : values(wanted)) {
    const auto old = before.find(key);
    if (free.contains(key) || old == before.end() || old->second == value) continue;
    throw UserError(
        fmt::format("--resume: the run in {} has {} = {}, not {}; leave the key out, or choose another --out", out, key,
                    old->second, value));
  }
}

void read_keys(ModelConfig& model, ConfigTable& table, const std::string& file,
               const std::vector<std::string>& arguments) {
  const std::vector<std::string> model_keys = model_config_keys();
  KeysReader reader(table, model_keys);
  if (!file.empty()) reader.read_file_of_keys(file);
  for (const std::string& argument : normalise_keys(arguments)) reader.read_argument(argument);
  const json known = to_json(model);
  // A key that is left open has the type that it would have.
  ModelConfig filled = model;
  filled.head_dim = model.head_dim.value_or(1);
  const json types = to_json(filled);
  json changes = json::object();
  for (const Pair& pair : reader.pairs()) {
    if (pair.key == "model") {
      apply_shape(model, pair.text);
    } else {
      const json type = types.value(pair.key, json());
      changes[pair.key] = model_value(type, pair.text);
      const bool left_open = known.value(pair.key, json()).is_null() && changes[pair.key].is_null();
      if (!left_open) check_type(type, changes[pair.key], pair);
    }
  }
  try {
    model = model_config_from_json(changes, model);
  } catch (const UserError& error) {
    throw UserError(places_of(reader.pairs(), error.what()) + error.what());
  }
}

void check_text_or_json(const std::string& format) {
  if (format != "text" && format != "json") {
    throw CommandLineError(fmt::format("-o is text or json, not '{}'", format));
  }
}

}  // namespace surtsey::experiments::commands
