#include "experiments/text/fields.h"

#include <nlohmann/json.hpp>

#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {

using nlohmann::json;

const json* Fields::find(const char* key) const {
  if (!value_->is_object()) refuse("an object belongs here");
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

const json& Fields::need(const char* key) const {
  const json* found = find(key);
  if (found == nullptr) refuse(fmt::format("'{}' is missing", key));
  return *found;
}

void Fields::refuse(const std::string& message) const { throw UserError(path_ + ": " + message); }

bool Fields::has(const char* key) const { return find(key) != nullptr; }

Fields Fields::at(const char* key) const {
  const json& found = need(key);
  check(found.is_object(), "{}: an object belongs here", path_of(key));
  return {found, path_of(key)};
}

std::vector<Fields> Fields::list(const char* key) const {
  const json& found = need(key);
  check(found.is_array(), "{}: a list belongs here", path_of(key));
  std::vector<Fields> items;
  for (size_t i = 0; i < found.size(); ++i) items.emplace_back(found[i], fmt::format("{}[{}]", path_of(key), i));
  return items;
}

std::string Fields::text(const char* key) const {
  const json& found = need(key);
  check(found.is_string(), "{}: a string belongs here", path_of(key));
  return found.get<std::string>();
}

std::string Fields::text(const char* key, std::string otherwise) const { return has(key) ? text(key) : otherwise; }

std::optional<std::string> Fields::optional_text(const char* key) const {
  if (!has(key)) return std::nullopt;
  return text(key);
}

bool Fields::flag(const char* key) const {
  const json& found = need(key);
  check(found.is_boolean(), "{}: true or false belongs here", path_of(key));
  return found.get<bool>();
}

bool Fields::flag(const char* key, bool otherwise) const { return has(key) ? flag(key) : otherwise; }

int64_t Fields::integer(const char* key, int64_t least, int64_t most) const {
  const json& found = need(key);
  check(
      found.is_number_unsigned() && found.get<uint64_t>() >= uint64_t(least) && found.get<uint64_t>() <= uint64_t(most),
      "{}: a whole number from {} to {} belongs here", path_of(key), least, most);
  return found.get<int64_t>();
}

char32_t Fields::character(const char* key) const {
  const std::string found = text(key);
  check(character_count(found) == 1, "{}: one character belongs here", path_of(key));
  return character_at(found, 0);
}

}  // namespace surtsey::experiments::text
