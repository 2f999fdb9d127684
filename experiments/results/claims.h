// Claims of a study: declared before the run, judged after it by code, as one family.
//
// A study declares its claims from its options, so that bounds are keys of the configuration like
// any other. `claims` in config.toml says which ones a run makes; the file is written before
// anything is trained, and a resumed run must bring the same one: nothing is retuned silently.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/results/result.h"
#include "experiments/statistics/threshold.h"

namespace surtsey::experiments {

struct DeclaredClaim {
  std::string name;
  std::string statement;  // with its bounds, as a sentence
  std::function<Judgement(const StudyResult&, double confidence)> judge;
  // The smallest scale whose budget decides it (scripts/demo_claims counts how often); below, only on request.
  const char* from = "quick";
};

// Fewer seeds demonstrate; so many or more may claim.
inline constexpr int64_t kClaimSeeds = 5;

// The declared claims of these names, in the order of `names`. UserError for a name that is not
// declared ("did you mean") or that is there twice.
std::vector<DeclaredClaim> choose_claims(const std::vector<DeclaredClaim>& declared,
                                         const std::vector<std::string>& names);

// Judges the family by Holm at this error rate and writes result.claims. A verdict is a
// demonstration when result.demonstration says so or it rests on fewer than five seeds.
void judge_claims(StudyResult& result, const std::vector<DeclaredClaim>& claims, double error_rate);

// What a reader of such verdicts must know, once a page: what they rest on, and that a FAIL among them is no broken
// build.
std::string demonstration_note(const StudyResult& result);
// Why a verdict demonstrates and does not establish, in a few words: "quick scale, 2 seeds, 1200
// steps"; "no training" where a verdict rests on none. Empty for a claim in earnest.
std::string demonstration_text(const StudyResult& result, const Claim& claim);

// Comment lines for config.toml: what is claimed, sentence by sentence.
std::string claims_toml(const std::vector<DeclaredClaim>& claims, double error_rate);

// ---- For rules -----------------------------------------------------------------------------

// Cells that a claim may rest on: of this task and variant, selected, not validation only.
std::vector<const Cell*> claim_cells(const StudyResult& result, std::string_view task, std::string_view variant);

// Different seeds among these cells.
int64_t count_seeds(const std::vector<const Cell*>& cells);

// A measure that is a share of right items.
Measure share_measure(std::string name, int64_t right, int64_t items);

// The right answers of one arm of one model, at this place of a dial such as its size.
SizeCount size_count(double dial, const ArmResult& arm);

// Clopper-Pearson interval of the exact match of one arm of one model.
Interval exact_match_interval(const ArmResult& arm, double confidence);

// Interval of the mean loss a token over the items of one arm of one model.
Interval loss_interval(const ArmResult& arm, double confidence);

// Interval of a measure's mean over its items.
Interval measure_interval(const Measure& measure, double confidence);

}  // namespace surtsey::experiments
