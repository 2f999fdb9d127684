#include "experiments/tasks/tuning/preferences.h"

#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace surtsey::experiments::tasks {
namespace {

using nlohmann::ordered_json;

// Where two answers part: not inside a letter of UTF-8, and before the blank that a word's token begins with.
size_t parting(const std::string& a, const std::string& b) {
  auto at = size_t(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  while (at > 0 && at < a.size() && (uint8_t(a[at]) & 0xC0) == 0x80) --at;
  if (at > 0 && a[at - 1] == ' ') --at;
  return at;
}

// Takes from both what they begin with.
ordered_json shared_prompt(ordered_json& chosen, ordered_json& rejected) {
  if (chosen.is_string()) {
    const auto a = chosen.get<std::string>(), b = rejected.get<std::string>();
    const size_t at = parting(a, b);
    chosen = a.substr(at);
    rejected = b.substr(at);
    return a.substr(0, at);
  }
  const auto at = std::mismatch(chosen.begin(), chosen.end(), rejected.begin(), rejected.end()).first - chosen.begin();
  ordered_json prompt = ordered_json::array();
  for (ordered_json* list : {&chosen, &rejected}) {
    if (prompt.empty())
      for (std::ptrdiff_t i = 0; i < at; ++i) prompt.push_back((*list)[size_t(i)]);
    list->erase(list->begin(), list->begin() + at);
  }
  return prompt;
}

}  // namespace

PreferenceRow parse_preference_row(std::string_view line, const std::string& where) {
  const ordered_json object = parse_row_object(line, where);
  check(object.contains("chosen") && object.contains("rejected"),
        "{}: a row has \"chosen\" and \"rejected\", with \"prompt\" or not", where);
  ordered_json chosen = object["chosen"], rejected = object["rejected"];
  for (const auto& [name, value] : {std::pair("chosen", &chosen), std::pair("rejected", &rejected)})
    check(value->is_string() || value->is_array(), "{}: {} is {}, neither a text nor a list of messages", where, name,
          value->type_name());
  check(chosen.type() == rejected.type(), "{}: chosen is {}, rejected {}", where, chosen.type_name(),
        rejected.type_name());
  PreferenceRow row{.same = chosen == rejected};
  if (object.contains("margin") && !object["margin"].is_null()) {
    check(object["margin"].is_number() && std::isfinite(object["margin"].get<double>()),
          "{}: margin is no finite number: {}", where, object["margin"].dump());
    row.margin = object["margin"].get<float>();
  }
  ordered_json prompt;
  if (object.contains("prompt") && !object["prompt"].is_null()) {
    prompt = object["prompt"];
    check(prompt.type() == chosen.type(), "{}: prompt is {}, chosen {}: both are texts, or lists of messages", where,
          prompt.type_name(), chosen.type_name());
  } else if (row.same) {
    return row;
  } else {
    prompt = shared_prompt(chosen, rejected);
    check(!chosen.empty() && !rejected.empty() && chosen != "" && rejected != "",
          "{}: one answer is what the other begins with; give what was asked as \"prompt\"", where);
  }
  // Conversations that have nothing in common begin with their answers.
  const bool unasked = prompt.is_array() && prompt.empty();
  const auto answer = [&](const char* name, const ordered_json& words) {
    ordered_json one =
        unasked ? ordered_json{{"messages", words}} : ordered_json{{"prompt", prompt}, {"completion", words}};
    if (object.contains("tools")) one["tools"] = object["tools"];
    return tuning_row_of(one, fmt::format("{}: {}", where, name));
  };
  row.chosen = answer("chosen", chosen);
  row.rejected = answer("rejected", rejected);
  return row;
}

}  // namespace surtsey::experiments::tasks
