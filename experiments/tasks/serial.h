// Problems that take many steps in series (E05), as Feng et al. 2023 ("Towards Revealing the
// Mystery behind Chain of Thought", 2305.15408) write them: symbols separated by blanks, asked for
// the steps ("cot") or for the answer at once ("direct"), a model each.
//
// Steps come in parts with a separator between them; the last part is the final answer, and answers
// end with <eos>. A response that never ends has none.
#pragma once

#include "experiments/tasks/prompted.h"

namespace surtsey::experiments::tasks {

struct SerialOptions {
  bool steps = true;              // the arm: "cot", else "direct"
  int64_t training_problems = 0;  // see PromptedTask::Layout
};

class SerialTask : public PromptedTask {
 public:
  // The final answer as text, "unfinished" without an end.
  std::string value(std::span<const int32_t> answer) const override;

 protected:
  // Fills in the arm, whose answers have at most so many tokens, the symbols <eos> and
  // `separator`, and what the options say.
  SerialTask(Layout layout, const SerialOptions& options, int32_t steps_length, int32_t direct_length,
             std::string_view separator);

  bool steps() const { return steps_; }
  int32_t separator() const { return separator_; }

 private:
  bool steps_;
  int32_t separator_;
};

}  // namespace surtsey::experiments::tasks
