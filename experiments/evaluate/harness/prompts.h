// Items as prompts: zero, one or few shots before a question, and what is asked of it.
#pragma once

#include "experiments/evaluate/harness/task.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct Prompt {
  int64_t doc = 0;      // place among the items, from 0
  std::string item;     // as JSON
  std::string context;  // description, shots, question
  // What may follow it, each with the delimiter in front: every choice, or the target. Of loglikelihood_rolling the
  // text, without context; of generate_until none.
  std::vector<std::string> continuations;
  std::vector<std::string> choices;  // without the delimiter
  int64_t gold = 0;                  // of the choices
  std::string target;                // the answer as text
  std::string retrieved;             // what PromptOptions::retrieve put before the context, as JSON; empty: nothing
};

struct PromptOptions {
  std::optional<int64_t> shots;  // instead of the task's own number
  uint32_t seed = 0;             // which shots, and in what order
  int64_t limit = 0;             // only the first so many items; 0: all
  // What a user says, as the model is used to hearing it: the whole context is what this makes of it, and answers
  // follow without the delimiter (as the harness has it). None: contexts as they are.
  std::function<std::string(const std::string& context)> chat = {};
  // Puts before the contexts what is found for `questions` (of each prompt its item's own text, without description
  // and shots), and writes down what that was. Contexts are as they are before `chat`. None: nothing is put there; nor
  // is it before texts whose perplexity is asked for.
  std::function<void(const EvalTask& task, std::vector<Prompt>& prompts, const std::vector<std::string>& questions)>
      retrieve = {};
};

// The same shots in the same order for every item, so that all share the beginning of their prompts. Where shots are
// drawn from the items themselves one more is drawn; it stands in for an item that is among them in its own prompt.
// UserError: more shots than there is to draw from; what PromptTemplate refuses, by file and number of the item.
std::vector<Prompt> make_prompts(const EvalTask& task, const PromptOptions& options);

}  // namespace surtsey::experiments
