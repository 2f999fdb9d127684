// Keys of a JSON object that others wrote, with their types and limits. Absent and null are the same but to absent().
// UserErrors begin with the file and name the key.
#pragma once

#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::hub {

class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool absent(std::string_view key) const { return object_.find(key) == object_.end(); }

  // Null where there is none.
  const nlohmann::json* find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  int64_t integer(std::string_view key, int64_t fallback, int64_t least, int64_t most) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    check(value->is_number_integer(), "{}: {} is {}, not a whole number", where_, key, shown(*value));
    const bool fits = !value->is_number_unsigned() || value->get<uint64_t>() <= uint64_t(INT64_MAX);
    check(fits && value->get<int64_t>() >= least && value->get<int64_t>() <= most, "{}: {} is from {} to {}, not {}",
          where_, key, least, most, shown(*value));
    return value->get<int64_t>();
  }

  double number(std::string_view key, double fallback, double least, double most) const {
    return optional_number(key, least, most).value_or(fallback);
  }

  std::optional<double> optional_number(std::string_view key, double least, double most) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return std::nullopt;
    check(value->is_number(), "{}: {} is {}, not a number", where_, key, shown(*value));
    const double number = value->get<double>();
    check(std::isfinite(number) && number >= least && number <= most, "{}: {} is from {:g} to {:g}, not {}", where_,
          key, least, most, shown(*value));
    return number;
  }

  bool flag(std::string_view key, bool fallback) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    check(value->is_boolean(), "{}: {} is {}, not true or false", where_, key, shown(*value));
    return value->get<bool>();
  }

  std::string word(std::string_view key, std::string fallback) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    check(value->is_string(), "{}: {} is {}, not a string", where_, key, shown(*value));
    return value->get<std::string>();
  }

  // Of an array, or of one element in its place.
  template <typename Element>
  std::vector<Element> list(std::string_view key,
                            Element (*read)(const Fields&, std::string_view key, const nlohmann::json&)) const {
    std::vector<Element> elements;
    const nlohmann::json* value = find(key);
    if (value == nullptr) return elements;
    if (!value->is_array()) return {read(*this, key, *value)};
    for (const nlohmann::json& element : *value) elements.push_back(read(*this, key, element));
    return elements;
  }

  // A value for a message, cut where it is long.
  static std::string shown(const nlohmann::json& value) {
    if (value.is_structured() && !value.empty()) return value.is_array() ? "[..]" : "{..}";
    std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "..";
    return text;
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

// Elements of Fields::list(): a number, an index of a token, a text.
inline double number_element(const Fields& fields, std::string_view key, const nlohmann::json& value) {
  check(value.is_number() && std::isfinite(value.get<double>()), "{}: {} has {}, which is no number", fields.where(),
        key, Fields::shown(value));
  return value.get<double>();
}

inline int64_t token_element(const Fields& fields, std::string_view key, const nlohmann::json& value) {
  // An integer that is unsigned to the parser may be above what a signed one holds.
  const bool small = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT32_MAX);
  const bool whole = small && value.get<int64_t>() >= 0 && value.get<int64_t>() <= INT32_MAX;
  check(whole, "{}: {} has {}, which is no index of a token", fields.where(), key, Fields::shown(value));
  return value.get<int64_t>();
}

inline std::string text_element(const Fields& fields, std::string_view key, const nlohmann::json& value) {
  check(value.is_string(), "{}: {} has {}, which is no string", fields.where(), key, Fields::shown(value));
  return value.get<std::string>();
}

}  // namespace surtsey::experiments::hub
