#include "experiments/base/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>
#include <type_traits>
#include <utility>

#include <toml++/toml.h>

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/base/utf8.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

template <class T>
struct IsList : std::false_type {};
template <class T>
struct IsList<std::vector<T>> : std::true_type {};

template <class T>
std::string type_name() {
  if constexpr (IsList<T>::value) {
    return "list of " + type_name<typename T::value_type>() + "s";
  } else if constexpr (std::is_same_v<T, bool>) {
    return "boolean";
  } else if constexpr (std::is_same_v<T, double>) {
    return "number";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "string";
  } else {
    return "integer";
  }
}

template <class T>
using Pointee = std::remove_pointer_t<T>;

// With its article: "an integer", "a list of numbers".
std::string field_type(const ConfigField& field) {
  const std::string name =
      std::visit([](auto* target) { return type_name<Pointee<decltype(target)>>(); }, field.target);
  return (name == "integer" ? "an " : "a ") + name;
}

template <class T>
struct Element {
  using Type = T;
};
template <class T>
struct Element<std::vector<T>> {
  using Type = T;
};

// " from 0 to 4294967295" where the type alone sets bounds that a user can meet.
std::string type_bounds(const ConfigField& field) {
  return std::visit(
      [](auto* target) -> std::string {
        using T = typename Element<Pointee<decltype(target)>>::Type;
        if constexpr (std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t>) {
          return fmt::format(" from {} to {}", std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
        } else {
          return "";
        }
      },
      field.target);
}

// Control characters and bytes that are not UTF-8 as escapes, which a reader sees.
std::string toml_string(std::string_view bytes) {
  const std::string text = bytes_to_utf8(bytes);
  std::string result = "\"";
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    if (found.point == '"' || found.point == '\\') {
      result += '\\';
      result += text[at];
    } else if (found.point < 0x20 || found.point == 0x7F || stands_for_byte(found.point)) {
      result += fmt::format("\\u{:04X}", static_cast<unsigned>(found.point));
    } else {
      result += std::string_view(text).substr(at, found.length);
    }
    at += found.length;
  }
  return result + '"';
}

template <class T>
std::string as_toml(const T& value) {
  if constexpr (IsList<T>::value) {
    std::vector<std::string> parts;
    for (const auto& part : value) parts.push_back(as_toml(part));
    return fmt::format("[{}]", join(parts, ", "));
  } else if constexpr (std::is_same_v<T, std::string>) {
    return toml_string(value);
  } else if constexpr (std::is_same_v<T, double>) {
    if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    // fmt prints the shortest text that reads back; TOML wants a dot or an exponent in it.
    const std::string text = fmt::format("{}", value);
    return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
  } else {
    return fmt::format("{}", value);
  }
}

std::string field_toml(const ConfigField& field) {
  return std::visit([](auto* target) { return as_toml(*target); }, field.target);
}

template <class T>
void check_limits(const ConfigField& field, const T& value, std::string_view where) {
  if constexpr (IsList<T>::value) {
    for (const auto& part : value) check_limits(field, part, where);
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (field.choices.empty()) return;
    if (std::find(field.choices.begin(), field.choices.end(), value) != field.choices.end()) return;
    const std::string near = nearest_word(value, field.choices);
    check(false, "{}: {} is no '{}' (one of: {}){}", where, field.name, value, join(field.choices, ", "),
          near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
  } else if constexpr (!std::is_same_v<T, bool>) {
    const auto number = static_cast<double>(value);
    const double largest = std::is_integral_v<T> ? kLargestInteger : kLargestNumber;
    check(std::isfinite(number), "{}: {} = {} is no finite number", where, field.name, value);
    check(std::abs(number) <= largest, "{}: {} = {} is beyond {:g}, the largest number that it takes", where,
          field.name, value, largest);
    check(!field.minimum || number >= *field.minimum, "{}: {} = {} is below its minimum of {}", where, field.name,
          value, field.minimum.value_or(0));
    check(!field.maximum || number <= *field.maximum, "{}: {} = {} is above its maximum of {}", where, field.name,
          value, field.maximum.value_or(0));
  }
}

// ---- From TOML -------------------------------------------------------------------------------

template <class T>
bool from_node(const toml::node& node, T& value) {
  if constexpr (IsList<T>::value) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return false;
    value.clear();
    for (const toml::node& part : *array) {
      typename T::value_type one{};
      if (!from_node(part, one)) return false;
      value.push_back(one);
    }
    return true;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!node.is_boolean()) return false;
    value = node.as_boolean()->get();
    return true;
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!node.is_string()) return false;
    value = bytes_from_utf8(node.as_string()->get());
    return true;
  } else if constexpr (std::is_same_v<T, double>) {
    if (node.is_integer()) {
      value = static_cast<double>(node.as_integer()->get());
      return true;
    }
    if (!node.is_floating_point()) return false;
    value = node.as_floating_point()->get();
    return true;
  } else {
    if (!node.is_integer()) return false;
    const int64_t wide = node.as_integer()->get();
    if (!std::in_range<T>(wide)) return false;
    value = static_cast<T>(wide);
    return true;
  }
}

std::string node_type(const toml::node& node) {
  std::ostringstream name;
  name << node.type();
  return name.str();
}

// ---- From the command line -------------------------------------------------------------------

template <class T>
bool from_text(std::string_view text, T& value) {
  if constexpr (IsList<T>::value) {
    if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
      text = text.substr(1, text.size() - 2);
    }
    value.clear();
    while (!text.empty()) {
      const size_t comma = text.find(',');
      typename T::value_type one{};
      std::string_view part = text.substr(0, comma);
      while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
      while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
      if (part.empty() || !from_text(part, one)) return false;
      value.push_back(one);
      if (comma == std::string_view::npos) break;
      text.remove_prefix(comma + 1);
      if (text.empty()) return false;
    }
    return true;
  } else if constexpr (std::is_same_v<T, bool>) {
    const std::optional<bool> parsed = parse_bool(text);
    value = parsed.value_or(false);
    return parsed.has_value();
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = text;
    return true;
  } else {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
  }
}

}  // namespace

ConfigField& ConfigField::at_least(double bound) {
  minimum = bound;
  return *this;
}

ConfigField& ConfigField::at_most(double bound) {
  maximum = bound;
  return *this;
}

ConfigField& ConfigField::one_of(std::vector<std::string> words) {
  choices = std::move(words);
  return *this;
}

ConfigField& ConfigTable::add(std::string name, ConfigField::Target target, std::string help) {
  for (const ConfigField& field : fields_) {
    ensure(field.name != name, "[config] field '{}' is declared twice", name);
  }
  ConfigField& field = fields_.emplace_back();
  field.name = std::move(name);
  field.target = target;
  field.help = std::move(help);
  return field;
}

ConfigField& ConfigTable::find(std::string_view name, std::string_view where) {
  std::vector<std::string> names;
  for (ConfigField& field : fields_) {
    if (field.name == name) return field;
    names.push_back(field.name);
  }
  const std::string near = nearest_word(name, names);
  check(false, "{}: unknown key '{}'{}", where, name,
        near.empty() ? fmt::format(" (known keys: {})", join(names, ", ")) : fmt::format(", did you mean '{}'?", near));
  return fields_.front();
}

void ConfigTable::load_file(const std::filesystem::path& path) { load_text(read_file(path), path.string()); }

void ConfigTable::load_text(std::string_view text, std::string_view source, const Known& elsewhere) {
  toml::table parsed;
  try {
    parsed = toml::parse(text, source);
  } catch (const toml::parse_error& error) {
    throw UserError(fmt::format("{}:{}:{}: {}", source, error.source().begin.line, error.source().begin.column,
                                error.description()));
  }
  for (const auto& [key, node] : parsed) {
    if (elsewhere && elsewhere(key.str())) continue;
    const std::string at = fmt::format("{}:{}:{}", source, key.source().begin.line, key.source().begin.column);
    ConfigField& field = find(key.str(), at);
    std::visit(
        [&](auto* target) {
          Pointee<decltype(target)> value{};
          const std::string where =
              fmt::format("{}:{}:{}", source, node.source().begin.line, node.source().begin.column);
          check(from_node(node, value), "{}: {} takes {}{}, not this {}", where, field.name, field_type(field),
                type_bounds(field), node.is_integer() ? "integer, which is out of range" : node_type(node));
          check_limits(field, value, where);
          *target = std::move(value);
        },
        field.target);
    field.was_set = true;
  }
}

void ConfigTable::override_one(std::string_view argument) {
  const size_t equals = argument.find('=');
  const bool has_key = argument.starts_with("--") && equals != std::string_view::npos && equals > 2;
  if (!has_key) throw CommandLineError(fmt::format("[config] '{}' is not of the form --key=value", argument));
  const std::string_view name = argument.substr(2, equals - 2);
  try {
    find(name, argument);
  } catch (const UserError& error) {
    throw CommandLineError(error.what());
  }
  set(name, argument.substr(equals + 1), argument);
}

void ConfigTable::set(std::string_view name, std::string_view text, std::string_view where) {
  ConfigField& field = find(name, where);
  std::visit(
      [&](auto* target) {
        Pointee<decltype(target)> value{};
        check(from_text(text, value), "{}: {} takes {}{}, not '{}'", where, field.name, field_type(field),
              type_bounds(field), text);
        check_limits(field, value, where);
        *target = std::move(value);
      },
      field.target);
  field.was_set = true;
}

void ConfigTable::override_all(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) override_one(argument);
}

bool ConfigTable::was_set(std::string_view name) const {
  for (const ConfigField& field : fields_) {
    if (field.name == name) return field.was_set;
  }
  ensure(false, "[config] no field '{}'", name);
  return false;
}

std::string ConfigTable::to_toml() const {
  std::string text;
  for (const ConfigField& field : fields_) {
    text += fmt::format("{} = {}\n", field.name, field_toml(field));
  }
  return text;
}

std::string ConfigTable::help() const {
  size_t width = 0;
  for (const ConfigField& field : fields_) width = std::max(width, field.name.size());
  std::string text;
  for (const ConfigField& field : fields_) {
    std::string limits;
    if (!field.choices.empty()) limits = fmt::format("; one of {}", join(field.choices, ", "));
    if (field.minimum) limits += fmt::format("; at least {}", *field.minimum);
    if (field.maximum) limits += fmt::format("; at most {}", *field.maximum);
    text += fmt::format("  --{:<{}}  {} ({}, now {}{})\n", field.name, width, field.help, field_type(field),
                        field_toml(field), limits);
  }
  return text;
}

std::optional<bool> parse_bool(std::string_view word) {
  std::string lower(word);
  for (char& letter : lower) letter = letter >= 'A' && letter <= 'Z' ? char(letter - 'A' + 'a') : letter;
  for (const char* yes : {"true", "yes", "on", "1"}) {
    if (lower == yes) return true;
  }
  for (const char* no : {"false", "no", "off", "0"}) {
    if (lower == no) return false;
  }
  return std::nullopt;
}

size_t edit_distance(std::string_view left, std::string_view right) {
  std::vector<size_t> before(right.size() + 1);
  std::vector<size_t> last(right.size() + 1);
  std::vector<size_t> row(right.size() + 1);
  for (size_t j = 0; j <= right.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= left.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= right.size(); ++j) {
      const size_t change = left[i - 1] == right[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[right.size()];
}

std::string nearest_word(std::string_view word, std::span<const std::string> candidates) {
  std::string nearest;
  size_t best = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace surtsey::experiments
