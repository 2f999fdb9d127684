// What procedures of studies do alike with the models that they trained themselves: asking them, and choosing among
// learning rates that trained as one ensemble.
#pragma once

#include "experiments/evaluate/answers.h"

#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

// Asks every member these arms of a task, `count` questions of the test stream of `seed` each: the lines, and the arms
// and measures of the cells, one a member, as the lines give them. No cell has answered any of them before.
void ask_arms(Evaluator& evaluator, const tasks::Task& task, const std::vector<std::string>& arms, int32_t count,
              uint32_t seed, std::span<Cell> cells, std::vector<SampleLine>& lines);

// Of the cells that differ in learning rate alone, the one with the least held-out loss counts (Cell::selected), seed
// by seed: test questions have no part in it. A loss that is not a number never counts; where none is one, the first
// does.
void select_least_loss(std::span<Cell> cells);

// Of cells of one kind and seed the one that counts by that rule, and its lines under the name of another cell.
Cell best_of(std::vector<Cell> tried, std::vector<SampleLine> lines, const std::string& name,
             std::vector<SampleLine>& kept);

}  // namespace surtsey::experiments
