#include "experiments/evaluate/answers.h"

#include <cmath>

#include "experiments/results/claims.h"

namespace surtsey::experiments {

SampleLine answer_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item, size_t index,
                       std::span<const int32_t> response) {
  SampleLine line;
  line.cell = cell;
  line.arm = task.arms()[static_cast<size_t>(item.arm)];
  line.index = static_cast<int64_t>(index);
  line.prompt = task.decode(item.prompt());
  line.target = task.decode(item.answer());
  line.target_value = task.value(item.answer());
  if (!is_written(response)) {
    line.response = kNothingWritten;
    if (!line.target_value.empty()) line.response_value = kNothingWritten;
    return line;
  }
  const tasks::ItemScore score = task.score(item, response);
  line.response = task.decode(task.written(response));
  line.response_value = task.value(response);
  line.correct = score.final_correct;
  line.chain_correct = score.chain_correct;
  return line;
}

void add_answer_lines(const tasks::Task& task, std::span<const Cell> cells, const ArmAnswers& answers,
                      std::vector<SampleLine>& lines) {
  for (size_t e = 0; e < cells.size(); ++e) {
    const auto responses = responses_of(answers, e);
    for (size_t i = 0; i < answers.items.size(); ++i) {
      const tasks::Item& item = answers.items[i];
      SampleLine& line = lines.emplace_back(answer_line(task, cells[e].cell, item, i, responses[i]));
      if (std::isfinite(answers.nll[e][i])) line.nll = answers.nll[e][i];
      if (is_written(responses[i])) line.measures = task.measures(item, responses[i], answers.nll[e][i]);
    }
  }
}

Measure right_share(std::string name, const ArmAnswers& answers, size_t member) {
  const auto responses = responses_of(answers, member);
  int64_t right = 0;
  for (size_t i = 0; i < responses.size(); ++i)
    right += responses[i].back() == answers.items[i].answer().back() ? 1 : 0;
  return share_measure(std::move(name), right, std::ssize(responses));
}

}  // namespace surtsey::experiments
