#include "experiments/evaluate/harness/prompt_template.h"

#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/text/chat_template.h"
#include "graph/error.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A name of a field, with dots and places of lists.
bool is_path(std::string_view text) {
  if (text.empty() || !is_letter(text.front())) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_letter(c) || is_digit(c) || c == '.' || c == '[' || c == ']' || c == '-';
  });
}

// The value that a path leads to; null where it leads nowhere.
const Json* find(const Json& item, std::string_view path) {
  const Json* value = &item;
  while (!path.empty()) {
    if (path.front() == '.') path.remove_prefix(1);
    if (path.starts_with('[')) {
      const size_t close = path.find(']');
      if (close == path.npos || !value->is_array()) return nullptr;
      size_t place = 0;
      const std::string_view digits = path.substr(1, close - 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), place);
      if (error != std::errc() || end != digits.data() + digits.size() || place >= value->size()) return nullptr;
      value = &(*value)[place];
      path.remove_prefix(close + 1);
      continue;
    }
    const size_t end = std::min(path.find_first_of(".["), path.size());
    const auto found = value->is_object() ? value->find(std::string(path.substr(0, end))) : value->end();
    if (!value->is_object() || found == value->end()) return nullptr;
    value = &*found;
    path.remove_prefix(end);
  }
  return value;
}

std::string fields_of(const Json& item) {
  std::vector<std::string> names;
  for (const auto& [name, value] : item.items()) names.push_back(name);
  return join(names, ", ");
}

std::string as_text(const Json& value, const std::string& where, std::string_view path) {
  check(!value.is_structured(), "{}: the field '{}' is a list or an object, not text: name one of its parts", where,
        path);
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

}  // namespace

struct PromptTemplate::Parsed {
  std::string source, where;
  std::optional<text::ChatTemplate> jinja;
  std::string end;  // a line break that Jinja would drop
};

PromptTemplate::PromptTemplate(std::string source, std::string where) {
  auto parsed = std::make_shared<Parsed>();
  parsed->where = std::move(where);
  if (source.find("{{") != source.npos || source.find("{%") != source.npos) {
    if (source.ends_with('\n')) parsed->end = "\n";
    parsed->jinja.emplace(source, parsed->where);
  }
  parsed->source = std::move(source);
  parsed_ = std::move(parsed);
}

std::string PromptTemplate::text(const Json& item) const {
  const auto& [source, where, jinja, end] = *parsed_;
  if (jinja) return jinja->render(item) + end;
  if (is_path(source)) {
    if (const Json* value = find(item, source)) return as_text(*value, where, source);
  }
  std::string result;
  for (size_t at = 0; at < source.size();) {
    const size_t close = source[at] == '{' ? source.find('}', at) : source.npos;
    const std::string_view path =
        close == source.npos ? std::string_view() : std::string_view(source).substr(at + 1, close - at - 1);
    if (!is_path(path)) {
      result += source[at++];
      continue;
    }
    const Json* value = find(item, path);
    check(value != nullptr, "{}: there is no field '{}' in an item that has {}", where, path, fields_of(item));
    result += as_text(*value, where, path);
    at = close + 1;
  }
  return result;
}

Json PromptTemplate::value(const Json& item) const {
  if (!parsed_->jinja && is_path(parsed_->source)) {
    if (const Json* value = find(item, parsed_->source)) return *value;
  }
  return text(item);
}

}  // namespace surtsey::experiments
