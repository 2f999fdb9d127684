// What studies share that teach trained models something new: bases by seed, questions while a new arm is learned,
// planted changes, and whether merged weights are the same model.
#pragma once

#include "experiments/adapt/planted_change.h"
#include "experiments/study/adapted.h"

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

// Bases of a study, one a width and seed, each trained when it is first asked for.
class Bases {
 public:
  using Train = std::function<TrainedBase(engine::Device& device, int32_t width, uint32_t seed)>;
  explicit Bases(Train train) : train_(std::move(train)) {}

  const TrainedBase& of(engine::Device& device, int32_t width, uint32_t seed);

 private:
  Train train_;
  std::map<std::pair<int32_t, uint32_t>, TrainedBase> bases_;
};

// Bases of the recipe (recipe_config(), recipe_optimizer()) that learn a task, with this rate over their width.
struct RecipeBase {
  std::shared_ptr<const tasks::Task> task;
  int32_t n_layer = 2, steps = 1, batch_size = 1;
  double rate = 0;
};
Bases::Train recipe_bases(RecipeBase recipe);

// Members seed by seed, in the order of their first.
std::vector<std::vector<Member>> by_seed(const std::vector<Member>& members);

// The cells of bases themselves, asked every arm of a task.
PackResult ask_bases(Bases& bases, const tasks::Task& task, const SweepOptions& options, engine::Device& device,
                     const Experiment& experiment, const std::vector<Member>& members);

// The cells of a run's members, each under a variant of its own, with held-out loss and these arms.
std::vector<Cell> ask_adapted(AdaptedRun& run, const tasks::Task& task, const std::vector<std::string>& arms,
                              const SweepOptions& options, const Experiment& experiment,
                              const std::vector<std::string>& variants, std::vector<SampleLine>& lines);

// Names of what LearningPath measures: "old_when_new_is_0.9", "steps_to_0.9".
std::string old_when(double accuracy);
std::string steps_to(double accuracy);

// Two arms of a task, asked in turns while models learn the first and forget the second.
class LearningPath {
 public:
  // `count` questions of each arm, of the test stream of `seed`, every so many steps.
  LearningPath(const tasks::Task& task, const std::string& learned, const std::string& old, int32_t count,
               uint32_t seed, int64_t every);

  // Asks before training and on the way.
  void follow(AdaptedRun& run, RunOptions options);

  // Exact match of the old arm where that of the learned one first reaches `accuracy`, on the line between two
  // questions: the same accuracy for models that learn at different speeds. Nothing where it never does.
  struct Point {
    double old = 0;
    double steps = 0;
  };
  std::optional<Point> when_learned(size_t member, double accuracy) const;
  // Both as measures of the members' cells, where there are any.
  void add_measures(std::span<Cell> cells, const std::vector<double>& accuracies) const;

 private:
  void ask(Evaluator& evaluator);

  const tasks::Task& task_;
  int64_t every_;
  std::vector<std::vector<tasks::Item>> items_;          // of the learned arm, of the old
  std::vector<std::vector<std::vector<double>>> asked_;  // [question][learned, old][member]
};

// Planted changes (adapt/planted_change.h) of every member's seed, found by LoRA of ranks from 1 to one more than
// theirs, all as one ensemble: cells of variant planted_variant(rank) with the measures "loss" and "least".
std::string planted_variant(int64_t rank);
PackResult find_planted(const PlantedOptions& options, engine::Device& device, const Experiment& experiment,
                        const std::vector<Member>& members);

// Adds what merged_differences() runs, to AdaptRequest::programs.
void add_logits(engine::Session& session, const Model& model, int64_t rows, size_t members);

// The largest difference of a logit between the adapter beside the base's weights and merged into them, on the device,
// of these members of the run, over `rows` questions of an arm. Of LoRA with a rank of a member's own only those with
// the whole rank can be merged so.
std::vector<double> merged_differences(engine::Device& device, AdaptedRun& run, const TrainedBase& base,
                                       const std::vector<size_t>& members, const tasks::Task& task, int32_t arm,
                                       int32_t rows);

}  // namespace surtsey::experiments
