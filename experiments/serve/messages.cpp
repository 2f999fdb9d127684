#include "experiments/serve/messages.h"

#include "experiments/serve/fields.h"

#include <algorithm>

namespace surtsey::experiments::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostMessages = 4096, kMostTools = 128;

std::string joined_parts(const Json& parts, const std::string& where) {
  std::string text;
  for (const Json& part : parts) {
    if (!part.is_object()) throw invalid_request("{}content is a text or a list of parts", where);
    const Fields fields(part, where + "content.");
    const std::string type = fields.text("type").value_or("");
    if (type != "text")
      throw invalid_request("{}content: parts of type '{}' are not supported", where, type.substr(0, 32));
    text += fields.text("text").value_or("");
  }
  return text;
}

// {id, type, function: {name, arguments}}: arguments as a text become what the text says.
Json earlier_call(const Json& given, const std::string& where) {
  if (!given.is_object()) throw invalid_request("{}tool_calls is a list of objects", where);
  Json call = given;
  const Json* function = Fields(given, where + "tool_calls.").object("function");
  if (function == nullptr) throw invalid_request("{}tool_calls: function is missing", where);
  const Fields inner(*function, where + "tool_calls.function.");
  if (!inner.text("name")) throw invalid_request("{}tool_calls: function.name is missing", where);
  const Json* arguments = inner.find("arguments");
  if (arguments != nullptr && arguments->is_string()) {
    Json parsed = Json::parse(arguments->get<std::string>(), nullptr, false);
    if (parsed.is_object()) call["function"]["arguments"] = std::move(parsed);
  }
  return call;
}

Json parse_message(const Json& given, size_t index) {
  const std::string where = fmt::format("messages[{}].", index);
  if (!given.is_object()) throw invalid_request("messages is a list of objects with role and content");
  const Fields fields(given, where);
  if (!fields.text("role")) throw invalid_request("{}role is missing", where);
  Json message = given;
  const Json* content = fields.find("content");
  const Json* calls = fields.list("tool_calls");
  if (content != nullptr && content->is_array()) {
    message["content"] = joined_parts(*content, where);
  } else if (content != nullptr && !content->is_string()) {
    throw invalid_request("{}content is a text or a list of parts", where);
  } else if (content == nullptr && calls == nullptr) {
    throw invalid_request("{}content is missing", where);
  }
  if (calls != nullptr) {
    Json list = Json::array();
    for (const Json& call : *calls) list.push_back(earlier_call(call, where));
    message["tool_calls"] = std::move(list);
  }
  return message;
}

// The function of a tool: {type: function, function: {name, description, parameters}}.
const Json& function_of(const Json& tool, size_t index) {
  const std::string where = fmt::format("tools[{}].", index);
  if (!tool.is_object()) throw invalid_request("tools is a list of objects");
  const Fields fields(tool, where);
  if (fields.text("type").value_or("function") != "function")
    throw invalid_request("{}type: only functions are supported", where);
  const Json* function = fields.object("function");
  if (function == nullptr) throw invalid_request("{}function is missing", where);
  const Fields inner(*function, where + "function.");
  if (inner.text("name").value_or("").empty()) throw invalid_request("{}function.name is missing", where);
  inner.object("parameters");
  return *function;
}

Json call_of(const Json& function) {
  const Json parameters = function.contains("parameters") && function["parameters"].is_object()
                              ? function["parameters"]
                              : Json{{"type", "object"}};
  return {{"type", "object"},
          {"properties", {{"name", {{"const", function["name"]}}}, {"arguments", parameters}}},
          {"required", {"name", "arguments"}},
          {"additionalProperties", false}};
}

}  // namespace

Conversation parse_conversation(const Fields& fields) {
  const Json* messages = fields.list("messages");
  if (messages == nullptr) throw invalid_request("messages is missing");
  if (messages->empty()) throw invalid_request("messages is empty");
  if (messages->size() > kMostMessages) throw invalid_request("messages: at most {} are taken", kMostMessages);
  Json variables = Json::object();
  variables["messages"] = Json::array();
  for (const Json& message : *messages)
    variables["messages"].push_back(parse_message(message, variables["messages"].size()));
  variables["add_generation_prompt"] = fields.boolean("add_generation_prompt").value_or(true);

  Conversation result;
  const Json* tools = fields.list("tools");
  const Json* choice = fields.find("tool_choice");
  std::string how = "auto", wanted;
  if (choice != nullptr && choice->is_string()) {
    how = choice->get<std::string>();
    if (how != "auto" && how != "none" && how != "required")
      throw invalid_request("tool_choice is auto, none, required or a function");
  } else if (choice != nullptr) {
    if (!choice->is_object()) throw invalid_request("tool_choice is auto, none, required or a function");
    const Json* function = Fields(*choice, "tool_choice.").object("function");
    if (function == nullptr) throw invalid_request("tool_choice.function is missing");
    wanted = Fields(*function, "tool_choice.function.").text("name").value_or("");
    how = "required";
  }
  if (tools != nullptr && !tools->empty() && how != "none") {
    if (tools->size() > kMostTools) throw invalid_request("tools: at most {} are taken", kMostTools);
    Json calls = Json::array();
    for (const Json& tool : *tools) {
      const Json& function = function_of(tool, result.tools.size());
      result.tools.push_back(function["name"].get<std::string>());
      if (wanted.empty() || wanted == result.tools.back()) calls.push_back(call_of(function));
    }
    if (calls.empty()) throw invalid_request("tool_choice: there is no tool '{}'", wanted.substr(0, 64));
    variables["tools"] = *tools;
    if (how == "required") result.call_schema = compile_schema(Json{{"anyOf", calls}}, "tools");
  } else if (how == "required") {
    throw invalid_request("tool_choice asks for a call, and there are no tools");
  }
  if (const Json* more = fields.object("chat_template_kwargs")) {
    for (const auto& [name, value] : more->items()) {
      if (!variables.contains(name)) variables[name] = value;
    }
  }
  result.variables = std::make_shared<const Json>(std::move(variables));
  return result;
}

}  // namespace surtsey::experiments::serve
