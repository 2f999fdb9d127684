// What an evaluation leaves, in lm-evaluation-harness's form: a line an item, and results.json. Every number of the
// latter follows from the former.
#pragma once

#include "experiments/evaluate/harness/metrics.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

// One item, asked.
struct EvalSample {
  Prompt prompt;
  std::vector<Answer> answers;
};

// A line of samples_TASK.jsonl: doc_id, doc, target, arguments, resps, filtered_resps, the metrics of the item, hashes
// of what was asked. Numbers read back to the same bits.
std::string to_json_line(const EvalTask& task, const AnswerFilter& filter, const EvalSample& sample);

// The answers of a line that asked the same of the same item; nothing where it did not, or is no whole line.
std::optional<std::vector<Answer>> answers_of(std::string_view line, const EvalTask& task, const Prompt& prompt);
// Which item a line is of; -1: of none.
int64_t item_of(std::string_view line);

// All that is known of a task when it is done.
struct TaskResult {
  EvalTask task;
  int64_t shots = 0;
  int64_t items = 0;  // that were asked
  std::vector<MetricResult> metrics;
};
TaskResult task_result(const EvalTask& task, const AnswerFilter& filter, int64_t shots,
                       const std::vector<EvalSample>& samples);

// results.json. `config`: what the run was told, by name; text as it is.
std::string results_json(const std::vector<TaskResult>& results, const std::map<std::string, std::string>& config,
                         double seconds);

// A table for the terminal: a row a metric, with its standard error and 95% interval.
std::string results_table(const std::vector<TaskResult>& results);

}  // namespace surtsey::experiments
