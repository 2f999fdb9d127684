// What kinds of models scored as a table on a study's page: a row a kind, a column a number, means over seeds.
//
//   score_table("What each way keeps", "Means over seeds.", {{"naive", cells("", "naive").of(result)}, ..},
//               {measure_column("BWT", "BWT"), arm_column("first", "first")})
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "experiments/results/grid.h"
#include "experiments/study/rules.h"

namespace surtsey::experiments {

struct TableColumn {
  std::string name;
  std::function<std::optional<double>(const Cell&)> value;  // nothing where a model lacks it
};
TableColumn arm_column(std::string name, std::string arm);          // exact match
TableColumn measure_column(std::string name, std::string measure);  // its mean
TableColumn cell_column(std::string name, std::function<double(const Cell&)> value);

using TableRow = std::pair<std::string, Cells>;

// Rows without models are left out. An entry is a mean and half of its 95% t interval, "0.98 ± 0.01" (the mean alone
// where all are equal), and says how many of a row's models have the number where that is not all of them.
Grid score_table(std::string title, std::string note, const std::vector<TableRow>& rows,
                 const std::vector<TableColumn>& columns);

}  // namespace surtsey::experiments
