// `surtsey generate --chat`: a conversation on the terminal.
#pragma once

#include "experiments/generate/text_model.h"
#include "experiments/models/hub/source.h"
#include "experiments/retrieve/prompts.h"
#include "experiments/text/chat_template.h"
#include "experiments/text/tokenizer.h"

#include <nlohmann/json.hpp>

#include <string>

namespace surtsey::experiments::commands {

struct ChatOptions {
  std::string system;         // what the conversation begins with; empty: what the template has
  std::string template_file;  // instead of the model's own
  uint64_t seed = 0;
  const PassagePrompts* passages = nullptr;  // before what the user says last
};

class Chat {
 public:
  // UserError: the model has no chat template. Source and tokenizer outlive it.
  Chat(const hub::Source& source, const text::Tokenizer& tokenizer, const ChatOptions& options);

  // Reads a line of the user from stdin, writes the answer to stdout as it comes, and so on until the end of the input
  // or a line "/exit"; the speed of all answers to stderr. What the conversation has in common with what the model has
  // read is not read again. UserError: a conversation that is longer than the context.
  void run(TextModel& model, const hub::GenerationConfig& how);

 private:
  std::vector<int32_t> prompt(const nlohmann::ordered_json& messages) const;
  // The conversation with passages before its last message.
  nlohmann::ordered_json with_passages(int64_t context, const hub::GenerationConfig& how) const;
  std::string answer(TextModel& model, const hub::GenerationConfig& how);

  const text::Tokenizer& tokenizer_;
  const uint64_t seed_;
  const PassagePrompts* passages_;
  text::ChatTemplate template_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  double seconds_ = 0, first_seconds_ = 0;  // of all answers, of their first tokens
  size_t tokens_ = 0, answers_ = 0;
};

}  // namespace surtsey::experiments::commands
