#include "experiments/results/claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "experiments/base/config.h"
#include "experiments/base/join.h"
#include "experiments/statistics/distributions.h"
#include "graph/error.h"

namespace surtsey::experiments {

std::vector<DeclaredClaim> choose_claims(const std::vector<DeclaredClaim>& declared,
                                         const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const DeclaredClaim& claim : declared) known.push_back(claim.name);
  std::vector<DeclaredClaim> chosen;
  for (const std::string& name : names) {
    const auto at = std::find(known.begin(), known.end(), name);
    const std::string near = nearest_word(name, known);
    check(at != known.end(), "claims: '{}' is not one of this study{}; it has {}", name,
          near.empty() ? "" : fmt::format(", did you mean '{}'?", near), join(known, ", "));
    for (const DeclaredClaim& other : chosen) {
      check(other.name != name, "claims: '{}' is there twice", name);
    }
    chosen.push_back(declared[static_cast<size_t>(at - known.begin())]);
  }
  return chosen;
}

void judge_claims(StudyResult& result, const std::vector<DeclaredClaim>& claims, double error_rate) {
  std::vector<Rule> family;
  for (const DeclaredClaim& claim : claims) {
    family.push_back([&](double confidence) { return claim.judge(result, confidence); });
  }
  const std::vector<FamilyJudgement> judged = judge_family(family, error_rate);
  result.claims.clear();
  for (size_t i = 0; i < claims.size(); ++i) {
    Claim& claim = result.claims.emplace_back();
    claim.name = claims[i].name;
    claim.statement = claims[i].statement;
    claim.verdict = judged[i].judgement.verdict;
    claim.evidence = judged[i].judgement.evidence;
    claim.seeds = judged[i].judgement.seeds;
    claim.confidence = judged[i].confidence;
    claim.demonstration = result.demonstration || claim.seeds < kClaimSeeds;
  }
}

std::string demonstration_note(const StudyResult& result) {
  const Claim* most = nullptr;  // of those that demonstrate
  for (const Claim& claim : result.claims)
    if (claim.demonstration && claim.seeds > 0 && (most == nullptr || claim.seeds > most->seeds)) most = &claim;
  if (most == nullptr) return "";
  return fmt::format(
      "Demonstration: {}. It trains too few models, for too few steps, to decide a claim: FAIL says that these few did "
      "not show it, not that the build is broken. The full scale decides, with "
      "experiments/configs/{}/reference.toml where there is one.",
      demonstration_text(result, *most), result.study);
}

std::string demonstration_text(const StudyResult& result, const Claim& claim) {
  if (!claim.demonstration) return "";
  if (claim.seeds == 0) return "no training";
  std::set<int64_t> steps;
  for (const Cell& cell : result.cells) {
    if (cell.selected && !cell.validation_only) steps.insert(cell.steps);
  }
  std::string text = fmt::format("{} scale, {} seed{}", result.scale, claim.seeds, claim.seeds == 1 ? "" : "s");
  if (steps.empty()) return text;
  text += fmt::format(", {}", *steps.begin());
  if (steps.size() > 1) text += fmt::format(" to {}", *steps.rbegin());
  return text + " steps";
}

std::string claims_toml(const std::vector<DeclaredClaim>& claims, double error_rate) {
  if (claims.empty()) return "";
  std::string text = fmt::format("\n# {} claim{}, judged as one family at an error rate of {} by Holm's procedure:\n",
                                 claims.size(), claims.size() == 1 ? "" : "s", error_rate);
  for (const DeclaredClaim& claim : claims) {
    text += fmt::format("#   {}: {}\n", claim.name, claim.statement);
  }
  return text;
}

std::vector<const Cell*> claim_cells(const StudyResult& result, std::string_view task, std::string_view variant) {
  std::vector<const Cell*> cells;
  for (const Cell& cell : result.cells) {
    if (cell.task == task && cell.variant == variant && cell.selected && !cell.validation_only) {
      cells.push_back(&cell);
    }
  }
  return cells;
}

int64_t count_seeds(const std::vector<const Cell*>& cells) {
  std::set<uint32_t> seeds;
  for (const Cell* cell : cells) seeds.insert(cell->seed);
  return static_cast<int64_t>(seeds.size());
}

Measure share_measure(std::string name, int64_t right, int64_t items) {
  const auto n = static_cast<double>(items);
  const double share = static_cast<double>(right) / n;
  return {std::move(name), share, std::sqrt(share * (1 - share) / n), items};
}

SizeCount size_count(double dial, const ArmResult& arm) {
  return {dial, std::llround(arm.exact_match * static_cast<double>(arm.n)), arm.n};
}

Interval exact_match_interval(const ArmResult& arm, double confidence) {
  const auto successes = std::llround(arm.exact_match * static_cast<double>(arm.n));
  return clopper_pearson(successes, arm.n, confidence);
}

Interval measure_interval(const Measure& measure, double confidence) {
  const double half = normal_quantile(0.5 + confidence / 2) * measure.standard_error;
  return {measure.mean - half, measure.mean + half};
}

Interval loss_interval(const ArmResult& arm, double confidence) {
  const double half = normal_quantile(0.5 + confidence / 2) * arm.loss_stderr;
  return {arm.loss_per_token - half, arm.loss_per_token + half};
}

}  // namespace surtsey::experiments
