#include "experiments/sweeps/study_run.h"

#include <algorithm>
#include <filesystem>

namespace surtsey::experiments {

namespace fs = std::filesystem;

StudyRun::StudyRun(engine::Device& device, RunDirectory& directory, StudyResult header, bool resume)
    : device_(device), directory_(directory), result_(std::move(header)), resuming_(resume) {
  if (!resume) return;
  std::vector<std::string> names;
  for (const char* file : {kCellsFile, kResultFile}) {
    const fs::path path = directory.path() / file;
    if (!fs::exists(path)) continue;
    result_.cells = load_result(path).cells;
    break;
  }
  for (const Cell& cell : result_.cells) names.push_back(cell.cell);
  directory.keep_only(names);
}

bool StudyRun::finished(const std::string& cell) const {
  return std::any_of(result_.cells.begin(), result_.cells.end(), [&](const Cell& one) { return one.cell == cell; });
}

void StudyRun::add(const std::vector<Cell>& cells) {
  result_.cells.insert(result_.cells.end(), cells.begin(), cells.end());
  directory_.flush();
  write_file_atomic(directory_.path() / kCellsFile, to_json(result_));
}

void StudyRun::close() {
  std::error_code error;  // left behind it only says what result.json says
  fs::remove(directory_.path() / kCellsFile, error);
}

}  // namespace surtsey::experiments
