// The vocabulary of claims: which cells, what is measured on each, what must hold of it, and of how many.
//
//   {"start", "The smallest size has exact match of at most {unsolved} in every seed.",
//    every_seed(cells("", "joint").smallest(), is(exact_match("cot"), at_most(k.unsolved)))}
//
// A rule writes its own evidence: what it looked at, model by model. Where one of several chances suffices, it corrects
// for their number. A judge that no rule fits is a function of (StudyResult, confidence).
//
// A model that diverged (results/result.h) has no scores. What must hold of it is open, so a claim of every model is
// open or fails by another; means, pairs and fits leave it out and tell how many they left out.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "experiments/results/claims.h"
#include "experiments/statistics/threshold.h"
#include "experiments/sweeps/pack.h"

namespace surtsey::experiments {

using Cells = std::vector<const Cell*>;
using Judge = std::function<Judgement(const StudyResult&, double confidence)>;

// ---- What is measured on a model -----------------------------------------------------------

// Of a model that diverged the value is kNoValue, and so are both ends of the interval: no bound holds or fails of it.
struct Score {
  std::string name;  // in evidence beside another; empty: said by the claim
  std::function<double(const Cell&)> value;
  std::function<Interval(const Cell&, double confidence)> interval;

  Score named(std::string text) const;
};
// Of an arm; of the only one that a model is asked, where it has no name.
Score exact_match(std::string arm);   // share of right final answers
Score whole_answer(std::string arm);  // share of answers with every token right
Score loss(std::string arm);          // nats a token
Score measure(std::string name);      // InternalError where a cell lacks it that did not diverge
Score measured(std::function<Measure(const Cell&)> of);
Score faithfulness(std::string arm);  // share of corrupted steps of that arm that move the answer as they should

// ---- Which models --------------------------------------------------------------------------

// Cells that count, of a task and a variant: learning rate chosen, not for validation only.
class Pick {
 public:
  Pick(std::string task, std::string variant) : task_(std::move(task)), variant_(std::move(variant)) {}

  Pick layers(int32_t n_layer) const;
  Pick largest() const;   // of the largest width alone
  Pick smallest() const;  // of the fewest parameters alone
  // Of which a score is within bounds, ends included.
  Pick where(Score score, double low, double high = 1) const;

  Cells of(const StudyResult& result) const;
  std::string name() const { return task_.empty() ? variant_ : task_ + " " + variant_; }

 private:
  enum class Size { kAll, kLargest, kSmallest };
  std::string task_, variant_;
  int32_t layers_ = 0;
  Size size_ = Size::kAll;
  std::vector<std::function<bool(const Cell&)>> conditions_;
};
Pick cells(std::string task, std::string variant);

// ---- What must hold of a model -------------------------------------------------------------

struct Test {
  std::vector<Score> shown;  // what evidence tells of each model
  std::function<Verdict(const Cell&, double confidence)> judge;

  Test beside(Score score) const;  // shows more
  Test hidden() const;             // shows nothing: its scores are shown already
};

using Bound = std::function<Verdict(const Interval&, const Cell&)>;
Bound at_least(double bound);
Bound at_most(double bound);
Bound within(double center, double margin);
Bound near_chance(double margin);  // guessing, or so far above it at most
Bound positive();                  // FAIL already when nothing is gained

Test is(Score score, Bound bound);
Test above(Score first, Score second);  // with disjoint intervals
Test all_of(std::vector<Test> tests);
Test any_of(std::vector<Test> tests);  // each at the confidence that so many chances ask for

// ---- Of how many ---------------------------------------------------------------------------

// Of every model of every pick. A pick without models leaves the claim open; evidence then says `missing`, or which
// names there are.
Judge every_seed(std::vector<Pick> picks, Test test, std::string missing = "");
Judge every_seed(Pick pick, Test test, std::string missing = "");
// Of every model of some size, sizes being chances.
Judge some_size(Pick pick, Test test);
// Of this share of the seeds of some size.
Judge share_of_seeds(Pick pick, Test test, double share);
// Of the mean over seeds of first - second, models of both picks paired by seed: a t interval.
Judge mean_difference(Pick first, Pick second, Score score, Bound bound, std::vector<Score> beside = {});

// In every pair and every seed the first has the higher score, with disjoint intervals.
Judge above_in_pairs(std::vector<std::pair<Pick, Pick>> pairs, Score score);

// ---- Thresholds in size --------------------------------------------------------------------

// How right answers of an arm grow with a dial: parameters, examples.
struct Growth {
  std::string name;
  std::vector<Pick> picks;
  std::string arm;
  int place = 0;  // in the order of appearance
  std::string dial = "parameters";
  std::function<double(const Cell&)> value = &Cell::parameters;  // where a model stands on the dial

  Cells of(const StudyResult& result) const;
};
// Nothing for fewer than two places on the dial.
std::optional<ThresholdFit> fit(const Growth& growth, const StudyResult& result, double confidence);

// It rises sharply, by statistics/threshold.h.
Judge rises_sharply(Growth growth);
// Thresholds of later places are higher, with disjoint intervals.
Judge thresholds_in_order(std::vector<Growth> growths);

// ---- For judges that no rule fits ----------------------------------------------------------

// PASS or FAIL of what is known without sampling error.
Verdict pass_if(bool holds);

// A claim of several parts, all of which must hold; it rests on the fewest seeds of any.
class Parts {
 public:
  // Seeds 0: of no training of its own.
  void add(Verdict verdict, std::string evidence = "", int64_t seeds = 0);
  void say(std::string evidence, int64_t seeds = 0);  // what is no verdict
  // Without evidence it says what is missing; without parts it is open.
  Judgement judgement(std::string missing = "nothing of this was trained") const;

 private:
  std::vector<Verdict> verdicts_;
  std::vector<std::string> evidence_;
  int64_t seeds_ = 0;
};
// Named judges as one; what a judge leaves open for want of models does not count.
using NamedJudge = std::pair<std::string, Judge>;
Judge every_part(std::vector<NamedJudge> parts);

Cells without_diverged(Cells cells);
// "; 2 models that diverged are left out" behind what was found without them, or nothing where there are none.
std::string left_out_text(const Cells& cells);
// Of those that did not diverge.
std::vector<double> values(const Cells& cells, const Score& score);
double mean_value(const Cells& cells, const Score& score);  // kNoValue: there are none
std::map<int64_t, Cells> by_size(const Cells& cells);       // by their number of parameters
// "d=16 seed 1: 0.998, 0.104" of each model; what all have in common is left out of the names.
std::string evidence_of(const Cells& cells, const std::vector<Score>& shown);
// Confidence of each of so many chances.
double corrected(double confidence, size_t chances);

}  // namespace surtsey::experiments
