#include "experiments/serve/tool_calls.h"

#include <nlohmann/json.hpp>

#include "experiments/base/json_text.h"

#include <algorithm>
#include <optional>
#include <random>

namespace surtsey::experiments::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
constexpr const char* kBlanks = " \t\r\n";
constexpr std::ptrdiff_t kMostBrackets = 4096;

std::string new_id() {
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::random_device source;
  std::string id;
  while (id.size() < 9) id += kLetters[source() % kLetters.size()];
  return id;
}

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin));
}

// A model may write any number of brackets, and the parser takes memory for each.
Json parse(std::string_view text) {
  const auto brackets = std::max(std::count(text.begin(), text.end(), '['), std::count(text.begin(), text.end(), '{'));
  if (brackets > kMostBrackets) return Json::value_t::discarded;
  return Json::parse(text, nullptr, false);
}

std::optional<ToolCall> call_of(const Json& value, const std::vector<std::string>& tools) {
  if (!value.is_object() || !value.contains("name") || !value["name"].is_string()) return std::nullopt;
  const auto name = value["name"].get<std::string>();
  if (std::find(tools.begin(), tools.end(), name) == tools.end()) return std::nullopt;
  ToolCall call{new_id(), name, "{}"};
  for (const char* key : {"arguments", "parameters"}) {
    if (!value.contains(key)) continue;
    if (!value[key].is_object() && !value[key].is_string()) return std::nullopt;
    call.arguments = value[key].is_string() ? value[key].get<std::string>() : json_text(value[key]);
    break;
  }
  return call;
}

// One call, or a list of nothing but calls; empty where it is neither.
std::vector<ToolCall> calls_of(const Json& value, const std::vector<std::string>& tools) {
  std::vector<ToolCall> calls;
  for (const Json& each : value.is_array() ? value : Json::array({value})) {
    auto call = call_of(each, tools);
    if (!call) return {};
    calls.push_back(std::move(*call));
  }
  return calls;
}

}  // namespace

ToolAnswer parse_tool_calls(const std::string& text, const std::vector<std::string>& tools) {
  ToolAnswer answer;
  const std::string whole = trimmed(text);
  if (whole.starts_with("{") || whole.starts_with("[")) {
    answer.calls = calls_of(parse(whole), tools);
    if (!answer.calls.empty()) return answer;
  }
  size_t at = 0;
  while (at < text.size()) {
    const size_t open = text.find(kOpen, at);
    if (open == std::string::npos) break;
    const size_t begin = open + kOpen.size();
    // The last one may lack its end, where that was a stop string or an end token.
    const size_t close = std::min(text.find(kClose, begin), text.size());
    const size_t after = std::min(close + kClose.size(), text.size());
    auto calls = calls_of(parse(trimmed(std::string_view(text).substr(begin, close - begin))), tools);
    answer.content += text.substr(at, (calls.empty() ? after : open) - at);
    for (ToolCall& call : calls) answer.calls.push_back(std::move(call));
    at = after;
  }
  answer.content += text.substr(std::min(at, text.size()));
  if (!answer.calls.empty()) answer.content = trimmed(answer.content);
  return answer;
}

std::string ToolStream::push(const std::string& piece) {
  held_ += piece;
  if (holding_) return "";
  const size_t first = held_.find_first_not_of(kBlanks);
  if (first == std::string::npos) return "";
  if (!shown_ && (held_[first] == '{' || held_[first] == '[')) {
    holding_ = true;
    return "";
  }
  size_t end = held_.find(kOpen);
  if (end != std::string::npos) {
    holding_ = true;
  } else {
    // The end of the text may be the beginning of a call, or blanks in front of one.
    end = held_.size();
    for (size_t length = std::min(kOpen.size() - 1, held_.size()); length > 0; --length) {
      if (!held_.ends_with(kOpen.substr(0, length))) continue;
      end -= length;
      break;
    }
  }
  while (end > 0 && std::string_view(kBlanks).find(held_[end - 1]) != std::string_view::npos) --end;
  const std::string shown = held_.substr(0, end);
  held_.erase(0, end);
  shown_ |= !shown.empty();
  return shown;
}

}  // namespace surtsey::experiments::serve
