#include "experiments/study/score_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

std::string entry_number(double value) {
  if (std::abs(value) >= 1000) return fmt::format("{:.0f}", value);
  return value != 0 && std::abs(value) < 1e-3 ? fmt::format("{:.2g}", value) : fmt::format("{:.3g}", value);
}

std::string entry_of(const Cells& cells, const TableColumn& column) {
  std::vector<double> values;
  const Cells scored = without_diverged(cells);
  for (const Cell* cell : scored)
    if (const auto value = column.value(*cell); value && !std::isnan(*value)) values.push_back(*value);
  if (values.empty()) return scored.empty() && !cells.empty() ? "diverged" : "–";
  std::string text = entry_number(mean(values));
  const bool differ = std::any_of(values.begin(), values.end(), [&](double one) { return one != values.front(); });
  if (differ) {
    const Interval interval = t_interval(values, .95);
    text += " ± " + entry_number((interval.high - interval.low) / 2);
  }
  return values.size() == cells.size() ? text : text + fmt::format(" ({} of {})", values.size(), cells.size());
}

}  // namespace

TableColumn arm_column(std::string name, std::string arm) {
  return {std::move(name), [arm = std::move(arm)](const Cell& cell) -> std::optional<double> {
            const ArmResult* found = cell.find_arm(arm);
            return found == nullptr ? std::nullopt : std::optional(found->exact_match);
          }};
}

TableColumn measure_column(std::string name, std::string measure) {
  return {std::move(name), [measure = std::move(measure)](const Cell& cell) -> std::optional<double> {
            const Measure* found = cell.find_measure(measure);
            return found == nullptr ? std::nullopt : std::optional(found->mean);
          }};
}

TableColumn cell_column(std::string name, std::function<double(const Cell&)> value) {
  return {std::move(name), [value = std::move(value)](const Cell& cell) { return std::optional(value(cell)); }};
}

Grid score_table(std::string title, std::string note, const std::vector<TableRow>& rows,
                 const std::vector<TableColumn>& columns) {
  Grid grid;
  grid.title = std::move(title);
  grid.note = std::move(note);
  for (const TableColumn& column : columns) grid.columns.push_back(column.name);
  for (const auto& [name, cells] : rows) {
    if (cells.empty()) continue;
    grid.rows.push_back(name);
    std::vector<GridEntry>& entries = grid.entries.emplace_back();
    for (const TableColumn& column : columns) entries.push_back({entry_of(cells, column)});
  }
  return grid;
}

}  // namespace surtsey::experiments
