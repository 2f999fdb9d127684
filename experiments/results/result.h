// What a study found, as written to result.json and read back by the report.
//
// The numbers of an arm are those that recompute_arms() gets from samples.jsonl again: nothing in a
// result rests on anything that is not on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "experiments/results/figure.h"
#include "experiments/results/grid.h"
#include "experiments/statistics/verdict.h"

namespace surtsey::experiments {

inline constexpr const char* kResultFile = "result.json";
inline constexpr const char* kSamplesFile = "samples.jsonl";

// Named facts in the order to show them.
using Facts = std::vector<std::pair<std::string, std::string>>;
nlohmann::ordered_json facts_json(const Facts& facts);  // an object

// One prompt kind of one trained model.
struct ArmResult {
  std::string arm;
  double exact_match = 0;                 // share of items whose final answer is right
  double chain_exact_match = 0;           // share of items whose whole answer is right
  int64_t n = 0;                          // items
  Interval ci95;                          // Wilson interval of exact_match
  double loss_per_token = 0;              // nats, teacher-forced, over the answer tokens
  double loss_stderr = 0;                 // of loss_per_token, over the items
  std::vector<double> position_accuracy;  // of each answer token, greedy decoding
};

// A mean over test items that a task or a study defines, with its standard error.
struct Measure {
  std::string name;  // of items of an arm: "arm.name"
  double mean = 0;
  double standard_error = 0;
  int64_t n = 0;  // items
};

// One trained model: a size, a seed, a learning rate. Members of one ensemble are cells of their
// own.
struct Cell {
  std::string cell;  // unique in the study; the `cell` of its lines in samples.jsonl
  int64_t parameters = 0;
  int32_t n_layer = 0;
  int32_t n_embd = 0;
  uint32_t seed = 0;
  double learning_rate = 0;
  int64_t steps = 0;
  int64_t tokens = 0;        // training tokens
  double flops = 0;          // of the training, from the plan
  double train_seconds = 0;  // wall clock; of the ensemble, divided among its members
  std::vector<ArmResult> arms;
  std::optional<double> faithfulness;  // see Corruption in tasks/task.h

  // Not every study has these.
  std::string task;     // groups the charts when a study has several tasks
  std::string variant;  // what was trained: "joint", "direct only"; lines join equal variants
  double chance = 0;    // final-answer accuracy of guessing
  // Whether this learning rate was the one chosen for this size; the others are shown faintly.
  bool selected = true;
  std::optional<double> validation_loss;  // nats per answer token, what the choice rests on
  bool validation_only = false;           // trained on the selection seed: never part of a claim

  std::vector<Measure> measures;  // what the task measures beside exact match

  const ArmResult* find_arm(std::string_view arm) const;  // null where the model was not asked so
  const ArmResult& arm(std::string_view arm) const;       // InternalError there
  const Measure* find_measure(std::string_view name) const;
};

// Whether a model's loss is no number: on held-out sequences, in all of its answers, or in what was measured of it.
// Such a model has no scores: whoever judges, averages or fits leaves it out and says so.
bool diverged(const Cell& cell);

struct Claim {
  std::string name;
  std::string statement;  // with its bound, declared before the run
  Verdict verdict = Verdict::kInconclusive;
  std::string evidence;
  int64_t seeds = 0;           // independent trainings that the verdict rests on
  double confidence = 0;       // of the intervals at which it was reached
  bool demonstration = false;  // few seeds or a quick scale: it demonstrates, it does not establish
};

struct StudyResult {
  std::string study;
  std::string scale;
  Facts device;
  std::vector<Cell> cells;
  std::vector<Claim> claims;

  std::string title;                 // of the report; the study's name if empty
  std::string question;              // one or two sentences
  bool benchmark = false;            // cells are timed, not evaluated: no seeds, no answers
  bool demonstration = false;        // few seeds: verdicts demonstrate, they do not establish
  std::vector<std::string> caveats;  // of this study, beside the ones the report derives
  Facts settings;                    // what else a reader needs: steps, batch, grid of learning rates
  std::vector<Grid> grids;           // tables of its own, above the figures
  std::vector<Figure> figures;       // beside those of every study
};

// Pretty-printed JSON with the keys of the fields above; doubles read back to the same bits.
std::string to_json(const StudyResult& result);

// Throws UserError naming `source` and the key that is missing or of the wrong type.
StudyResult parse_result(std::string_view json, std::string_view source);
StudyResult load_result(const std::filesystem::path& path);

// One evaluated item: a line of samples.jsonl.
struct SampleLine {
  std::string cell;
  std::string arm;
  int64_t index = 0;  // of the item; the same problem in every arm and cell
  std::string prompt;
  std::string target;
  std::string response;        // greedy, from the prompt alone
  bool correct = false;        // final answer
  bool chain_correct = false;  // whole answer
  // What the two come to where that is more than their last symbols (tasks::Task::value): the final
  // answer is right when these are equal.
  std::string target_value;
  std::string response_value;
  // Sum over the answer tokens, teacher-forced, in nats; absent in lines of kCorruptedArm.
  std::optional<double> nll;
  std::vector<std::pair<std::string, double>> measures;  // tasks::Task::measures()
};

// Lines of this arm hold the intervention on the chain: prompt carries the forced prefix, target is
// the final answer that a causal chain must give, response the one that came. faithfulness is their
// share of correct.
inline constexpr std::string_view kCorruptedArm = "corrupted";
// Lines of this arm ask for the final answer alone, all right steps before it given: what is wrong
// then is a wrong step, not one that went on from another.
inline constexpr std::string_view kGivenArm = "steps_given";

std::string to_json_line(const SampleLine& sample);
SampleLine parse_sample(std::string_view line, std::string_view source);
// Every complete line of a file; a torn last line (a killed run) is left out. A missing file is
// empty.
std::vector<SampleLine> load_samples(const std::filesystem::path& path);

// The arms and faithfulness of one cell, from its samples alone. Arms come in the order of their
// first line. Symbols of an answer are separated by blanks.
struct Recomputed {
  std::string cell;
  std::vector<ArmResult> arms;
  std::optional<double> faithfulness;
  std::vector<Measure> measures;
};
std::vector<Recomputed> recompute(const std::vector<SampleLine>& samples);

// Differences between a result and its samples, one sentence each; empty if all numbers agree to
// 1e-9 (losses to 1e-6 relative).
std::vector<std::string> disagreements(const StudyResult& result, const std::vector<SampleLine>& samples);

// The variant of cells whose weights were rounded to so many bits: "int5".
std::string rounded_variant(int32_t bits);
bool is_rounded_variant(std::string_view variant);

}  // namespace surtsey::experiments
