#include "experiments/study/lesson_tables.h"

#include "experiments/base/numbers.h"
#include "experiments/study/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

double mean_of(const StudyResult& result, const std::string& variant, const Score& score) {
  return mean_value(cells("", variant).of(result), score);
}
double mean_measure(const StudyResult& result, const std::string& variant, const std::string& name) {
  return mean_of(result, variant, measure(name));
}
bool all_reach(const StudyResult& result, const std::string& variant, const std::string& arm, double bound) {
  const Cells found = cells("", variant).of(result);
  return !found.empty() && std::all_of(found.begin(), found.end(), [&](const Cell* cell) {
    const ArmResult* one = cell->find_arm(arm);
    return one != nullptr && !diverged(*cell) && one->exact_match >= bound;
  });
}
bool all_measure(const StudyResult& result, const std::string& variant, const std::string& name) {
  const Cells found = cells("", variant).of(result);
  return !found.empty() && std::all_of(found.begin(), found.end(), [&](const Cell* cell) {
    return !diverged(*cell) && cell->find_measure(name) != nullptr;
  });
}

// Seconds of a question of the base, by the arm that it was measured on.
double told_seconds(const StudyResult& result, const std::string& arm) {
  return 1e-3 * mean_measure(result, kTold, fmt::format("{}, {}", kQueryMilliseconds, arm));
}

// A way by weights: it is up to date when it has reached the target in every seed, and keeps the old operation.
WayCost taught_cost(const LessonPage& page, const StudyResult& result, const std::string& way,
                    const std::string& variant, const std::string& arm) {
  const bool keeps = teaching(way).leaves_base() || all_reach(result, way, "old", page.kept);
  WayCost cost{way, 0, 0, keeps && all_measure(result, variant, kTargetSeconds)};
  if (!cost.reaches) return cost;
  cost.update = mean_measure(result, variant, kTargetSeconds);
  // What the adapter adds to a question is measured beside a model that has none.
  const std::string plain = has(page.ways, std::string("full")) ? "full" : way;
  cost.use = told_seconds(result, arm) * mean_measure(result, way, kQueryMilliseconds) /
             mean_measure(result, plain, kQueryMilliseconds);
  cost.reaches = std::isfinite(cost.use);  // all of what it is compared with may have diverged
  return cost;
}

std::string share_text(const StudyResult& result, const std::string& variant, const std::string& arm) {
  const Cells found = cells("", variant).of(result);
  std::vector<double> shares;
  for (const Cell* cell : without_diverged(found))
    if (const ArmResult* one = cell->find_arm(arm)) shares.push_back(one->exact_match);
  if (shares.empty()) return without_diverged(found).size() < found.size() ? "diverged" : "–";
  const auto [low, high] = std::minmax_element(shares.begin(), shares.end());
  const std::string text = share_number(mean(shares));
  return *high - *low < .02 ? text : fmt::format("{} ({} to {})", text, share_number(*low), share_number(*high));
}

// A dash where no model has the number.
std::string finite_text(double value, const char* format) {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "–";
}

std::vector<std::string> taught_texts(const StudyResult& result, const Teaching& way) {
  const std::string& name = way.name;
  const auto number = [&](const char* measure) { return mean_measure(result, name, measure); };
  const std::string off = !way.leaves_base()     ? "lost"
                          : way.starts_as_base() ? share_text(result, name, kOff)
                                                 : share_text(result, kTold, "old");
  return {way.updates,
          way.place,
          finite_text(100 * number(kTrainedShare), "{:.3g}"),
          std::isfinite(number(kTaskBytes)) ? whole_number(number(kTaskBytes)) : "–",
          share_text(result, name, "new"),
          share_text(result, name, "old"),
          off,
          share_text(result, name, "facts"),
          finite_text(number(kQueryTokens), "{:.0f}"),
          finite_text(number(kQueryMilliseconds), "{:.2g}"),
          finite_text(number(kUpdateSeconds), "{:.2g}"),
          share_text(result, name, kChanged),
          share_text(result, name, kStale),
          share_text(result, name, kUpdated)};
}

std::vector<std::string> told_texts(const LessonPage& page, const StudyResult& result, bool retrieves) {
  const std::string behind = retrieves ? "retrieved" : fmt::format("{} passages", page.passages.back());
  const auto arm = [&](const char* name) { return fmt::format("{}, {}", name, behind); };
  const auto number = [&](const char* name) {
    return mean_measure(result, kTold, fmt::format("{}, {}", name, arm("facts")));
  };
  return {"nothing",
          retrieves ? "an index" : "the prompt",
          "0",
          "text",
          retrieves ? "–" : share_text(result, kTold, fmt::format("new, {} examples", page.examples.back())),
          share_text(result, kTold, "old"),
          share_text(result, kTold, "old"),
          share_text(result, kTold, arm("facts")),
          finite_text(number(kQueryTokens), "{:.0f}"),
          finite_text(number(kQueryMilliseconds), "{:.2g}"),
          retrieves ? finite_text(mean_measure(result, kTold, "index_seconds"), "{:.2g}") : "0",
          share_text(result, kTold, arm(kChanged)),
          share_text(result, kTold, arm(kStale)),
          "–"};
}

}  // namespace

std::string facts_variant(const std::string& way, int32_t count) { return fmt::format("{}, {} facts", way, count); }
std::string examples_variant(const std::string& way, int32_t count) {
  return fmt::format("{}, {} examples", way, count);
}

std::vector<Situation> situations(const LessonPage& page, const StudyResult& result) {
  std::vector<Situation> list;
  if (cells("", kTold).of(result).empty()) return list;
  for (const int32_t count : page.map_facts) {
    Situation& one = list.emplace_back(Situation{fmt::format("facts: {}", count), {}});
    const std::string arm = fmt::format("facts, {} passages", count);
    if (has(page.passages, count))
      one.ways.push_back({kInContext, 0, told_seconds(result, arm), all_reach(result, kTold, arm, page.solved)});
    one.ways.push_back({kRetrieval, mean_measure(result, kTold, "index_seconds"),
                        told_seconds(result, "facts, retrieved"),
                        all_reach(result, kTold, "facts, retrieved", page.solved)});
    for (const std::string& way : page.mapped)
      one.ways.push_back(taught_cost(page, result, way, facts_variant(way, count), "facts"));
  }
  for (const int32_t count : page.map_examples) {
    Situation& one = list.emplace_back(Situation{fmt::format("a new operation: {} examples", count), {}});
    for (const std::string& way : page.mapped)
      one.ways.push_back(taught_cost(page, result, way, examples_variant(way, count), "new"));
  }
  return list;
}

Score all_asked(const std::string& arm) {
  Score score = exact_match(arm);
  score.interval = [value = score.value](const Cell& cell, double) { return Interval{value(cell), value(cell)}; };
  return score;
}

Grid comparison_table(const LessonPage& page, const StudyResult& result) {
  Grid table{"Every way beside the others",
             fmt::format("Shares of right answers, means over seeds (least to most). Facts changed after the lesson: "
                         "fresh answers are as things now are, stale ones as they were. In context: {} examples of the "
                         "operation, {} facts.",
                         page.examples.back(), page.passages.back()),
             "", "way"};
  table.columns = {"what is updated", "where the task lives", "% trained",      "bytes a task",   "new operation",
                   "old operation",   "old, switched off",    "facts",          "tokens a query", "ms a query",
                   "s to teach",      "changed: fresh",       "changed: stale", "taught again"};
  const auto add = [&](const std::string& name, const std::vector<std::string>& texts) {
    table.rows.push_back(name);
    auto& row = table.entries.emplace_back();
    for (const std::string& text : texts) row.push_back({text, -1});
  };
  for (const std::string& way : page.ways)
    if (!cells("", way).of(result).empty()) add(way, taught_texts(result, teaching(way)));
  if (cells("", kTold).of(result).empty()) return table;
  for (const bool retrieves : {false, true})
    add(retrieves ? kRetrieval : kInContext, told_texts(page, result, retrieves));
  return table;
}

}  // namespace surtsey::experiments
