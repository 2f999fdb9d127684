// Verdicts: the only way a number of a study becomes a claim.
//
// A verdict is PASS or FAIL only when the whole interval lies on one side of the declared bound,
// else INCONCLUSIVE. The claims of a study are one family that shares one error rate, by Holm.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/statistics/intervals.h"

namespace surtsey::experiments {

enum class Verdict { kPass, kFail, kInconclusive };

// PASS, FAIL or INCONCLUSIVE: the words of result.json.
std::string_view verdict_name(Verdict verdict);
// The inverse; throws UserError on any other word.
Verdict parse_verdict(std::string_view name);

// Claim "the rate is at least bound".
Verdict at_least(const Interval& interval, double bound);
// Claim "the rate is at most bound".
Verdict at_most(const Interval& interval, double bound);
// Claim "the rate is that of guessing": equivalence, the whole interval below chance + margin.
// FAIL when the whole interval lies above it.
Verdict at_chance(const Interval& interval, double chance, double margin = 0.05);
// Claim "the first rate is above the second": intervals must not overlap.
Verdict above(const Interval& first, const Interval& second);

// All must hold: FAIL if any fails, else INCONCLUSIVE if any is. No parts: INCONCLUSIVE.
Verdict all_of(std::span<const Verdict> parts);
// One must hold: PASS if any passes, else INCONCLUSIVE if any is, else FAIL. No parts: the same.
Verdict any_of(std::span<const Verdict> parts);

// What a rule says of a claim when its intervals have a confidence.
struct Judgement {
  Verdict verdict = Verdict::kInconclusive;
  std::string evidence;
  int64_t seeds = 0;  // independent trainings that the verdict rests on
};
// The higher the confidence, the wider the intervals: a rule that decides at one confidence decides
// the same way at every lower one.
using Rule = std::function<Judgement(double confidence)>;

struct FamilyJudgement {
  Judgement judgement;
  double confidence = 0;  // at which it was reached, or left open
};

// Holm's step-down procedure over a family of rules: while m claims are open, those that decide at
// confidence 1 - alpha / m are decided; what then stays open is INCONCLUSIVE. The chance that any
// decided claim is decided wrongly is at most alpha.
std::vector<FamilyJudgement> judge_family(std::span<const Rule> family, double alpha = 0.05);

}  // namespace surtsey::experiments
