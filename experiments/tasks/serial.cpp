#include "experiments/tasks/serial.h"

#include <algorithm>

namespace surtsey::experiments::tasks {
namespace {

constexpr const char* kEnd = "<eos>";

PromptedTask::Layout completed(PromptedTask::Layout layout, const SerialOptions& options, int32_t steps_length,
                               int32_t direct_length, std::string_view separator) {
  layout.symbols.emplace_back(separator);
  layout.symbols.emplace_back(kEnd);
  layout.arms = {{options.steps ? "cot" : "direct", "", options.steps ? steps_length : direct_length}};
  layout.end = kEnd;
  layout.training_problems = options.training_problems;
  return layout;
}

}  // namespace

SerialTask::SerialTask(Layout layout, const SerialOptions& options, int32_t steps_length, int32_t direct_length,
                       std::string_view separator)
    : PromptedTask(completed(std::move(layout), options, steps_length, direct_length, separator)),
      steps_(options.steps),
      separator_(token(separator)) {}

std::string SerialTask::value(std::span<const int32_t> answer) const {
  const auto end = std::find(answer.begin(), answer.end(), end_token());
  // One token that is asked for at once has no end of its own.
  if (end == answer.end()) return answer_length(0) == 1 ? decode(answer) : "unfinished";
  const auto last = std::find(std::make_reverse_iterator(end), std::make_reverse_iterator(answer.begin()), separator_);
  return decode(std::span(last.base(), end));
}

}  // namespace surtsey::experiments::tasks
