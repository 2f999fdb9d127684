#include "experiments/text/chat_template.h"

#include <nlohmann/json.hpp>

#include "experiments/base/file.h"
#include "experiments/text/template_evaluator.h"
#include "experiments/text/template_syntax.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

// Of what is given, and of a template alone: the largest of llama.cpp's 68 templates takes 20,000 steps.
constexpr int64_t kTemplateSteps = 400'000, kTemplateStepsPerByte = 64;
constexpr int64_t kBytesAlways = 24 << 20, kBytesPerByte = 16;
constexpr size_t kSourceLimit = 4 << 20;

size_t size_of(const ordered_json& value) {
  size_t size = sizeof(templates::Value);
  if (value.is_string()) size += value.get_ref<const std::string&>().size();
  if (value.is_structured()) {
    for (const auto& [key, item] : value.items()) size += key.size() + size_of(item);
  }
  return size;
}

// "<s>", or {"content": "<s>", ..}.
std::optional<std::string> token_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return std::nullopt;
}

json read_object(const fs::path& path) {
  const auto text = read_file_if_exists(path);
  if (!text) return json::object();
  json value = json::parse(*text, nullptr, false);
  check(value.is_object(), "{}: no JSON object", path.string());
  return value;
}

std::string named_template(const json& given, const std::string& name, const std::string& where) {
  if (given.is_string()) {
    check(name.empty() || name == "default", "{}: there is one chat template, and none named '{}'", where, name);
    return given.get<std::string>();
  }
  check(given.is_array(), "{}: chat_template is a string or a list", where);
  std::string names;
  for (const json& each : given) {
    check(each.is_object() && each.contains("name") && each["name"].is_string() && each.contains("template") &&
              each["template"].is_string(),
          "{}: a chat template of the list has a name and a template", where);
    if (each["name"] == (name.empty() ? "default" : name)) return each["template"].get<std::string>();
    names += (names.empty() ? "" : ", ") + each["name"].get<std::string>();
  }
  throw UserError(
      fmt::format("{}: there is no chat template '{}'; there are {}", where, name.empty() ? "default" : name, names));
}

}  // namespace

struct ChatTemplate::Parsed {
  std::string name;
  size_t size = 0;
  templates::Statements statements;
};

ChatTemplate::ChatTemplate(std::string source, std::string name) {
  check(source.size() <= kSourceLimit, "{}: a template of {} bytes, at most {} are read", name, source.size(),
        kSourceLimit);
  auto parsed = std::make_shared<Parsed>();
  parsed->size = source.size();
  parsed->statements = templates::parse(source, name);
  parsed->name = std::move(name);
  parsed_ = std::move(parsed);
}

std::string ChatTemplate::render(const ordered_json& variables, const RenderOptions& options) const {
  check(variables.is_object(), "{}: the variables of a template are an object", parsed_->name);
  ordered_json all = variables;
  for (const auto& [name, token] : tokens_->items()) {
    if (!all.contains(name)) all[name] = token.get<std::string>();
  }
  const auto given = int64_t(size_of(all) + parsed_->size);
  const templates::Work work{kTemplateSteps + kTemplateStepsPerByte * given, kBytesAlways + kBytesPerByte * given};
  templates::Value values;
  try {
    values = templates::from_json(all);
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", parsed_->name, error.what()));
  }
  return templates::Evaluator(parsed_->name, work, options.date).run(parsed_->statements, *values.as_dict());
}

void ChatTemplate::set_tokens(const json& tokenizer_config) {
  for (const auto& [name, value] : tokenizer_config.items()) {
    if (!name.ends_with("_token")) continue;
    if (const auto text = token_text(value)) (*tokens_)[name] = *text;
  }
}

namespace {

// Source and name in messages.
std::optional<std::pair<std::string, std::string>> find_template(const fs::path& folder, const json& config,
                                                                 const std::string& name) {
  const fs::path own = folder / (name.empty() ? "chat_template.jinja" : "additional_chat_templates/" + name + ".jinja");
  if (const auto source = read_file_if_exists(own)) return {{*source, own.filename().string()}};
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return std::nullopt;
  const std::string where = (folder / "tokenizer_config.json").string();
  return {{named_template(config["chat_template"], name, where), "chat_template"}};
}

}  // namespace

std::optional<std::string> chat_template_source(const fs::path& folder, const std::string& name) {
  const auto found = find_template(folder, read_object(folder / "tokenizer_config.json"), name);
  return found ? std::optional(found->first) : std::nullopt;
}

ChatTemplate load_chat_template(const fs::path& folder, const std::string& name, const fs::path& file) {
  const json config = read_object(folder / "tokenizer_config.json");
  const auto load = [&]() -> ChatTemplate {
    if (!file.empty()) return {read_text(file), file.filename().string()};
    if (auto found = find_template(folder, config, name)) return {std::move(found->first), std::move(found->second)};
    throw UserError(
        fmt::format("{}: there is no chat template: neither chat_template.jinja nor chat_template in "
                    "tokenizer_config.json; --template names a file of its own",
                    folder.string()));
  };
  ChatTemplate result = load();
  result.set_tokens(read_object(folder / "special_tokens_map.json"));
  result.set_tokens(config);
  return result;
}

}  // namespace surtsey::experiments::text
