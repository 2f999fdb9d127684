#include "experiments/study/asked.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

namespace surtsey::experiments {
namespace {

// Infinite where it is not a number.
double held_out_loss(const Cell& cell) {
  const double none = std::numeric_limits<double>::infinity(), loss = cell.validation_loss.value_or(none);
  return std::isnan(loss) ? none : loss;
}

}  // namespace

void ask_arms(Evaluator& evaluator, const tasks::Task& task, const std::vector<std::string>& arms, int32_t count,
              uint32_t seed, std::span<Cell> cells, std::vector<SampleLine>& lines) {
  std::vector<SampleLine> own;
  for (const std::string& arm : arms)
    add_answer_lines(task, cells, evaluator.answer(task, task.arm_index(arm), count, seed), own);
  for (Recomputed& again : recompute(own)) {
    for (Cell& cell : cells) {
      if (cell.cell != again.cell) continue;
      cell.arms.insert(cell.arms.end(), again.arms.begin(), again.arms.end());
      cell.measures.insert(cell.measures.end(), again.measures.begin(), again.measures.end());
    }
  }
  lines.insert(lines.end(), std::make_move_iterator(own.begin()), std::make_move_iterator(own.end()));
}

void select_least_loss(std::span<Cell> cells) {
  std::map<std::tuple<std::string, std::string, int32_t, int32_t, uint32_t>, Cell*> best;
  for (Cell& cell : cells) {
    cell.selected = false;
    const auto [at, first] = best.try_emplace({cell.task, cell.variant, cell.n_embd, cell.n_layer, cell.seed}, &cell);
    if (!first && held_out_loss(cell) < held_out_loss(*at->second)) at->second = &cell;
  }
  for (const auto& [key, cell] : best) cell->selected = true;
}

Cell best_of(std::vector<Cell> tried, std::vector<SampleLine> lines, const std::string& name,
             std::vector<SampleLine>& kept) {
  select_least_loss(tried);
  const auto best = std::find_if(tried.begin(), tried.end(), [](const Cell& one) { return one.selected; });
  ensure(best != tried.end(), "[asked] no cell to choose from");
  for (SampleLine& line : lines) {
    if (line.cell != best->cell) continue;
    line.cell = name;
    kept.push_back(std::move(line));
  }
  return std::move(*best);
}

}  // namespace surtsey::experiments
