// What of a prompt changes from item to item: fields of the item, by name.
//
//   choices.text                     all of it is the name of a field: what the field holds, a list say
//   "Question: {question}\nAnswer:"  {field} is the field as text; other braces stand as they are
//   "{{question}} {% if .. %}"       what has {{ or {% in it is Jinja, as text/chat_template.h has it
//
// A field inside another is named with a dot, a place of a list in brackets: {choices.text[0]}.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>

namespace surtsey::experiments {

class PromptTemplate {
 public:
  // `where` begins messages: "arc.toml: doc_to_text". UserError: Jinja that cannot be read.
  PromptTemplate(std::string source, std::string where);

  // Of one item, an object. UserError: a field that the item does not have (Jinja takes it for nothing), text() of a
  // list or an object.
  std::string text(const nlohmann::ordered_json& item) const;
  // A field's own value where the template is its name, else the text.
  nlohmann::ordered_json value(const nlohmann::ordered_json& item) const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace surtsey::experiments
