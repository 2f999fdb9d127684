// What models answered, as lines of samples.jsonl.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "experiments/evaluate/evaluate.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

// The response in lines of a model whose output was not a number: no symbol of a task, so never right.
inline constexpr const char* kNothingWritten = "not-a-number";

// One answer to the item with this index, without its loss.
SampleLine answer_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item, size_t index,
                       std::span<const int32_t> response);

// Every answer of every member, with losses and measures; cells stand in the order of the members.
void add_answer_lines(const tasks::Task& task, std::span<const Cell> cells, const ArmAnswers& answers,
                      std::vector<SampleLine>& lines);

// Of answers of one token: the share of right ones.
Measure right_share(std::string name, const ArmAnswers& answers, size_t member);

}  // namespace surtsey::experiments
