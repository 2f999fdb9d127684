#include "experiments/study/rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "experiments/base/join.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kNothing = "nothing of this was trained";

// A score of models that have scores. What is no number of one that did not diverge as a whole is none either.
Score of_converged(std::function<double(const Cell&)> value,
                   std::function<Interval(const Cell&, double confidence)> interval) {
  const auto known = [value](const Cell& cell) {
    const double found = diverged(cell) ? kNoValue : value(cell);
    return std::isfinite(found) ? found : kNoValue;
  };
  return {"", known, [=](const Cell& cell, double confidence) {
            return std::isnan(known(cell)) ? Interval{kNoValue, kNoValue} : interval(cell, confidence);
          }};
}

Score of_arm(std::string arm, double (*value)(const ArmResult&), Interval (*interval)(const ArmResult&, double)) {
  const auto find = [arm](const Cell& cell) -> const ArmResult& {
    return arm.empty() ? cell.arms.at(0) : cell.arm(arm);
  };
  return of_converged([=](const Cell& cell) { return value(find(cell)); },
                      [=](const Cell& cell, double confidence) { return interval(find(cell), confidence); });
}

// Whether the answers of an arm have no loss: a measure of them, "arm.name", is then missing.
bool answers_lost(const Cell& cell, std::string_view measure) {
  const ArmResult* arm = cell.find_arm(measure.substr(0, measure.rfind('.')));
  return arm != nullptr && !std::isfinite(arm->loss_per_token);
}

Interval share_interval(double share, int64_t n, double confidence) {
  return clopper_pearson(std::llround(share * static_cast<double>(n)), n, confidence);
}

std::vector<Verdict> verdicts(const Cells& cells, const Test& test, double confidence) {
  std::vector<Verdict> list;
  for (const Cell* cell : cells)
    list.push_back(diverged(*cell) ? Verdict::kInconclusive : test.judge(*cell, confidence));
  return list;
}

// At least this share of the parts holds.
Verdict share_of(const std::vector<Verdict>& parts, double share) {
  const auto count = [&](Verdict verdict) {
    return static_cast<double>(std::count(parts.begin(), parts.end(), verdict));
  };
  const double wanted = std::ceil(share * static_cast<double>(parts.size()) - 1e-9);
  if (parts.empty()) return Verdict::kInconclusive;
  if (count(Verdict::kPass) >= wanted) return Verdict::kPass;
  const double open = count(Verdict::kInconclusive);
  return count(Verdict::kPass) + open < wanted ? Verdict::kFail : Verdict::kInconclusive;
}

std::vector<Score> shown_by(const std::vector<Test>& tests) {
  std::vector<Score> shown;
  for (const Test& test : tests) shown.insert(shown.end(), test.shown.begin(), test.shown.end());
  return shown;
}

std::string number(double value) {
  if (std::isnan(value)) return "none";
  if (std::abs(value) >= 1 || value == 0) return fmt::format("{:.4g}", value);
  return std::abs(value) < 1e-3 ? fmt::format("{:.2g}", value) : fmt::format("{:.4f}", value);
}

// Of picks without models: whether their names are those of anything that was trained.
std::string nothing_of(const std::vector<Pick>& picks, const StudyResult& result) {
  std::vector<std::string> trained, unknown;
  for (const Cell& cell : result.cells) {
    const std::string name = Pick(cell.task, cell.variant).name();
    if (std::find(trained.begin(), trained.end(), name) == trained.end()) trained.push_back(name);
  }
  for (const Pick& pick : picks)
    if (std::find(trained.begin(), trained.end(), pick.name()) == trained.end()) unknown.push_back(pick.name());
  if (unknown.empty() || trained.empty()) return kNothing;
  return fmt::format("nothing was trained of '{}', there is '{}'", join(unknown, "', '"), join(trained, "', '"));
}

std::string text_of(const Growth& growth, const ThresholdFit& fit) {
  std::string text = fmt::format("half-way at {:.0f} {} ({:.0f} to {:.0f})", fit.size50, growth.dial,
                                 fit.size50_interval.low, fit.size50_interval.high);
  if (fit.sizes < kThresholdSizes) return fmt::format("{}; {} sizes, {} are needed", text, fit.sizes, kThresholdSizes);
  return fmt::format("{}, {:.2f} decades wide, AICc gain {:.1f}, {} sizes", text, fit.width, fit.aicc_gain(),
                     fit.sizes);
}

}  // namespace

Score Score::named(std::string text) const {
  Score score = *this;
  score.name = std::move(text);
  return score;
}

Score exact_match(std::string arm) {
  return of_arm(std::move(arm), [](const ArmResult& one) { return one.exact_match; }, exact_match_interval);
}

Score whole_answer(std::string arm) {
  return of_arm(
      std::move(arm), [](const ArmResult& one) { return one.chain_exact_match; },
      [](const ArmResult& one, double confidence) { return share_interval(one.chain_exact_match, one.n, confidence); });
}

Score loss(std::string arm) {
  return of_arm(std::move(arm), [](const ArmResult& one) { return one.loss_per_token; }, loss_interval);
}

Score measured(std::function<Measure(const Cell&)> of) {
  return of_converged([=](const Cell& cell) { return of(cell).mean; },
                      [=](const Cell& cell, double confidence) { return measure_interval(of(cell), confidence); });
}

Score measure(std::string name) {
  return measured([name](const Cell& cell) {
    const Measure* found = cell.find_measure(name);
    if (found == nullptr && answers_lost(cell, name)) return Measure{name, kNoValue};
    ensure(found != nullptr, "[rules] {} has no measure '{}'", cell.cell, name);
    return *found;
  });
}

Score faithfulness(std::string arm) {
  return of_converged([](const Cell& cell) { return cell.faithfulness.value_or(0); },
                      [arm](const Cell& cell, double confidence) {
                        return share_interval(cell.faithfulness.value_or(0), cell.arm(arm).n, confidence);
                      });
}

Pick Pick::layers(int32_t n_layer) const {
  Pick pick = *this;
  pick.layers_ = n_layer;
  return pick;
}

Pick Pick::largest() const {
  Pick pick = *this;
  pick.size_ = Size::kLargest;
  return pick;
}

Pick Pick::smallest() const {
  Pick pick = *this;
  pick.size_ = Size::kSmallest;
  return pick;
}

Pick Pick::where(Score score, double low, double high) const {
  Pick pick = *this;
  pick.conditions_.push_back([=](const Cell& cell) {
    if (diverged(cell)) return false;
    const double value = score.value(cell);
    return low <= value && value <= high;
  });
  return pick;
}

Cells Pick::of(const StudyResult& result) const {
  Cells cells = claim_cells(result, task_, variant_);
  if (layers_ > 0) std::erase_if(cells, [&](const Cell* cell) { return cell->n_layer != layers_; });
  if (size_ == Size::kLargest) {
    int32_t width = 0;
    for (const Cell* cell : cells) width = std::max(width, cell->n_embd);
    std::erase_if(cells, [&](const Cell* cell) { return cell->n_embd < width; });
  }
  const auto sizes = by_size(cells);
  if (size_ == Size::kSmallest && !sizes.empty()) cells = sizes.begin()->second;
  for (const auto& holds : conditions_) std::erase_if(cells, [&](const Cell* cell) { return !holds(*cell); });
  return cells;
}

Pick cells(std::string task, std::string variant) { return Pick(std::move(task), std::move(variant)); }

Test Test::beside(Score score) const {
  Test test = *this;
  test.shown.push_back(std::move(score));
  return test;
}

Test Test::hidden() const { return {{}, judge}; }

Bound at_least(double bound) {
  return [=](const Interval& interval, const Cell&) { return at_least(interval, bound); };
}

Bound at_most(double bound) {
  return [=](const Interval& interval, const Cell&) { return at_most(interval, bound); };
}

Bound within(double center, double margin) {
  return [=](const Interval& interval, const Cell&) {
    return all_of(std::vector{at_least(interval, center - margin), at_most(interval, center + margin)});
  };
}

Bound near_chance(double margin) {
  return [=](const Interval& interval, const Cell& cell) { return at_chance(interval, cell.chance, margin); };
}

Bound positive() {
  return [](const Interval& gain, const Cell&) {
    return gain.low > 0 ? Verdict::kPass : gain.high <= 0 ? Verdict::kFail : Verdict::kInconclusive;
  };
}

Test is(Score score, Bound bound) {
  return {{score}, [=](const Cell& cell, double confidence) { return bound(score.interval(cell, confidence), cell); }};
}

Test above(Score first, Score second) {
  return {{first, second}, [=](const Cell& cell, double confidence) {
            return above(first.interval(cell, confidence), second.interval(cell, confidence));
          }};
}

Test all_of(std::vector<Test> tests) {
  return {shown_by(tests), [=](const Cell& cell, double confidence) {
            std::vector<Verdict> parts;
            for (const Test& test : tests) parts.push_back(test.judge(cell, confidence));
            return all_of(parts);
          }};
}

Test any_of(std::vector<Test> tests) {
  return {shown_by(tests), [=](const Cell& cell, double confidence) {
            std::vector<Verdict> parts;
            for (const Test& test : tests) parts.push_back(test.judge(cell, corrected(confidence, tests.size())));
            return any_of(parts);
          }};
}

Judge every_seed(std::vector<Pick> picks, Test test, std::string missing) {
  return [=](const StudyResult& result, double confidence) {
    std::vector<Verdict> all;
    Cells counted;
    for (const Pick& pick : picks) {
      const Cells own = pick.of(result);
      if (own.empty()) all.push_back(Verdict::kInconclusive);
      for (const Verdict verdict : verdicts(own, test, confidence)) all.push_back(verdict);
      counted.insert(counted.end(), own.begin(), own.end());
    }
    if (!counted.empty()) return Judgement{all_of(all), evidence_of(counted, test.shown), count_seeds(counted)};
    return Judgement{all_of(all), missing.empty() ? nothing_of(picks, result) : missing, 0};
  };
}

Judge every_seed(Pick pick, Test test, std::string missing) {
  return every_seed(std::vector{std::move(pick)}, std::move(test), std::move(missing));
}

Judge some_size(Pick pick, Test test) {
  return [=](const StudyResult& result, double confidence) {
    const Cells all = pick.of(result);
    const auto sizes = by_size(all);
    std::vector<Verdict> parts;
    for (const auto& [size, own] : sizes)
      parts.push_back(all_of(verdicts(own, test, corrected(confidence, sizes.size()))));
    return Judgement{any_of(parts), evidence_of(all, test.shown), count_seeds(all)};
  };
}

Judge share_of_seeds(Pick pick, Test test, double share) {
  return [=](const StudyResult& result, double confidence) {
    const Cells all = pick.of(result);
    const auto sizes = by_size(all);
    std::vector<Verdict> parts;
    for (const auto& [size, own] : sizes)
      parts.push_back(share_of(verdicts(own, test, corrected(confidence, sizes.size())), share));
    return Judgement{any_of(parts), evidence_of(all, test.shown), count_seeds(all)};
  };
}

Judge mean_difference(Pick first, Pick second, Score score, Bound bound, std::vector<Score> beside) {
  return [=](const StudyResult& result, double confidence) {
    const Cells left = first.of(result), right = second.of(result);
    std::vector<double> differences;
    Cells counted, lost;
    for (const Cell* cell : left) {
      for (const Cell* other : right) {
        if (other->seed != cell->seed) continue;
        const bool any = diverged(*cell) || diverged(*other);
        const double difference = any ? kNoValue : score.value(*cell) - score.value(*other);
        Cells& pair = std::isnan(difference) ? lost : counted;
        pair.insert(pair.end(), {cell, other});
        if (!std::isnan(difference)) differences.push_back(difference);
      }
    }
    if (differences.empty())
      return Judgement{Verdict::kInconclusive,
                       lost.empty() ? nothing_of({first, second}, result) : evidence_of(lost, {score}), 0};
    const Interval interval = t_interval(differences, confidence);
    std::vector<Score> shown = {score};
    shown.insert(shown.end(), beside.begin(), beside.end());
    return Judgement{
        bound(interval, *counted.front()),
        fmt::format("mean {:.4f} ({:.4f} to {:.4f} over seeds); {}{}", mean(differences), interval.low, interval.high,
                    evidence_of(counted, shown), lost.empty() ? "" : "; left out: " + evidence_of(lost, {score})),
        static_cast<int64_t>(differences.size())};
  };
}

Judge above_in_pairs(std::vector<std::pair<Pick, Pick>> pairs, Score score) {
  return [=](const StudyResult& result, double confidence) {
    std::vector<Verdict> parts;
    Cells counted;
    for (const auto& [first, second] : pairs) {
      const Cells lower = second.of(result);
      for (const Cell* cell : first.of(result)) {
        for (const Cell* other : lower) {
          if (other->seed != cell->seed) continue;
          const bool lost = diverged(*cell) || diverged(*other);
          parts.push_back(lost ? Verdict::kInconclusive
                               : above(score.interval(*cell, confidence), score.interval(*other, confidence)));
          for (const Cell* one : {cell, other})
            if (std::find(counted.begin(), counted.end(), one) == counted.end()) counted.push_back(one);
        }
      }
    }
    std::vector<Pick> picks;
    for (const auto& [first, second] : pairs) picks.insert(picks.end(), {first, second});
    return Judgement{all_of(parts), parts.empty() ? nothing_of(picks, result) : evidence_of(counted, {score}),
                     count_seeds(counted)};
  };
}

Cells Growth::of(const StudyResult& result) const {
  Cells all;
  for (const Pick& pick : picks)
    for (const Cell* cell : pick.of(result)) all.push_back(cell);
  return all;
}

std::optional<ThresholdFit> fit(const Growth& growth, const StudyResult& result, double confidence) {
  const Cells cells = without_diverged(growth.of(result));
  std::vector<SizeCount> counts;
  std::set<double> places;
  for (const Cell* cell : cells) {
    counts.push_back(size_count(growth.value(*cell), cell->arm(growth.arm)));
    places.insert(counts.back().size);
  }
  if (places.size() < 2) return {};
  return fit_threshold(counts, cells.front()->chance, confidence);
}

Judge rises_sharply(Growth growth) {
  return [=](const StudyResult& result, double confidence) {
    const auto found = fit(growth, result, confidence);
    const Cells all = growth.of(result);
    const std::string lost = left_out_text(all);
    if (!found) return Judgement{Verdict::kInconclusive, "fewer than two sizes" + lost, 0};
    return Judgement{sharp(*found), text_of(growth, *found) + lost, count_seeds(without_diverged(all))};
  };
}

Judge thresholds_in_order(std::vector<Growth> growths) {
  return [=](const StudyResult& result, double confidence) {
    std::vector<std::pair<int, ThresholdFit>> fits;
    Parts parts;
    for (const Growth& one : growths) {
      const auto found = fit(one, result, corrected(confidence, growths.size()));
      const Cells all = one.of(result);
      if (!found && !left_out_text(all).empty()) parts.say(one.name + " too few sizes" + left_out_text(all));
      if (!found) continue;
      fits.emplace_back(one.place, *found);
      parts.say(one.name + " " + text_of(one, *found) + left_out_text(all), count_seeds(without_diverged(all)));
    }
    for (const auto& [place, early] : fits) {
      for (const auto& [later, late] : fits) {
        if (place >= later) continue;
        const bool enough = std::min(early.sizes, late.sizes) >= kThresholdSizes;
        parts.add(enough ? above(late.size50_interval, early.size50_interval) : Verdict::kInconclusive);
      }
    }
    return parts.judgement("");
  };
}

std::string evidence_of(const Cells& cells, const std::vector<Score>& shown) {
  std::set<std::string> kinds;
  std::set<int32_t> widths, depths;
  std::set<double> rates;
  for (const Cell* cell : cells) {
    kinds.insert(cell->task + " " + cell->variant);
    widths.insert(cell->n_embd);
    depths.insert(cell->n_layer);
    rates.insert(cell->learning_rate * cell->n_embd);
  }
  std::vector<std::string> parts;
  for (const Cell* cell : cells) {
    std::string text;
    if (kinds.size() > 1) text += (cell->task.empty() ? "" : cell->task + " ") + cell->variant + " ";
    if (widths.size() > 1) text += fmt::format("d={} ", cell->n_embd);
    if (depths.size() > 1) text += fmt::format("L={} ", cell->n_layer);
    text += fmt::format("seed {}", cell->seed);
    if (rates.size() > 1) text += fmt::format(" lr {:.3g}", cell->learning_rate);
    if (diverged(*cell)) {
      parts.push_back(text + ": diverged");
      continue;
    }
    std::vector<std::string> values;
    for (const Score& score : shown)
      values.push_back((score.name.empty() ? "" : score.name + " ") + number(score.value(*cell)));
    parts.push_back(text + ": " + join(values, ", "));
  }
  return join(parts, "; ");
}

Verdict pass_if(bool holds) { return holds ? Verdict::kPass : Verdict::kFail; }

void Parts::add(Verdict verdict, std::string evidence, int64_t seeds) {
  verdicts_.push_back(verdict);
  say(std::move(evidence), seeds);
}

void Parts::say(std::string evidence, int64_t seeds) {
  if (!evidence.empty()) evidence_.push_back(std::move(evidence));
  if (seeds > 0) seeds_ = seeds_ == 0 ? seeds : std::min(seeds_, seeds);
}

Judgement Parts::judgement(std::string missing) const {
  return {all_of(verdicts_), evidence_.empty() ? std::move(missing) : join(evidence_, "; "), seeds_};
}

Judge every_part(std::vector<NamedJudge> parts) {
  return [=](const StudyResult& result, double confidence) {
    Parts whole;
    for (const auto& [name, judge] : parts) {
      const Judgement one = judge(result, confidence);
      if (one.evidence.empty()) continue;
      whole.say(name + " " + one.evidence);
      if (one.seeds > 0) whole.add(one.verdict, "", one.seeds);
    }
    return whole.judgement();
  };
}

Cells without_diverged(Cells cells) {
  std::erase_if(cells, [](const Cell* cell) { return diverged(*cell); });
  return cells;
}

std::string left_out_text(const Cells& cells) {
  const size_t count = cells.size() - without_diverged(cells).size();
  if (count == 0) return "";
  return fmt::format("; {} model{} that diverged {} left out", count, count == 1 ? "" : "s", count == 1 ? "is" : "are");
}

std::vector<double> values(const Cells& cells, const Score& score) {
  std::vector<double> list;
  for (const Cell* cell : without_diverged(cells))
    if (const double value = score.value(*cell); std::isfinite(value)) list.push_back(value);
  return list;
}

double mean_value(const Cells& cells, const Score& score) {
  const std::vector<double> list = values(cells, score);
  return list.empty() ? kNoValue : mean(list);
}

std::map<int64_t, Cells> by_size(const Cells& cells) {
  std::map<int64_t, Cells> sizes;
  for (const Cell* cell : cells) sizes[cell->parameters].push_back(cell);
  return sizes;
}

double corrected(double confidence, size_t chances) {
  return 1 - (1 - confidence) / static_cast<double>(std::max<size_t>(1, chances));
}

}  // namespace surtsey::experiments
