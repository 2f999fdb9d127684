#include "experiments/base/json_text.h"

#include <nlohmann/json.hpp>

#include "experiments/base/utf8.h"

namespace surtsey::experiments {
namespace {

template <class Json>
Json in_utf8(const Json& json) {
  if (json.is_string()) return bytes_to_utf8(json.template get_ref<const std::string&>());
  if (json.is_array()) {
    Json list = Json::array();
    for (const Json& one : json) list.push_back(in_utf8(one));
    return list;
  }
  if (!json.is_object()) return json;
  Json object = Json::object();
  for (const auto& [key, value] : json.items()) object[bytes_to_utf8(key)] = in_utf8(value);
  return object;
}

template <class Json>
std::string text_of(const Json& json, int indent) {
  try {
    return json.dump(indent);
  } catch (const typename Json::type_error&) {
    return in_utf8(json).dump(indent);
  }
}

}  // namespace

std::string json_text(const nlohmann::json& json, int indent) { return text_of(json, indent); }
std::string json_text(const nlohmann::ordered_json& json, int indent) { return text_of(json, indent); }

}  // namespace surtsey::experiments
