#include "experiments/sweeps/ensemble_run.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "experiments/adapt/quantize.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/progress.h"
#include "experiments/evaluate/answers.h"
#include "experiments/evaluate/evaluate.h"
#include "experiments/evaluate/interview.h"
#include "experiments/train/driver.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A corrupted step counts as followed when the final answer is the one it implies.
SampleLine corrupted_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item, size_t index,
                          const tasks::Corruption& corruption, int32_t final_token) {
  SampleLine line;
  line.cell = cell;
  line.arm = kCorruptedArm;
  line.index = static_cast<int64_t>(index);
  line.prompt = task.decode(item.prompt()) + " " + task.decode(corruption.forced);
  line.target = "impossible";  // no symbol of a task: never matched
  line.response = "none";
  if (corruption.possible) {
    line.target = task.decode(std::vector{corruption.expected_final_token});
    line.response = task.decode(std::vector{final_token});
    line.correct = line.chain_correct = corruption.expected_final_token == final_token;
  }
  return line;
}

// The same problems with all of the answer but its last token in the prompt.
std::vector<tasks::Item> with_steps_given(std::vector<tasks::Item> items) {
  for (tasks::Item& item : items) {
    item.prompt_length += item.answer_length - 1;
    item.answer_length = 1;
  }
  return items;
}

engine::SessionOptions session_options(const engine::Device& device, const PackRequest& request) {
  engine::SessionOptions options{.quiet = true};
  if (request.resume && request.experiment.trained == nullptr)
    options.target = resumed_target(device.target(), request.folders.checkpoints.string(), request.members.size());
  return options;
}

// Trains one ensemble and turns it into cells.
class EnsembleRun {
 public:
  EnsembleRun(engine::Device& device, const PackRequest& request)
      : request_(request),
        options_(request.options),
        experiment_(request.experiment),
        selecting_(request.selecting),
        members_(request.members),
        folders_(request.folders),
        model_(model_config(experiment_)),
        session_(device, session_options(device, request)) {
    if (experiment_.trained == nullptr) {
      trainer_ = make_trainer(session_, model_, experiment_, members_);
    }
    if (experiment_.generated != nullptr) {
      experiment_.generated->add_programs(session_, model_, members_.size());
    } else {
      evaluator_.emplace(session_, model_, members_.size(), std::min(options_.evaluation_rows, options_.test_items),
                         experiment_.data->block_size());
    }
    if (experiment_.probe != nullptr) {
      experiment_.probe->add_programs(session_, model_, members_.size());
    }
    session_.allocate();
    for (const Member& member : members_) cells_.push_back(first_cell(member));
  }

  PackResult execute() {
    std::optional<Driver> driver;
    try {
      if (trainer_) {
        train(driver);
      } else {
        take_trained();
      }
      if (!interviews()) evaluate(0);
      keep_models();
      if (!selecting_) evaluate_rounded();
    } catch (const Interrupted&) {
      // Everything but the evaluation may be done.
      if (driver) driver->save_or_warn();
      throw;
    } catch (const engine::DeviceError& error) {
      throw with_checkpoint(error, folders_.checkpoints.string());
    }
    return {std::move(cells_), std::move(metrics_), std::move(samples_)};
  }

 private:
  std::string label() const {
    return fmt::format("{} d={} ({} model{}{})",
                       experiment_.task.empty() ? experiment_.variant : experiment_.task + " " + experiment_.variant,
                       experiment_.width, members_.size(), members_.size() == 1 ? "" : "s",
                       selecting_ ? " to choose the learning rate" : "");
  }

  // Models that choose a learning rate are asked nothing but their loss.
  bool interviews() const { return experiment_.interview != nullptr && !selecting_; }

  Cell first_cell(const Member& member) const {
    Cell cell = empty_cell(experiment_, member);
    cell.parameters = model_.parameter_count();
    cell.chance = experiment_.data != nullptr ? experiment_.data->chance() : 0;
    cell.validation_only = selecting_;
    cell.selected = !experiment_.choose_rate || experiment_.learning_rates.size() == 1;
    if (trainer_) {
      cell.tokens = experiment_.steps * trainer_->config().tokens_per_step(model_.config());
      cell.flops = trainer_->flops_per_step() * experiment_.steps;
      return cell;
    }
    for (const Cell& source : experiment_.trained->cells) {
      if (source.seed == member.seed) cell.tokens = source.tokens;
    }
    return cell;
  }

  void log(const TrainLog& log) {
    for (size_t i = 0; i < members_.size(); ++i) {
      const MemberMetrics& member = log.members[i];
      metrics_.push_back({cells_[i].cell,
                          log.step,
                          log.tokens,
                          {{"loss", member.loss},
                           {"grad_norm", member.gradient_norm},
                           {"learning_rate", member.learning_rate},
                           {"skipped", static_cast<double>(member.skipped)}}});
    }
  }

  // What a save says beside the state: the curve so far, and what an interview has found on the way.
  json description() const {
    json lines = json::array(), measures = json::array();
    for (const MetricLine& line : metrics_) lines.push_back(to_json_line(line));
    for (const Cell& cell : cells_) {
      json& own = measures.emplace_back(json::array());
      for (const Measure& one : cell.measures) {
        own.push_back({one.name, one.mean, one.standard_error, one.n});
      }
    }
    return {{"metrics", lines}, {"measures", measures}};
  }

  void restore(const json& saved) {
    for (const auto& line : saved.at("metrics")) {
      metrics_.push_back(parse_metric(line.get<std::string>(), folders_.checkpoints.string()));
    }
    for (size_t e = 0; e < cells_.size(); ++e) {
      for (const json& one : saved.at("measures").at(e)) {
        cells_[e].measures.push_back(
            {one.at(0).get<std::string>(), one.at(1).get<double>(), one.at(2).get<double>(), one.at(3).get<int64_t>()});
      }
    }
  }

  // Trains to the end; an interview asks on the way.
  void train(std::optional<Driver>& driver) {
    Progress progress(label(), experiment_.steps);
    std::string text;
    driver.emplace(*trainer_, run_options(progress, text));
    if (!request_.resume || !driver->resume()) begin();
    try {
      driver->run();
    } catch (const Diverged& error) {
      fmt::print(stderr, "warning: {}: {}\n", label(), error.what());
      // No step changed the models since, so later questions have the same answers.
      for (const int64_t step : asked_steps())
        if (step > driver->asked()) ask(step);
    }
    progress.finish(text);
    for (Cell& cell : cells_) {
      cell.train_seconds = driver->seconds() / static_cast<double>(members_.size());
    }
  }

  void begin() {
    if (request_.start == nullptr) return trainer_->initialise();
    trainer_->initialise_each(weights_of(*request_.start));
  }

  // Those of each member's seed.
  std::vector<graph::HostTensor> weights_of(const TrainedModels& models) const {
    std::vector<graph::HostTensor> weights;
    for (const Member& member : members_)
      weights.push_back(load_checkpoint((models.folder / models.of_seed(member.seed).cell).string(), model_.store())
                            .state.at(graph::kParameters));
    return weights;
  }

  std::vector<int64_t> asked_steps() const {
    return interviews() ? experiment_.interview->steps(experiment_.steps) : std::vector<int64_t>();
  }

  RunOptions run_options(Progress& progress, std::string& text) {
    RunOptions run;
    run.log_interval = options_.log_interval;
    run.checkpoint_interval = options_.checkpoint_interval;
    run.checkpoint_root = folders_.checkpoints.string();
    run.describe = [this] { return description(); };
    run.restore = [this](const json& saved) { restore(saved); };
    run.on_step = [&](int64_t done) {
      if (done < experiment_.steps) progress.update(done, text);
    };
    run.on_log = [&](const TrainLog& line) {
      log(line);
      const auto [low, high] = std::minmax_element(line.members.begin(), line.members.end(),
                                                   [](const auto& a, const auto& b) { return a.loss < b.loss; });
      text = fmt::format("loss {:.3f} to {:.3f}", low->loss, high->loss);
    };
    if (!interviews()) return run;
    run.next_question = [steps = asked_steps()](int64_t step) {
      const auto next = std::upper_bound(steps.begin(), steps.end(), step);
      return next == steps.end() ? step : *next;
    };
    run.ask = [this](int64_t step) { ask(step); };
    return run;
  }

  void ask(int64_t step) {
    const bool last = step == experiment_.steps;
    experiment_.interview->ask(*evaluator_, step, last, cells_, samples_);
    if (!last) return;
    for (const Recomputed& again : recompute(samples_)) {
      for (Cell& cell : cells_) {
        if (cell.cell != again.cell) continue;
        cell.arms = again.arms;
        cell.measures.insert(cell.measures.end(), again.measures.begin(), again.measures.end());
      }
    }
  }

  void take_trained() {
    std::vector<graph::State> weights;
    for (graph::HostTensor& one : weights_of(*experiment_.trained))
      weights.push_back({{graph::kParameters, std::move(one)}});
    const graph::State all = weights.size() == 1 ? weights[0] : ensemble_state(weights, member_state_names());
    session_.write(graph::kParameters, all.at(graph::kParameters));
  }

  void keep_models() {
    if (folders_.models.empty() || !trainer_) return;
    std::vector<std::string> roots;
    for (size_t e = 0; e < members_.size(); ++e) {
      roots.push_back((folders_.models / cells_[e].cell).string());
    }
    trainer_->save(roots, json::object());
  }

  // Of the cells from `first` on, one a member, by the parameters that the session holds.
  void evaluate(size_t first) {
    if (experiment_.generated != nullptr) return evaluate_generated(first);
    const tasks::Task& task = *experiment_.data;
    const auto held_out =
        evaluator_->validation_loss(task, static_cast<uint32_t>(options_.selection_seed), options_.validation_items);
    for (size_t e = 0; e < members_.size(); ++e) cells_[first + e].validation_loss = held_out[e];
    if (selecting_) return;
    const auto seed = static_cast<uint32_t>(options_.test_seed);
    for (int32_t arm = 0; arm < static_cast<int32_t>(task.arms().size()); ++arm) {
      if (interrupted()) throw Interrupted("interrupted during the evaluation of " + label());
      const ArmAnswers answers = evaluator_->answer(task, arm, options_.test_items, seed);
      add_answers(first, answers);
      const std::string& name = task.arms()[static_cast<size_t>(arm)];
      if (name == experiment_.corrupt_arm) {
        add_corrupted(first, answers, evaluator_->corrupt(task, answers, seed));
      }
      if (name == experiment_.given_arm) {
        const size_t before = samples_.size();
        add_answers(first, evaluator_->answer(task, with_steps_given(answers.items)));
        for (size_t i = before; i < samples_.size(); ++i) samples_[i].arm = kGivenArm;
      }
    }
    // The numbers of a cell are what its lines give, by construction. Cells before `first` have theirs, with what a
    // probe measured of them.
    const auto evaluated = std::span(cells_).subspan(first, members_.size());
    for (const Recomputed& again : recompute(samples_)) {
      for (Cell& cell : evaluated) {
        if (cell.cell != again.cell) continue;
        cell.arms = again.arms;
        cell.faithfulness = again.faithfulness;
        cell.measures = again.measures;
      }
    }
    if (experiment_.probe == nullptr) return;
    const auto probed = experiment_.probe->measure(session_, members_.size(), seed);
    for (size_t e = 0; e < members_.size(); ++e) {
      auto& measures = cells_[first + e].measures;
      measures.insert(measures.end(), probed[e].begin(), probed[e].end());
    }
  }

  // Each number of bits rounds what was trained, not what was rounded before.
  void evaluate_rounded() {
    if (experiment_.bits.empty()) return;
    const graph::HostTensor trained = session_.read(graph::kParameters);
    for (const int32_t bits : experiment_.bits) {
      graph::HostTensor rounded = trained;
      quantize(model_.store(), rounded, {.bits = bits});
      session_.write(graph::kParameters, rounded);
      Experiment part = experiment_;
      part.variant = rounded_variant(bits);
      const size_t first = cells_.size();
      for (size_t e = 0; e < members_.size(); ++e) {
        Cell cell = cells_[e];
        cell.cell = cell_name(part, members_[e]);
        cell.variant = part.variant;
        cell.train_seconds = 0;
        cell.flops = 0;  // they are counted once, where the weights were trained
        cells_.push_back(std::move(cell));
      }
      evaluate(first);
    }
  }

  void evaluate_generated(size_t first) {
    const GeneratedData& data = *experiment_.generated;
    const size_t members = members_.size();
    const auto held_out = data.validation_loss(session_, members, static_cast<uint32_t>(options_.selection_seed));
    for (size_t e = 0; e < members; ++e) cells_[first + e].validation_loss = held_out[e];
    if (selecting_) return;
    auto measures = data.measure(session_, members, static_cast<uint32_t>(options_.test_seed));
    for (size_t e = 0; e < members; ++e) cells_[first + e].measures = std::move(measures[e]);
  }

  void add_answers(size_t first, const ArmAnswers& answers) {
    add_answer_lines(*experiment_.data, std::span(cells_).subspan(first, members_.size()), answers, samples_);
  }

  void add_corrupted(size_t first, const ArmAnswers& answers, const CorruptedAnswers& moved) {
    for (size_t e = 0; e < members_.size(); ++e) {
      for (size_t i = 0; i < answers.items.size(); ++i) {
        samples_.push_back(corrupted_line(*experiment_.data, cells_[first + e].cell, answers.items[i], i,
                                          moved.corruptions[e][i], moved.final_tokens[e][i]));
      }
    }
  }

  const PackRequest& request_;
  const SweepOptions& options_;
  const Experiment& experiment_;
  const bool selecting_;
  const std::vector<Member>& members_;
  const PackFolders& folders_;
  Model model_;
  engine::Session session_;
  std::unique_ptr<Trainer> trainer_;    // none of models that are trained already
  std::optional<Evaluator> evaluator_;  // of a task
  std::vector<Cell> cells_;
  std::vector<MetricLine> metrics_;
  std::vector<SampleLine> samples_;
};

}  // namespace

PackResult run_pack(engine::Device& device, const PackRequest& request) {
  return EnsembleRun(device, request).execute();
}

}  // namespace surtsey::experiments
