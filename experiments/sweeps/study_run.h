// A study's run in progress: what it has trained so far, or who is shown what it would train.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "experiments/results/record.h"
#include "experiments/results/result.h"
#include "experiments/sweeps/pack.h"

namespace surtsey::experiments {

// While a study runs, the cells that are done; result.json takes its place.
inline constexpr const char* kCellsFile = "cells.json";
inline constexpr const char* kResultFile = "result.json";

// A pack that a study would train. References end with the call that shows it.
struct ScoutedPack {
  const Experiment& experiment;
  const std::vector<Member>& members;
  bool selecting = false;  // to choose a learning rate
};
using Scout = std::function<void(const ScoutedPack&)>;

// A run in progress: what a study gets to work with.
class StudyRun {
 public:
  StudyRun(engine::Device& device, RunDirectory& directory, StudyResult header, bool resume);

  // Nothing is trained or written: run_experiment() shows the scout what it would train.
  StudyRun(engine::Device& device, Scout scout);

  engine::Device& device() { return device_; }
  RunDirectory& directory();                 // not with a scout
  StudyResult& result() { return result_; }  // claims and settings go here; cells through add()
  bool resuming() const { return resuming_; }

  const Scout& scouting() const { return scout_; }

  // The cell of that name if an earlier run finished it.
  bool finished(const std::string& cell) const;
  // Adds cells that are done and writes cells.json after the lines they rest on.
  void add(const std::vector<Cell>& cells);
  // After result.json is whole.
  void close();

 private:
  engine::Device& device_;
  RunDirectory* directory_ = nullptr;
  StudyResult result_;
  bool resuming_ = false;
  Scout scout_;
};

}  // namespace surtsey::experiments
