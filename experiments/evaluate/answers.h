// What models answered, as lines of samples.jsonl.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "experiments/evaluate/evaluate.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

// One answer to the item with this index, without its loss.
SampleLine answer_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item, size_t index,
                       std::span<const int32_t> response);

// The response of one member to each item in turn.
std::vector<std::span<const int32_t>> responses_of(const ArmAnswers& answers, size_t member);

// Every answer of every member, with losses and measures; cells stand in the order of the members.
void add_answer_lines(const tasks::Task& task, std::span<const Cell> cells, const ArmAnswers& answers,
                      std::vector<SampleLine>& lines);

}  // namespace surtsey::experiments
