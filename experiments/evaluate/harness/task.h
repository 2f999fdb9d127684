// What is asked of a model: a file of items, and how an item becomes a prompt. A task is a TOML file, so that a prompt
// is a file that one can compare with another; keys have the names that lm-evaluation-harness gives them.
//
//   dataset = "questions.jsonl"          # an object a line; beside this file
//   output_type = "multiple_choice"
//   description = "Answer the question.\n\n"
//   doc_to_text = "Q: {question}\nA:"    # see prompt_template.h
//   doc_to_choice = ["choices"]
//   doc_to_target = "answer"
//
// Or the file of items alone, whose fields then say what is asked:
//
//   question, choices, answer   multiple_choice; answer is a place from 0 on, or the choice itself
//   context, continuation       loglikelihood
//   question, answer            generate_until, up to a line break
//   text                        loglikelihood_rolling; so is a file that ends in .txt, as one text
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

enum class OutputType : uint8_t { loglikelihood, multiple_choice, generate_until, loglikelihood_rolling };
std::string_view name(OutputType type);

struct EvalTask {
  std::string name;  // of the file, unless it says another
  OutputType output_type = OutputType::multiple_choice;

  // Prompt: description, shots with fewshot_delimiter behind each, doc_to_text; target_delimiter and a choice or the
  // target follow.
  std::string description;
  std::string doc_to_text, doc_to_target;
  std::vector<std::string> doc_to_choice;  // a template a choice, or the name of a field that has the list
  std::string target_delimiter = " ", fewshot_delimiter = "\n\n";
  int64_t num_fewshot = 0;

  // Of generate_until: what ends an answer, beside the model's own end; tokens at most; what is made of an answer.
  std::vector<std::string> until = {"\n"};
  int64_t max_gen_toks = 256;
  bool strip = true;               // blanks around the answer, and around the target
  std::string regex;               // of the answer only what this finds: its first group, or all of it
  int64_t regex_group_select = 0;  // which of several finds; -1: the last
  std::string filter_name = "none";
  bool ignore_case = false, ignore_punctuation = false, ignore_numbers = false;

  std::vector<std::string> metrics;  // metrics.h; those of its type where it names none

  // An item a line, as JSON. Shots are drawn from `shots`; empty: from the items.
  std::vector<std::string> items, shots;

  std::string text;  // the whole description with defaults, as TOML
};

// UserError that says where: a key that there is not, an item that is no object, no items, nothing to say what is
// asked.
EvalTask load_task(const std::filesystem::path& path);
// One text, to be told apart by perplexity.
EvalTask text_task(std::string name, std::string text);

}  // namespace surtsey::experiments
