// What the page of a study of teaching says, from its cells: every way beside the others, and what each costs in a
// situation (cheapest.h).
#pragma once

#include "experiments/results/result.h"
#include "experiments/study/cheapest.h"
#include "experiments/study/lesson_run.h"
#include "experiments/study/rules.h"

#include <string>
#include <vector>

namespace surtsey::experiments {

// Variants of cells: a way by weights goes by its name, the base behind what it is told by this;
inline constexpr const char* kTold = "told";
// and those of the map, that learn so many facts, or so many examples of the operation, alone.
std::string facts_variant(const std::string& way, int32_t count);
std::string examples_variant(const std::string& way, int32_t count);
// Ways without training, as tables and maps name them.
inline constexpr const char* kInContext = "in context";
inline constexpr const char* kRetrieval = "retrieval";

// What was tried.
struct LessonPage {
  std::vector<std::string> ways, mapped;
  std::vector<int32_t> passages, examples, map_facts, map_examples;
  double solved = .95, kept = .9;  // from what is a thing learned, or kept
};

// Each number of facts with the ways that can tell them, each number of examples with those that can learn from them.
// Nothing where the base was not asked.
std::vector<Situation> situations(const LessonPage& page, const StudyResult& result);

// Share of right answers of an arm that asks every fact there is: no others could have been drawn, so it has no
// sampling error.
Score all_asked(const std::string& arm);

Grid comparison_table(const LessonPage& page, const StudyResult& result);

}  // namespace surtsey::experiments
