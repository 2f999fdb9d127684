// Chat templates: a conversation as the text that a model was trained on.
//
//   const ChatTemplate chat = load_chat_template("models/qwen");
//   std::string prompt = chat.render({{"messages", messages}, {"add_generation_prompt", true}});
//
// A template is Jinja2 as transformers sets it up (trim_blocks, lstrip_blocks, loop controls, tojson without HTML).
// What Jinja has beyond that (inheritance, imports, automatic escaping) is refused by name. A template may take steps
// and make text in proportion to itself and to what it is given, and no more.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "experiments/base/json.h"

namespace surtsey::experiments::text {

struct RenderOptions {
  std::optional<std::string> date;  // what strftime_now gives, instead of the present
};

class ChatTemplate {
 public:
  // UserError "NAME:LINE: .." for what is no template, and what is one that is not supported.
  ChatTemplate(std::string source, std::string name);

  // The variables of the template, an object: messages, tools, add_generation_prompt and others; bos_token and the like
  // come from the folder where they are not given. UserError "NAME:LINE: .." where the template cannot go on: also when
  // it says so itself (raise_exception).
  std::string render(const nlohmann::ordered_json& variables, const RenderOptions& options = {}) const;

  // Special tokens by name (bos_token, eos_token, ..), for variables that are not given.
  void set_tokens(const nlohmann::json& tokenizer_config);

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
  HeldJson tokens_;
};

// From chat_template.jinja of a folder, or chat_template of its tokenizer_config.json: a string, or a list of named
// ones (`name` chooses, "default" where it is empty). `file` is a template of its own, with the folder's tokens.
// UserError says where it looked.
ChatTemplate load_chat_template(const std::filesystem::path& folder, const std::string& name = "",
                                const std::filesystem::path& file = {});
// The same as text, where the folder has one.
std::optional<std::string> chat_template_source(const std::filesystem::path& folder, const std::string& name = "");

}  // namespace surtsey::experiments::text
