// A conversation as a client sends it, on its way to a chat template.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <vector>

#include "experiments/serve/json_schema.h"

namespace surtsey::experiments::serve {

class Fields;

struct Conversation {
  std::shared_ptr<const nlohmann::ordered_json> variables;  // of the template: messages, tools, ..
  std::vector<std::string> tools;                           // names of functions that may be called
  std::shared_ptr<const JsonSchema> call_schema;            // where the answer has to be a call: {name, arguments}
};

// messages, tools, tool_choice, add_generation_prompt, chat_template_kwargs. Parts of a content are joined; arguments
// of earlier calls become objects, as templates want them. ApiError (400).
Conversation parse_conversation(const Fields& fields);

}  // namespace surtsey::experiments::serve
