// A study's run in progress: what it has trained so far.
#pragma once

#include <string>
#include <vector>

#include "engine/device.h"
#include "experiments/results/record.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

// While a study runs, the cells that are done; result.json takes its place.
inline constexpr const char* kCellsFile = "cells.json";

// A run in progress: what a study gets to work with.
class StudyRun {
 public:
  StudyRun(engine::Device& device, RunDirectory& directory, StudyResult header, bool resume);

  engine::Device& device() { return device_; }
  RunDirectory& directory() { return directory_; }
  StudyResult& result() { return result_; }  // claims and settings go here; cells through add()
  bool resuming() const { return resuming_; }

  // The cell of that name if an earlier run finished it.
  bool finished(const std::string& cell) const;
  // Adds cells that are done and writes cells.json after the lines they rest on.
  void add(const std::vector<Cell>& cells);
  // After result.json is whole.
  void close();

 private:
  engine::Device& device_;
  RunDirectory& directory_;
  StudyResult result_;
  bool resuming_ = false;
};

}  // namespace surtsey::experiments
