#include "experiments/evaluate/answers.h"

namespace surtsey::experiments {

SampleLine answer_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item, size_t index,
                       std::span<const int32_t> response) {
  const tasks::ItemScore score = task.score(item, response);
  SampleLine line;
  line.cell = cell;
  line.arm = task.arms()[static_cast<size_t>(item.arm)];
  line.index = static_cast<int64_t>(index);
  line.prompt = task.decode(item.prompt());
  line.target = task.decode(item.answer());
  line.response = task.decode(task.written(response));
  line.target_value = task.value(item.answer());
  line.response_value = task.value(response);
  line.correct = score.final_correct;
  line.chain_correct = score.chain_correct;
  return line;
}

std::vector<std::span<const int32_t>> responses_of(const ArmAnswers& answers, size_t member) {
  std::vector<std::span<const int32_t>> responses;
  size_t at = 0;
  for (const tasks::Item& item : answers.items) {
    const auto length = static_cast<size_t>(item.response_length());
    responses.push_back(std::span(answers.responses[member]).subspan(at, length));
    at += length;
  }
  return responses;
}

void add_answer_lines(const tasks::Task& task, std::span<const Cell> cells, const ArmAnswers& answers,
                      std::vector<SampleLine>& lines) {
  for (size_t e = 0; e < cells.size(); ++e) {
    const auto responses = responses_of(answers, e);
    for (size_t i = 0; i < answers.items.size(); ++i) {
      const tasks::Item& item = answers.items[i];
      SampleLine& line = lines.emplace_back(answer_line(task, cells[e].cell, item, i, responses[i]));
      line.nll = answers.nll[e][i];
      line.measures = task.measures(item, responses[i], answers.nll[e][i]);
    }
  }
}

}  // namespace surtsey::experiments
