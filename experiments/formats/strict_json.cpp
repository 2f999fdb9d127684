#include "experiments/formats/strict_json.h"

#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <set>
#include <vector>

namespace surtsey::experiments {

using nlohmann::json;

json parse_strict_json(std::string_view text, const std::string& what, int depth_limit) {
  // Counted before the parser runs, as it takes memory with every bracket.
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char letter = text[i];
    if (quoted) {
      if (letter == '\\') ++i;
      if (letter == '"') quoted = false;
    } else if (letter == '"') {
      quoted = true;
    } else if (letter == '{' || letter == '[') {
      check(++depth <= depth_limit, "{} is nested too deeply, at most {} levels are read", what, depth_limit);
    } else if (letter == '}' || letter == ']') {
      --depth;
    }
  }
  std::vector<std::set<std::string>> keys;
  std::string twice;
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() && !keys.back().insert(value.get<std::string>()).second &&
        twice.empty()) {
      twice = value.dump();
    }
    return true;
  };
  json value = json::parse(text, watch, false);
  check(!value.is_discarded() && value.is_object(), "{} is not a JSON object", what);
  check(twice.empty(), "{} names {} twice", what, twice);
  return value;
}

}  // namespace surtsey::experiments
