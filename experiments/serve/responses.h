// Answers as clients read them: OpenAI's objects for completions, chats, embeddings and errors.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/serve/errors.h"
#include "experiments/serve/scheduler.h"
#include "experiments/serve/tool_calls.h"

namespace surtsey::experiments::serve {

// One answer, or of a stream what is new of it.
struct Choice {
  int64_t index = 0;
  std::string text;
  std::vector<TextEvent::Token> tokens;  // of `text`, those of an echoed prompt first
  std::vector<ToolCall> calls;
  Finish finish = Finish::none;
  size_t offset = 0;    // characters of the whole text that stand before `tokens`
  bool begins = false;  // of a chat's stream: the first that is sent of it
};

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0;
};

// What all parts of one answer have in common.
struct AnswerHead {
  std::string id;
  int64_t created = 0;  // seconds since 1970
  bool chat = false;
  bool logprobs = false;
  int32_t adapter = 0;  // 0: the model's own name is on it, i: that of adapter i
  // Passages that stand before the prompts (of a chat before its one), a list in JSON each; told as "retrieved", in a
  // stream by its first part. Empty: nothing was asked of an index.
  std::vector<std::string> retrieved = {};
};
AnswerHead new_answer(bool chat, bool logprobs, int32_t adapter = 0);

// text_completion, chat.completion.
nlohmann::ordered_json whole_answer(const AnswerHead& head, const ServedModel& model,
                                    const std::vector<Choice>& choices, const Usage& usage);
// The passages of the head, into an answer or the first part of a stream.
void add_retrieved(nlohmann::ordered_json& answer, const AnswerHead& head);
// text_completion, chat.completion.chunk; with `usage` alone, where there is one, and no choices.
nlohmann::ordered_json answer_part(const AnswerHead& head, const ServedModel& model, const std::vector<Choice>& choices,
                                   const Usage* usage = nullptr);
nlohmann::ordered_json embedding_answer(const ServedModel& model, const std::vector<std::vector<float>>& vectors,
                                        int64_t tokens, bool base64);
nlohmann::ordered_json error_answer(const ApiError& error);

// A line of JSON; what is not UTF-8 in it is replaced (a message may quote a client's bytes).
std::string line_of(const nlohmann::ordered_json& value);

}  // namespace surtsey::experiments::serve
