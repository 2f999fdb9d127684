#include "experiments/sweeps/experiments.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "experiments/base/interrupt.h"
#include "experiments/results/claims.h"
#include "experiments/sweeps/budgets.h"
#include "experiments/sweeps/ensemble_run.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

// Cells of one size of one kind of model: they differ in seed and learning rate only.
using KindKey = std::tuple<std::string, std::string, int32_t, int32_t>;

KindKey key_of(const Experiment& experiment) {
  return {experiment.task, experiment.variant, experiment.width, experiment.n_layer};
}

KindKey key_of(const Cell& cell) { return {cell.task, cell.variant, cell.n_embd, cell.n_layer}; }

// Of what the experiment begins with, or rests on.
KindKey origin_key(const Experiment& experiment) {
  const Origin& origin = *experiment.origin;
  return {experiment.task, origin.variant, origin.width > 0 ? origin.width : experiment.width,
          origin.n_layer > 0 ? origin.n_layer : experiment.n_layer};
}

bool chooses(const Experiment& experiment) {
  return experiment.choose_rate && experiment.learning_rates.size() > 1 && experiment.rate_of.empty();
}

// The rate with the least held-out loss on the selection seed; a loss that is not finite never wins. Without any, the
// first of the grid.
class RateChoice {
 public:
  explicit RateChoice(double first) : rate_(first) {}
  void consider(const Cell& cell) {
    if (!cell.validation_only || !cell.validation_loss || !(*cell.validation_loss < loss_)) return;
    loss_ = *cell.validation_loss;
    rate_ = cell.learning_rate;
  }
  double rate() const { return rate_; }

 private:
  double rate_;
  double loss_ = std::numeric_limits<double>::infinity();
};

// Adds packs to the list, and remembers which of them choose the rate of what.
class Planner {
 public:
  Planner(const SweepOptions& options, const engine::DeviceInfo& device) : options_(options), device_(device) {}

  void add(Experiment experiment) {
    if (experiment.origin) {
      const KindKey source = origin_key(experiment);
      ensure(rates_.contains(source), "[experiments] the origin of '{}', '{}', is not before it", experiment.variant,
             experiment.origin->variant);
      ensure(packs_.at(of_kind_[source].front()).experiment.rate_of.empty(),
             "[experiments] '{}', the origin of '{}', has not chosen its rate itself", experiment.origin->variant,
             experiment.variant);
      check(!chooses(experiment) || !choosers_[source].empty(),
            "learning rates of '{}' are chosen by a model that goes on from one of '{}': there must be several of "
            "those to choose from too",
            experiment.variant, experiment.origin->variant);
    }
    if (chooses(experiment)) {
      Experiment selection = experiment;
      selection.seeds = {options_.selection_seed};
      if (options_.selection_steps > 0) selection.steps = options_.selection_steps;
      auto& choosing = choosers_[key_of(experiment)];
      for (auto& members : pack_members(device_, options_, selection)) {
        choosing.push_back(packs_.size());
        add_pack({selection, std::move(members), true});
      }
    }
    rates_[key_of(experiment)] = experiment.learning_rates;
    PlannedPack pack{experiment, {}};
    if (!experiment.rate_of.empty()) {
      KindKey source = key_of(experiment);
      std::get<1>(source) = experiment.rate_of;
      ensure(rates_.contains(source), "[experiments] '{}' takes the rate of '{}', which is not before it",
             experiment.variant, experiment.rate_of);
      pack.rates = rates_.at(source);
      pack.chosen_by = choosers_[source];
      pack.experiment.choose_rate = false;
      pack.experiment.learning_rates = {pack.rates.front()};
    }
    for (auto& members : pack_members(device_, options_, pack.experiment)) {
      pack.members = std::move(members);
      add_pack(pack);
    }
    if (!experiment.budgets.empty()) add_budgets(std::move(experiment));
  }

  std::vector<PlannedPack> packs() && { return std::move(packs_); }

 private:
  void add_pack(PlannedPack pack) {
    // Cells are known by their names: of two alike one would be taken for the other.
    for (const std::string& name : pack.cells()) {
      ensure(names_.insert(name).second,
             "[experiments] two experiments have a cell {}: those of one width and depth differ in task ('{}') or in "
             "variant ('{}')",
             name, pack.experiment.task, pack.experiment.variant);
    }
    if (pack.experiment.origin) {
      const KindKey source = origin_key(pack.experiment);
      pack.origin_packs = of_kind_[source];
      pack.origin_rates = rates_.at(source);
      for (const size_t one : pack.origin_packs) packs_[one].kept = true;
    }
    of_kind_[key_of(pack.experiment)].push_back(packs_.size());
    packs_.push_back(std::move(pack));
  }

  void add_budgets(Experiment experiment) {
    double step_flops = 0;  // those of the plan; compiled where a budget asks for them
    const std::vector<Budget> budgets = std::exchange(experiment.budgets, {});
    const std::string variant = experiment.variant;
    const int32_t steps = experiment.steps;
    experiment.rate_of = variant;
    for (const Budget& budget : budgets) {
      if (budget.flops > 0 && step_flops == 0) {
        Experiment own = experiment;
        own.variant = variant;
        own.steps = steps;
        step_flops = pack_cost(device_.target, own, {Member{}}).flops / steps;
      }
      const auto count = budget_steps(budget, steps, step_flops);
      if (!count) continue;
      experiment.variant = budget_variant(variant, budget);
      experiment.steps = *count;
      add(experiment);
    }
  }

  const SweepOptions& options_;
  const engine::DeviceInfo& device_;
  std::vector<PlannedPack> packs_;
  std::set<std::string> names_;  // of their cells
  std::map<KindKey, std::vector<size_t>> choosers_, of_kind_;
  std::map<KindKey, std::vector<double>> rates_;
};

}  // namespace

std::vector<size_t> PlannedPack::waits_for() const {
  std::vector<size_t> all = chosen_by;
  all.insert(all.end(), origin_packs.begin(), origin_packs.end());
  return all;
}

std::vector<std::string> PlannedPack::cells() const {
  std::vector<std::string> names;
  for (const Member& member : members) names.push_back(cell_name(experiment, member));
  return names;
}

std::vector<PlannedPack> packs_of(std::span<const Experiment> experiments, const SweepOptions& options,
                                  const engine::DeviceInfo& device, std::vector<std::string>* left_out) {
  Planner planner(options, device);
  for (const Experiment& experiment : experiments) {
    if (!experiment.trained_by.empty() && experiment.trained == nullptr) continue;
    const std::string why = experiment.left_out ? experiment.left_out(device) : "";
    if (why.empty()) {
      planner.add(experiment);
    } else if (left_out != nullptr) {
      left_out->push_back(fmt::format("{} ({})", experiment.variant, why));
    }
  }
  return std::move(planner).packs();
}

TrainedModels load_trained_models(const fs::path& run, std::string_view task, std::string_view variant, int32_t width) {
  const StudyResult result = load_result(run / kResultFile);
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

std::vector<Experiment> with_trained_models(std::vector<Experiment> experiments) {
  for (Experiment& one : experiments) {
    if (one.trained_by.empty()) continue;
    const auto models =
        std::make_shared<TrainedModels>(load_trained_models(one.trained_by, one.task, one.trained_variant, one.width));
    one.steps = static_cast<int32_t>(models->cells[0].steps);
    one.n_layer = models->cells[0].n_layer;
    one.learning_rates = {models->cells[0].learning_rate};
    one.seeds.clear();
    for (const Cell& cell : models->cells) one.seeds.push_back(static_cast<int32_t>(cell.seed));
    one.trained = models;
  }
  return experiments;
}

void take_from(PlannedPack& pack, std::span<const Cell> cells) {
  const auto chosen = [&](const KindKey& source, double first) {
    RateChoice choice(first);
    for (const Cell& cell : cells)
      if (key_of(cell) == source) choice.consider(cell);
    return choice.rate();
  };
  if (!pack.chosen_by.empty()) {
    KindKey source = key_of(pack.experiment);
    std::get<1>(source) = pack.experiment.rate_of;
    const double rate = chosen(source, pack.rates.front());
    pack.experiment.learning_rates = {rate};
    for (Member& member : pack.members) member.learning_rate = rate;
  }
  if (pack.experiment.origin) {
    const KindKey source = origin_key(pack.experiment);
    const double rate = chosen(source, pack.origin_rates.front());
    pack.origin.clear();
    for (const Cell& cell : cells)
      if (key_of(cell) == source && cell.learning_rate == rate) pack.origin.push_back(cell);
  }
}

PackResult run_planned(engine::Device& device, const SweepOptions& options, const PlannedPack& pack,
                       const fs::path& checkpoints, const fs::path& run, bool resume) {
  if (pack.experiment.procedure) return pack.experiment.procedure(device, pack.experiment, pack.members);
  PackFolders folders{checkpoints};
  if (pack.kept || (options.save_models && !pack.selecting)) folders.models = run / kModelsFolder;
  const TrainedModels origin{run / kModelsFolder, pack.origin};
  if (pack.experiment.prepare) pack.experiment.prepare(device, origin);
  const bool starts = pack.experiment.origin && !pack.experiment.prepare;
  return run_pack(device, {.options = options,
                           .experiment = pack.experiment,
                           .members = pack.members,
                           .folders = folders,
                           .start = starts ? &origin : nullptr,
                           .selecting = pack.selecting,
                           .resume = resume});
}

void run_packs(StudyRun& run, const SweepOptions& options, const std::vector<PlannedPack>& packs) {
  for (PlannedPack pack : packs) {
    take_from(pack, run.result().cells);
    // The cells of a pack are written at once, so one of them speaks for all.
    if (run.finished(pack.name())) continue;
    if (interrupted()) throw Interrupted("interrupted between two ensembles");
    const fs::path& path = run.directory().path();
    const fs::path checkpoints = path / "checkpoints" / pack.name();
    const PackResult found = run_planned(run.device(), options, pack, checkpoints, path, run.resuming());
    for (const MetricLine& line : found.metrics) run.directory().append(line);
    for (const SampleLine& line : found.samples) run.directory().append(line);
    run.add(found.cells);
    std::error_code error;
    fs::remove_all(checkpoints, error);
  }
  mark_chosen(run.result().cells, packs);
}

void mark_chosen(std::vector<Cell>& cells, const std::vector<PlannedPack>& packs) {
  for (const PlannedPack& pack : packs) {
    if (!pack.selecting) continue;
    std::vector<Cell*> own;
    RateChoice choice(pack.experiment.learning_rates.front());
    for (Cell& cell : cells) {
      KindKey key = key_of(cell);
      for (const int32_t bits : pack.experiment.bits)
        if (cell.variant == rounded_variant(bits)) std::get<1>(key) = pack.experiment.variant;
      if (key != key_of(pack.experiment)) continue;
      own.push_back(&cell);
      choice.consider(cell);
    }
    for (Cell* cell : own) cell->selected = cell->learning_rate == choice.rate();
  }
}

}  // namespace surtsey::experiments
