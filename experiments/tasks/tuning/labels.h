// What a head of labels is to learn of a text, as people write it down, and as numbers: K of them a text.
//
//   {"text": "..", "label": "name" or 3}            one label of K
//   {"text": "..", "labels": [..]}                  several of K, by names or numbers, or as K zeros and ones
//   {"text": "..", "label": 1.5}, "label": [..]     K numbers (regression)
//   with "text_pair": ".."                          a pair of texts; "sentence" stands for "text" too
//
// A list of K zeros and ones in every row is read as transformers reads it, one a label; else lists of whole numbers
// name labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::tasks {

// By transformers' names, with its losses, each the mean over a text's labels and then over texts:
//   regression                   (score - number)^2
//   single_label_classification  -log softmax(scores)[label]
//   multi_label_classification   -log sigmoid(score) of labels that the text has, -log sigmoid(-score) of the others
enum class ProblemType : uint8_t { regression, single_label, multi_label };
const char* name(ProblemType problem);
ProblemType parse_problem_type(std::string_view word);  // UserError lists them

struct LabelledRow {
  std::string text;
  std::optional<std::string> pair;
  bool labelled = false, list = false;
  // Of what it is labelled with: names, or numbers.
  std::vector<std::string> names;
  std::vector<double> numbers;
};
// UserError beginning with `where`: no JSON object; no text in "text" or "sentence"; a label that is neither a name nor
// a finite number, nor a list of one kind; with `labelled`, none.
LabelledRow parse_labelled_row(std::string_view line, const std::string& where, bool labelled = true);

// What the K numbers of a text are.
struct LabelSet {
  ProblemType problem = ProblemType::single_label;
  std::vector<std::string> names;  // K
  bool zeros_and_ones = false;     // lists have one a label

  int64_t count() const { return int64_t(names.size()); }
  // f32 [K]: of a classification 1 where the text has the label, 0 elsewhere. UserError beginning with `where`: what
  // this problem cannot be labelled with, a name that is none of `names`, a number that is no label's.
  std::vector<float> values(const LabelledRow& row, const std::string& where) const;
};

// How the rows of a file are labelled, from what is known of it: `count` labels, the problem where it is not to be told
// from the rows, and names that a model has for its labels.
struct LabelRequest {
  int64_t count = 0;
  std::optional<ProblemType> problem = {};
  std::vector<std::string> known = {};
};
class LabelScan {
 public:
  explicit LabelScan(LabelRequest request) : request_(std::move(request)) {}

  // UserError beginning with `where`: it is labelled in another way than those before it.
  void add(const LabelledRow& row, const std::string& where);
  // As transformers infers the problem: K = 1 is a regression, else one label a text or, of lists, several. Names are
  // those that are known where all of the rows' are among them, else the rows' by letter; of numbers, the numbers.
  // UserError beginning with `file`: other labels than `count`; a problem that these rows are not of.
  LabelSet labels(const std::string& file) const;
  bool has_zeros_and_ones() const { return zeros_and_ones_; }  // of every row's list, one a label

 private:
  LabelRequest request_;
  std::string first_;  // where the first row stands
  bool list_ = false, named_ = false, numbered_ = false, zeros_and_ones_ = true;
  std::map<std::string, std::string> names_;  // where each stands first
  std::string broken_;                        // where a number that is not whole stands first
};

// The same of all rows of a file.
LabelSet labels_of(const std::filesystem::path& path, LabelRequest request);

}  // namespace surtsey::experiments::tasks
