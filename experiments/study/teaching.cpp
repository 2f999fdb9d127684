#include "experiments/study/teaching.h"

#include "experiments/models/forward_program.h"
#include "experiments/study/asked.h"
#include "experiments/train/train_session.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

constexpr const char* kLogitsProgram = "forward";

// The same rows for every member.
std::vector<uint32_t> repeated(const std::vector<int32_t>& tokens, size_t members) {
  std::vector<uint32_t> all;
  for (size_t e = 0; e < members; ++e) all.insert(all.end(), tokens.begin(), tokens.end());
  return all;
}

std::vector<float> logits_of(engine::Session& session, const std::vector<int32_t>& tokens, size_t members) {
  session.write("tokens", repeated(tokens, members));
  const engine::SessionProgram forward = session.program(kLogitsProgram);
  forward.run();
  return forward.read_floats("logits");
}

}  // namespace

const TrainedBase& Bases::of(engine::Device& device, int32_t width, uint32_t seed) {
  const auto found = bases_.find({width, seed});
  if (found != bases_.end()) return found->second;
  return bases_.emplace(std::pair{width, seed}, train_(device, width, seed)).first->second;
}

Bases::Train recipe_bases(RecipeBase recipe) {
  return [recipe](engine::Device& device, int32_t width, uint32_t seed) {
    const tasks::Task& task = *recipe.task;
    TrainConfig train{.optimizer = recipe_optimizer(recipe.steps), .members = {{seed, recipe.rate / width}}};
    train.batch_size = recipe.batch_size;
    train.steps = recipe.steps;
    return train_base(device, recipe_config(recipe.n_layer, width, task.vocab_size(), task.block_size()), task, train);
  };
}

std::vector<std::vector<Member>> by_seed(const std::vector<Member>& members) {
  std::vector<std::vector<Member>> seeds;
  for (const uint32_t seed : distinct_seeds(members)) {
    std::vector<Member>& own = seeds.emplace_back();
    for (const Member& member : members)
      if (member.seed == seed) own.push_back(member);
  }
  return seeds;
}

PackResult ask_bases(Bases& bases, const tasks::Task& task, const SweepOptions& options, engine::Device& device,
                     const Experiment& experiment, const std::vector<Member>& members) {
  PackResult result;
  for (const Member& member : members) {
    const TrainedBase& base = bases.of(device, experiment.width, member.seed);
    BaseRun run(device, base, options.evaluation_rows, task.block_size());
    Cell& cell = result.cells.emplace_back(empty_cell(experiment, member));
    cell.parameters = base.parameter_count();
    cell.chance = task.chance();
    cell.tokens = base.tokens;
    cell.flops = base.flops;
    cell.train_seconds = base.seconds;
    cell.validation_loss =
        run.evaluator().validation_loss(task, uint32_t(options.selection_seed), options.validation_items).front();
    ask_arms(run.evaluator(), task, task.arms(), options.test_items, uint32_t(options.test_seed), std::span(&cell, 1),
             result.samples);
  }
  return result;
}

std::vector<Cell> ask_adapted(AdaptedRun& run, const tasks::Task& task, const std::vector<std::string>& arms,
                              const SweepOptions& options, const Experiment& experiment,
                              const std::vector<std::string>& variants, std::vector<SampleLine>& lines) {
  std::vector<Cell> cells = run.cells(experiment);
  ensure(variants.size() == cells.size(), "[teaching] {} variants of {} members", variants.size(), cells.size());
  const std::vector<double> losses =
      run.evaluator().validation_loss(task, uint32_t(options.selection_seed), options.validation_items);
  for (size_t e = 0; e < cells.size(); ++e) {
    Experiment own = experiment;
    own.variant = cells[e].variant = variants[e];
    cells[e].cell = cell_name(own, run.members()[e]);
    cells[e].chance = task.chance();
    cells[e].validation_loss = losses[e];
  }
  ask_arms(run.evaluator(), task, arms, options.test_items, uint32_t(options.test_seed), cells, lines);
  return cells;
}

std::string old_when(double accuracy) { return fmt::format("old_when_new_is_{:g}", accuracy); }
std::string steps_to(double accuracy) { return fmt::format("steps_to_{:g}", accuracy); }

LearningPath::LearningPath(const tasks::Task& task, const std::string& learned, const std::string& old, int32_t count,
                           uint32_t seed, int64_t every)
    : task_(task), every_(every) {
  check(every > 0, "[teaching] questions every {} steps", every);
  for (const std::string& arm : {learned, old}) items_.push_back(task.test_items(task.arm_index(arm), count, seed));
}

void LearningPath::ask(Evaluator& evaluator) {
  std::vector<std::vector<double>> shares;
  for (const std::vector<tasks::Item>& items : items_) {
    const ArmAnswers answers = evaluator.write(task_, items);
    std::vector<double>& own = shares.emplace_back();
    for (const std::vector<int32_t>& responses : answers.responses)
      own.push_back(is_written(responses) ? task_.score(answers.items, responses).exact_match() : 0);
  }
  asked_.push_back(std::move(shares));
}

void LearningPath::follow(AdaptedRun& run, RunOptions options) {
  ask(run.evaluator());
  options.next_question = [every = every_](int64_t step) { return (step / every + 1) * every; };
  options.ask = [&](int64_t) { ask(run.evaluator()); };
  run.train(options);
}

std::optional<LearningPath::Point> LearningPath::when_learned(size_t member, double accuracy) const {
  for (size_t i = 0; i < asked_.size(); ++i) {
    const double now = asked_[i][0][member], old = asked_[i][1][member];
    if (now < accuracy) continue;
    if (i == 0) return Point{old, 0};
    const double before = asked_[i - 1][0][member];
    const double at = (accuracy - before) / (now - before);
    return Point{(1 - at) * asked_[i - 1][1][member] + at * old, (double(i - 1) + at) * double(every_)};
  }
  return {};
}

void LearningPath::add_measures(std::span<Cell> cells, const std::vector<double>& accuracies) const {
  const auto n = std::ssize(items_[0]);
  for (size_t e = 0; e < cells.size(); ++e) {
    for (const double accuracy : accuracies) {
      const auto point = when_learned(e, accuracy);
      if (!point) continue;
      const double error = std::sqrt(std::max(0.0, point->old * (1 - point->old)) / double(n));
      cells[e].measures.push_back({old_when(accuracy), point->old, error, n});
      cells[e].measures.push_back({steps_to(accuracy), point->steps, 0, 1});
    }
  }
}

std::string planted_variant(int64_t rank) { return fmt::format("rank {}", rank); }

PackResult find_planted(const PlantedOptions& options, engine::Device& device, const Experiment& experiment,
                        const std::vector<Member>& members) {
  std::vector<PlantedMember> tried;
  PackResult result;
  for (const Member& member : members) {
    for (int64_t rank = 1; rank <= options.rank + 1; ++rank) {
      tried.push_back({member.seed, rank});
      Experiment one = experiment;
      one.variant = planted_variant(rank);
      Cell& cell = result.cells.emplace_back(empty_cell(one, member));
      cell.parameters = 2 * rank * options.width;
      cell.steps = options.steps;
    }
  }
  const std::vector<PlantedResult> found = recover_planted(device, options, tried);
  for (size_t i = 0; i < found.size(); ++i)
    result.cells[i].measures = {{"loss", found[i].loss, 0, 1}, {"least", found[i].least, 0, 1}};
  return result;
}

void add_logits(engine::Session& session, const Model& model, int64_t rows, size_t members) {
  session.add_program(kLogitsProgram, forward_program(model, rows, members));
}

std::vector<double> merged_differences(engine::Device& device, AdaptedRun& run, const TrainedBase& base,
                                       const std::vector<size_t>& members, const tasks::Task& task, int32_t arm,
                                       int32_t rows) {
  ensure(!members.empty(), "[teaching] no member to merge");
  const tasks::Batch batch = task.to_batch(task.test_items(arm, rows, 0));
  const std::vector<float> beside = logits_of(run.session(), batch.tokens, run.members().size());
  const Model plain(base.model);
  std::vector<float> weights;
  for (const size_t e : members) {
    const graph::State trained = run.model().store().unpack(run.trainer().parameters(e));
    graph::State merged = base.parameters;
    for (const std::string& name : run.adaptation().merged_names())
      merged[name] = run.adaptation().merged(name, base.parameters.at(name), trained);
    const graph::HostTensor flat = plain.store().pack(merged);
    weights.insert(weights.end(), flat.values.begin(), flat.values.end());
  }
  engine::Session session(device, {.quiet = true});
  add_logits(session, plain, rows, members.size());
  session.allocate();
  write_state(session, plain.constants());
  session.write(graph::kParameters, weights);
  const std::vector<float> merged = logits_of(session, batch.tokens, members.size());
  const size_t size = merged.size() / members.size();
  std::vector<double> differences;
  for (size_t i = 0; i < members.size(); ++i) {
    double most = 0;
    for (size_t at = 0; at < size; ++at) {
      const double difference = std::abs(double(merged[i * size + at]) - double(beside[members[i] * size + at]));
      most = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(most, difference);
    }
    differences.push_back(most);
  }
  return differences;
}

}  // namespace surtsey::experiments
