// Tasks asked of a model, and their folder.
#pragma once

#include "experiments/base/folder_lock.h"
#include "experiments/evaluate/harness/encoding.h"
#include "experiments/evaluate/harness/records.h"
#include "experiments/evaluate/harness/scorer.h"

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct AskOptions {
  bool add_bos_token = false;
  int64_t window = 0;  // tokens that are read at once, of a text whose perplexity is asked for; 0: all of the context
  int64_t stride = 0;  // tokens that are scored at a time; 0: a whole window (the harness's way)
};

// A model to ask, and how its text is cut.
struct AskedModel {
  Scorer& scorer;
  const text::Tokenizer& tokenizer;
  hub::SpecialTokens tokens;
};

// Asks every prompt. Prompts that begin alike are asked behind each other, so that what they share is read once; of
// texts that are written, the longest prompts come first. answered(i, answers) comes once for each, in that order.
// A context that is too long loses its beginning. UserError: a continuation that is too long alone. Interrupted
// between two items, after a signal.
void ask(const AskedModel& model, const EvalTask& task, const std::vector<Prompt>& prompts, const AskOptions& options,
         const std::function<void(size_t place, std::vector<Answer> answers)>& answered);

// The folder of an evaluation; nothing in it is ever half written.
//
//   config.json             what was told: another run of this folder must be told the same
//   unfinished_TASK.jsonl   items that are answered, while others are not
//   samples_TASK.jsonl      all, in their order
//   results.json            when every task is done
class EvaluationFolder {
 public:
  // Takes its lock. UserError: it holds an evaluation and `resume` was not given; one that was told otherwise. Paths
  // (model_args, adapter) may differ: fingerprints of what lies there are to be in `config`.
  EvaluationFolder(std::filesystem::path folder, std::map<std::string, std::string> config, bool resume);

  // Asks what no line of the folder answers yet, and writes the task's samples.
  TaskResult run(const AskedModel& model, const EvalTask& task, const PromptOptions& prompts,
                 const AskOptions& options);
  void write_results(const std::vector<TaskResult>& results, double seconds);

 private:
  std::filesystem::path folder_;
  FolderLock lock_;
  std::map<std::string, std::string> config_;
};

// The same without a folder: all items, in their order; and what comes of them.
std::vector<EvalSample> ask_all(const AskedModel& model, const EvalTask& task, const PromptOptions& prompts,
                                const AskOptions& options);
TaskResult evaluate_task(const AskedModel& model, const EvalTask& task, const PromptOptions& prompts,
                         const AskOptions& options);

}  // namespace surtsey::experiments
