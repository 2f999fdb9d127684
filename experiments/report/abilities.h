// Abilities of large language models beside what was measured here: the table of the index page.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "experiments/results/result.h"

namespace surtsey::experiments {

// Where in these results an ability was measured, and from what size it is solved.
struct MeasuredAbility {
  const StudyResult* result = nullptr;
  size_t run = 0;    // index into the results
  std::string task;  // Cell::task
  std::string arm;
  // The smallest size from which on every size and seed has exact match of at least kSolved; null
  // when there is none.
  const Cell* solved = nullptr;
  const Cell* smallest = nullptr;
  const Cell* largest = nullptr;
};
inline constexpr double kSolved = 0.95;

// The tasks of these results that ask for the ability: "arithmetic", "chain of thought", "word
// unscrambling", "multi-step mathematics", "code".
std::vector<MeasuredAbility> measured(const std::string& ability, const std::vector<StudyResult>& results);

// A section of the index page; empty when no result has any of the abilities. `links` leads to the
// page of each result.
std::string abilities_section(const std::vector<StudyResult>& results, const std::vector<std::filesystem::path>& links);

}  // namespace surtsey::experiments
