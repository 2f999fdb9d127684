#include "experiments/sweeps/sweep.h"

#include <algorithm>
#include <set>

#include "experiments/base/interrupt.h"
#include "experiments/sweeps/ensemble_run.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelsFolder = "models";

// The cells of one experiment, whoever trained them.
std::vector<Cell*> cells_of(StudyResult& result, const Experiment& experiment) {
  std::set<std::string> variants = {experiment.variant};
  for (const int32_t bits : experiment.bits) variants.insert(rounded_variant(bits));
  std::vector<Cell*> cells;
  for (Cell& cell : result.cells) {
    if (cell.task == experiment.task && variants.contains(cell.variant) && cell.n_embd == experiment.width &&
        cell.n_layer == experiment.n_layer) {
      cells.push_back(&cell);
    }
  }
  return cells;
}

// The rate with the least held-out loss on the selection seed; a loss that is not finite never
// wins.
double choose_rate(const std::vector<Cell*>& cells, const Experiment& experiment) {
  double best_rate = experiment.learning_rates.front();
  double best_loss = std::numeric_limits<double>::infinity();
  for (const Cell* cell : cells) {
    if (!cell->validation_only || !cell->validation_loss) continue;
    if (*cell->validation_loss < best_loss) {
      best_loss = *cell->validation_loss;
      best_rate = cell->learning_rate;
    }
  }
  return best_rate;
}

}  // namespace

double run_experiment(StudyRun& run, const SweepOptions& options, const Experiment& experiment) {
  const auto execute = [&](const Experiment& part, bool selecting) {
    for (const auto& members : pack_members(run.device().info(), options, part)) {
      if (run.scouting()) {
        run.scouting()({part, members, selecting});
        continue;
      }
      const std::string name = cell_name(part, members.front());
      // The cells of a pack are written at once, so one of them speaks for all.
      if (run.finished(name)) continue;
      if (interrupted()) throw Interrupted("interrupted between two ensembles");
      PackFolders folders{run.directory().path() / "checkpoints" / name};
      if (options.save_models) folders.models = run.directory().path() / kModelsFolder;
      const PackResult pack = run_pack(run.device(), {.options = options,
                                                      .experiment = part,
                                                      .members = members,
                                                      .folders = folders,
                                                      .selecting = selecting,
                                                      .resume = run.resuming()});
      for (const MetricLine& line : pack.metrics) run.directory().append(line);
      for (const SampleLine& line : pack.samples) run.directory().append(line);
      run.add(pack.cells);
      std::error_code error;
      fs::remove_all(folders.checkpoints, error);
    }
  };
  if (experiment.choose_rate && experiment.learning_rates.size() > 1) {
    Experiment selection = experiment;
    selection.seeds = {options.selection_seed};
    if (options.selection_steps > 0) selection.steps = options.selection_steps;
    execute(selection, true);
  }
  execute(experiment, false);
  const std::vector<Cell*> cells = cells_of(run.result(), experiment);
  if (!experiment.choose_rate) return experiment.learning_rates.front();
  const double chosen = choose_rate(cells, experiment);
  for (Cell* cell : cells) cell->selected = cell->learning_rate == chosen;
  return chosen;
}

std::vector<const Cell*> claim_cells(const StudyResult& result, std::string_view task, std::string_view variant) {
  std::vector<const Cell*> cells;
  for (const Cell& cell : result.cells) {
    if (cell.task == task && cell.variant == variant && cell.selected && !cell.validation_only) {
      cells.push_back(&cell);
    }
  }
  return cells;
}

TrainedModels load_trained_models(const fs::path& run, std::string_view task, std::string_view variant, int32_t width) {
  const StudyResult result = load_result(run / "result.json");
  TrainedModels models;
  models.folder = run / kModelsFolder;
  for (const Cell* cell : claim_cells(result, task, variant)) {
    if (width == 0 || cell->n_embd == width) models.cells.push_back(*cell);
  }
  if (width == 0) {
    int32_t largest = 0;
    for (const Cell& cell : models.cells) largest = std::max(largest, cell.n_embd);
    std::erase_if(models.cells, [&](const Cell& cell) { return cell.n_embd < largest; });
  }
  check(!models.cells.empty(), "'{}' has no chosen models of '{}'{}", run.string(), variant,
        width == 0 ? "" : fmt::format(" with n_embd = {}", width));
  for (const Cell& cell : models.cells) {
    check(has_checkpoint((models.folder / cell.cell).string()),
          "'{}' did not keep the weights of {}: run it with save_models = true", run.string(), cell.cell);
  }
  return models;
}

}  // namespace surtsey::experiments
