#include "experiments/tasks/tuning/rows.h"

#include "experiments/base/join.h"
#include "experiments/base/utf8.h"
#include "experiments/formats/strict_json.h"
#include "experiments/tasks/text.h"
#include "graph/error.h"
#include "shaders/cache_file.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <map>

namespace surtsey::experiments::tasks {
namespace {

using nlohmann::ordered_json;

constexpr int kDepth = 64;
constexpr size_t kLongestLine = size_t(256) << 20;
constexpr const char* kColumns =
    "text; prompt and completion; messages; conversations; instruction and output (with input or not)";

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

// One row on its way from JSON.
class Row {
 public:
  Row(const ordered_json& object, const std::string& where) : object_(object), where_(where) {}

  TuningRow parse() const {
    if (object_.contains("messages")) return conversation(messages(object_["messages"], "messages"), 0);
    if (object_.contains("prompt") && object_.contains("completion")) return completion();
    if (object_.contains("conversations")) return conversation(from_sharegpt(), 0);
    if (object_.contains("instruction") && object_.contains("output")) return instruction();
    if (object_.contains("text")) {
      TuningRow row{.text = words("text")};
      check(!is_blank(row.text), "{}: text is empty: there is nothing to learn", where_);
      return row;
    }
    std::vector<std::string> names;
    for (const auto& [name, value] : object_.items()) names.push_back(name);
    throw UserError(fmt::format("{}: a row has one of these: {}; this one has {}", where_, kColumns,
                                names.empty() ? "nothing" : join(names, ", ")));
  }

 private:
  std::string words(const char* name) const {
    const ordered_json& value = object_.at(name);
    check(value.is_string(), "{}: {} is {}, not a text", where_, name, value.type_name());
    return value.get<std::string>();
  }
  std::string words_or_none(const char* name) const {
    return object_.contains(name) && !object_.at(name).is_null() ? words(name) : "";
  }

  TuningRow completion() const {
    if (object_["prompt"].is_array()) {
      ordered_json all = messages(object_["prompt"], "prompt");
      const size_t asked = all.size();
      for (const ordered_json& message : messages(object_["completion"], "completion")) all.push_back(message);
      return conversation(std::move(all), asked);
    }
    TuningRow row{.kind = TuningRow::Kind::completion, .text = words("prompt"), .completion = words("completion")};
    check(!row.completion.empty(), "{}: completion is empty: there is nothing to learn", where_);
    return row;
  }

  // Alpaca's words around an instruction (Taori et al. 2023), for models without a chat template.
  TuningRow instruction() const {
    const std::string asked = words("instruction"), input = words_or_none("input"), answer = words("output"),
                      system = words_or_none("system");
    check(!is_blank(answer), "{}: output is empty: there is nothing to learn", where_);
    ordered_json all = ordered_json::array();
    if (!system.empty()) all.push_back({{"role", "system"}, {"content", system}});
    all.push_back({{"role", "user"}, {"content", input.empty() ? asked : asked + "\n" + input}});
    all.push_back({{"role", "assistant"}, {"content", answer}});
    TuningRow row = conversation(std::move(all), 0);
    row.kind = TuningRow::Kind::instruction;
    row.completion = answer;
    row.text = fmt::format(
        "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{}\n\n{}### Response:\n",
        input.empty() ? "" : ", paired with an input that provides further context", asked,
        input.empty() ? "" : "### Input:\n" + input + "\n\n");
    return row;
  }

  ordered_json from_sharegpt() const {
    static const std::map<std::string, const char*> kRoles = {
        {"human", "user"},      {"user", "user"},     {"gpt", "assistant"}, {"assistant", "assistant"},
        {"model", "assistant"}, {"system", "system"}, {"tool", "tool"},     {"observation", "tool"}};
    const ordered_json& turns = object_["conversations"];
    check(turns.is_array() && !turns.empty(), "{}: conversations is no list of turns", where_);
    ordered_json all = ordered_json::array();
    for (size_t i = 0; i < turns.size(); ++i) {
      const ordered_json& turn = turns[i];
      const bool whole = turn.is_object() && turn.contains("from") && turn.contains("value") &&
                         turn["from"].is_string() && turn["value"].is_string();
      check(whole, "{}: conversations[{}] has no texts \"from\" and \"value\"", where_, i);
      const auto role = kRoles.find(turn["from"].get<std::string>());
      check(role != kRoles.end(), "{}: conversations[{}]: from is {}, not human, gpt, system or tool", where_, i,
            turn["from"].dump());
      all.push_back({{"role", role->second}, {"content", turn["value"]}});
    }
    return messages(all, "conversations");
  }

  // Checked, with contents that are texts.
  ordered_json messages(const ordered_json& list, const char* name) const {
    check(list.is_array() && !list.empty(), "{}: {} is no list of messages", where_, name);
    ordered_json all = list;
    for (size_t i = 0; i < all.size(); ++i) {
      ordered_json& message = all[i];
      check(message.is_object() && message.contains("role") && message["role"].is_string(), "{}: {}[{}] has no role",
            where_, name, i);
      const bool calls =
          message.contains("tool_calls") && message["tool_calls"].is_array() && !message["tool_calls"].empty();
      if (!message.contains("content") || message["content"].is_null()) {
        check(calls, "{}: {}[{}] has no content", where_, name, i);
        continue;
      }
      ordered_json& content = message["content"];
      if (content.is_array()) content = joined_parts(content, fmt::format("{}: {}[{}]", where_, name, i));
      check(content.is_string(), "{}: {}[{}]: content is {}, not a text", where_, name, i, content.type_name());
      check(message["role"] != "assistant" || calls || !is_blank(content.get_ref<const std::string&>()),
            "{}: {}[{}]: an assistant's turn is empty: there is nothing to learn", where_, name, i);
    }
    return all;
  }

  static std::string joined_parts(const ordered_json& parts, const std::string& where) {
    std::string text;
    for (const ordered_json& part : parts) {
      check(part.is_object() && part.value("type", "") == "text" && part.contains("text") && part["text"].is_string(),
            "{}: parts of a content are texts, not {}", where, part.dump());
      text += part["text"].get<std::string>();
    }
    return text;
  }

  TuningRow conversation(ordered_json all, size_t learned_from) const {
    bool answers = false;
    for (size_t i = learned_from; i < all.size(); ++i) answers = answers || all[i]["role"] == "assistant";
    check(answers, "{}: no turn is an assistant's: there is nothing to learn", where_);
    ordered_json variables = {{"messages", std::move(all)}};
    if (object_.contains("tools") && !object_["tools"].is_null()) {
      check(object_["tools"].is_array(), "{}: tools is {}, not a list", where_, object_["tools"].type_name());
      variables["tools"] = object_["tools"];
    }
    TuningRow row{.kind = TuningRow::Kind::conversation, .learned_from = learned_from};
    row.variables = std::make_shared<const ordered_json>(std::move(variables));
    return row;
  }

  const ordered_json& object_;
  const std::string& where_;
};

}  // namespace

ordered_json parse_row_object(std::string_view line, const std::string& where) {
  // Checked first; read again for the order of its keys, which templates show.
  parse_strict_json(line, where + ": the line", kDepth);
  return ordered_json::parse(line);
}

TuningRow tuning_row_of(const ordered_json& object, const std::string& where) { return Row(object, where).parse(); }

TuningRow parse_tuning_row(std::string_view line, const std::string& where) {
  return tuning_row_of(parse_row_object(line, where), where);
}

JsonLines::JsonLines(const std::filesystem::path& path) : path_(path), file_(path, std::ios::binary) {
  check(std::filesystem::is_regular_file(path) && file_.good(), "'{}' cannot be read: {}", path.string(),
        std::filesystem::exists(path) ? "it is no file" : "there is no such file");
}

bool JsonLines::next() {
  while (std::getline(file_, line_)) {
    ++number_;
    check(line_.size() <= kLongestLine, "{}: a line of {} bytes is longer than {}", where(), line_.size(),
          kLongestLine);
    hash_ = shaders::hash64(line_, hash_);
    if (number_ == 1) line_ = std::string(without_byte_order_mark(line_));
    if (!is_blank(line_)) return true;
  }
  check(!file_.bad(), "'{}' cannot be read any more: {}", path_.string(), std::strerror(errno));
  return false;
}

std::string JsonLines::where() const { return fmt::format("{}:{}", path_.string(), number_); }

}  // namespace surtsey::experiments::tasks
