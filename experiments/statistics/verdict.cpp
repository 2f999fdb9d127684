#include "experiments/statistics/verdict.h"

#include "graph/error.h"

namespace surtsey::experiments {

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "PASS";
    case Verdict::kFail:
      return "FAIL";
    case Verdict::kInconclusive:
      return "INCONCLUSIVE";
  }
  ensure(false, "[statistics] verdict {} is not one", static_cast<int>(verdict));
  return "";
}

Verdict parse_verdict(std::string_view name) {
  for (const Verdict verdict : {Verdict::kPass, Verdict::kFail, Verdict::kInconclusive}) {
    if (name == verdict_name(verdict)) {
      return verdict;
    }
  }
  check(false, "[statistics] '{}' is no verdict: PASS, FAIL or INCONCLUSIVE", name);
  return Verdict::kInconclusive;
}

Verdict at_least(const Interval& interval, double bound) {
  if (interval.low >= bound) {
    return Verdict::kPass;
  }
  return interval.high < bound ? Verdict::kFail : Verdict::kInconclusive;
}

Verdict at_most(const Interval& interval, double bound) {
  if (interval.high <= bound) {
    return Verdict::kPass;
  }
  return interval.low > bound ? Verdict::kFail : Verdict::kInconclusive;
}

Verdict at_chance(const Interval& interval, double chance, double margin) { return at_most(interval, chance + margin); }

Verdict above(const Interval& first, const Interval& second) {
  if (first.low > second.high) {
    return Verdict::kPass;
  }
  return first.high < second.low ? Verdict::kFail : Verdict::kInconclusive;
}

Verdict all_of(std::span<const Verdict> parts) {
  Verdict verdict = parts.empty() ? Verdict::kInconclusive : Verdict::kPass;
  for (const Verdict part : parts) {
    if (part == Verdict::kFail) {
      return Verdict::kFail;
    }
    if (part == Verdict::kInconclusive) {
      verdict = Verdict::kInconclusive;
    }
  }
  return verdict;
}

Verdict any_of(std::span<const Verdict> parts) {
  Verdict verdict = parts.empty() ? Verdict::kInconclusive : Verdict::kFail;
  for (const Verdict part : parts) {
    if (part == Verdict::kPass) {
      return Verdict::kPass;
    }
    if (part == Verdict::kInconclusive) {
      verdict = Verdict::kInconclusive;
    }
  }
  return verdict;
}

std::vector<FamilyJudgement> judge_family(std::span<const Rule> family, double alpha) {
  check(0 < alpha && alpha < 1, "[statistics] error rate {} is not in (0, 1)", alpha);
  std::vector<FamilyJudgement> judged(family.size());
  std::vector<size_t> open;
  for (size_t i = 0; i < family.size(); ++i) open.push_back(i);
  while (!open.empty()) {
    const double confidence = 1 - alpha / static_cast<double>(open.size());
    std::vector<size_t> left;
    for (const size_t i : open) {
      judged[i] = {family[i](confidence), confidence};
      if (judged[i].judgement.verdict == Verdict::kInconclusive) left.push_back(i);
    }
    if (left.size() == open.size()) break;
    open = std::move(left);
  }
  return judged;
}

}  // namespace surtsey::experiments
