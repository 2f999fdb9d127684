#include "experiments/pack.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "experiments/evaluate.h"
#include "experiments/interrupt.h"
#include "experiments/progress.h"
#include "experiments/quantize.h"
#include "graph/compile.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr double kCpuWorkingSet = 24e6;  // bytes that the last cache of most machines holds
constexpr double kMemoryShare = 0.6;     // of the device's memory

ModelConfig model_config(const Experiment& experiment) {
  ensure((experiment.data == nullptr) != (experiment.generated == nullptr),
         "[pack] an experiment learns from a task or from generated data");
  if (experiment.model) return *experiment.model;
  ensure(experiment.data != nullptr, "[pack] generated data wants a model");
  return recipe_config(experiment.n_layer, experiment.width, experiment.data->vocab_size(),
                       experiment.data->block_size());
}

// How many models to train at once. The bytes of a model's step are an estimate, good to 20% for
// the recipe: about 25 floats a token, width and layer, and as many again for a width of 1.
size_t ensemble_size(const engine::DeviceInfo& device, const SweepOptions& options,
                     const Experiment& experiment, size_t members) {
  if (options.ensemble_size > 0) return static_cast<size_t>(options.ensemble_size);
  const double tokens =
      double(experiment.batch_size) * static_cast<double>(model_config(experiment).block_size);
  const double bytes = 100 * tokens * experiment.n_layer * (experiment.width + 1);
  const double room =
      device.target.cpu ? kCpuWorkingSet : kMemoryShare * static_cast<double>(device.memory_bytes);
  const auto fits = static_cast<size_t>(std::max(room / bytes, device.target.cpu ? 2.0 : 1.0));
  if (fits >= members) return members;
  // Ensembles of equal size, rather than a small one at the end.
  const size_t count = (members + fits - 1) / fits;
  return (members + count - 1) / count;
}

SampleLine sample_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item,
                       size_t index, std::span<const int32_t> response) {
  const tasks::ItemScore score = task.score(item, response);
  SampleLine line;
  line.cell = cell;
  line.arm = task.arms()[static_cast<size_t>(item.arm)];
  line.index = static_cast<int64_t>(index);
  line.prompt = task.decode(item.prompt());
  line.target = task.decode(item.answer());
  line.response = task.decode(response);
  line.target_value = task.value(item.answer());
  line.response_value = task.value(response);
  line.correct = score.final_correct;
  line.chain_correct = score.chain_correct;
  return line;
}

// A corrupted step counts as followed when the final answer is the one it implies.
SampleLine corrupted_line(const tasks::Task& task, const std::string& cell, const tasks::Item& item,
                          size_t index, const tasks::Corruption& corruption, int32_t final_token) {
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

TrainConfig train_config(const Experiment& experiment, const std::vector<Member>& members) {
  TrainConfig config;
  config.optimizer = experiment.optimizer.value_or(recipe_optimizer(experiment.steps));
  config.generated = experiment.generated;
  config.members = members;
  config.batch_size = experiment.batch_size;
  config.steps = experiment.steps;
  config.dtype = experiment.dtype;
  return config;
}

std::unique_ptr<Trainer> make_trainer(engine::Session& session, const Model& model,
                                      const Experiment& experiment,
                                      const std::vector<Member>& members) {
  TrainConfig config = train_config(experiment, members);
  if (experiment.generated != nullptr) {
    return std::make_unique<Trainer>(session, model, std::move(config));
  }
  return std::make_unique<Trainer>(session, model, std::move(config), *experiment.data);
}

// Trains one ensemble and turns it into cells.
class EnsembleRun {
 public:
  EnsembleRun(engine::Device& device, const SweepOptions& options, const Experiment& experiment,
              const std::vector<Member>& members, bool selecting, fs::path checkpoints)
      : options_(options),
        experiment_(experiment),
        selecting_(selecting),
        members_(members),
        checkpoints_(std::move(checkpoints)),
        model_(model_config(experiment)),
        session_(device, {.quiet = true}),
        trainer_(make_trainer(session_, model_, experiment, members)) {
    if (experiment.generated != nullptr) {
      experiment.generated->add_programs(session_, model_, members_.size());
    } else {
      evaluator_.emplace(session_, model_, members_.size(),
                         std::min(options.evaluation_rows, options.test_items),
                         experiment.data->block_size());
    }
    if (experiment.probe != nullptr) {
      experiment.probe->add_programs(session_, model_, members_.size());
    }
    session_.allocate();
    for (const Member& member : members_) {
      Cell& cell = cells_.emplace_back();
      cell.cell = cell_name(experiment_, member);
      cell.parameters = model_.parameter_count();
      cell.n_layer = experiment_.n_layer;
      cell.n_embd = experiment_.width;
      cell.seed = member.seed;
      cell.learning_rate = member.learning_rate;
      cell.steps = experiment_.steps;
      cell.tokens = experiment_.steps * trainer_->config().tokens_per_step(model_.config());
      cell.flops = trainer_->flops_per_step() * experiment_.steps;
      cell.task = experiment_.task;
      cell.variant = experiment_.variant;
      cell.chance = experiment_.data != nullptr ? experiment_.data->chance() : 0;
      cell.validation_only = selecting_;
      cell.selected = !experiment_.choose_rate || experiment_.learning_rates.size() == 1;
    }
  }

  PackResult execute(bool resume) {
    try {
      train(resume);
      evaluate(0);
      if (!selecting_) evaluate_rounded();
    } catch (const engine::DeviceError& error) {
      throw with_checkpoint(error, checkpoints_.string());
    }
    return {std::move(cells_), std::move(metrics_), std::move(samples_)};
  }

 private:
  std::string label() const {
    return fmt::format("{} d={} ({} model{}{})",
                       experiment_.task.empty() ? experiment_.variant
                                                : experiment_.task + " " + experiment_.variant,
                       experiment_.width, members_.size(), members_.size() == 1 ? "" : "s",
                       selecting_ ? " to choose the learning rate" : "");
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

  void train(bool resume) {
    trainer_->initialise();
    const std::string root = checkpoints_.string();
    if (resume && Trainer::has_save(root, members_.size())) {
      const std::string first = Trainer::newest_save(root, members_.size(), 0);
      trainer_->load(root);
      // The curve up to the save, and the time it took.
      const nlohmann::json saved = load_checkpoint_config(first);
      for (const auto& line : saved.at("metrics")) {
        metrics_.push_back(parse_metric(line.get<std::string>(), first));
      }
      seconds_before_ = saved.at("seconds").get<double>();
    }
    Progress progress(label(), experiment_.steps);
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
      return seconds_before_ +
             std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    std::string text;
    RunOptions options;
    options.log_interval = options_.log_interval;
    options.checkpoint_interval = options_.checkpoint_interval;
    options.checkpoint_root = root;
    options.on_step = [&](int64_t step) {
      if (step < experiment_.steps) progress.update(step, text);
    };
    options.on_log = [&](const TrainLog& line) {
      log(line);
      const auto [low, high] =
          std::minmax_element(line.members.begin(), line.members.end(),
                              [](const auto& a, const auto& b) { return a.loss < b.loss; });
      text = fmt::format("loss {:.3f} to {:.3f}", low->loss, high->loss);
    };
    options.describe = [&] {
      nlohmann::json lines = nlohmann::json::array();
      for (const MetricLine& line : metrics_) lines.push_back(to_json_line(line));
      return nlohmann::json{{"metrics", lines}, {"seconds", elapsed()}};
    };
    trainer_->run(options);
    progress.finish(text);
    for (Cell& cell : cells_) {
      cell.train_seconds = elapsed() / static_cast<double>(members_.size());
    }
  }

  // Of the cells from `first` on, one a member, by the parameters that the session holds.
  void evaluate(size_t first) {
    if (experiment_.generated != nullptr) return evaluate_generated(first);
    const tasks::Task& task = *experiment_.data;
    const auto held_out = evaluator_->validation_loss(
        task, static_cast<uint32_t>(options_.selection_seed), options_.validation_items);
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
    // The numbers of a cell are what its lines give, by construction.
    for (const Recomputed& again : recompute(samples_)) {
      for (Cell& cell : cells_) {
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
        cells_.push_back(std::move(cell));
      }
      evaluate(first);
    }
  }

  void evaluate_generated(size_t first) {
    const GeneratedData& data = *experiment_.generated;
    const size_t members = members_.size();
    const auto held_out =
        data.validation_loss(session_, members, static_cast<uint32_t>(options_.selection_seed));
    for (size_t e = 0; e < members; ++e) cells_[first + e].validation_loss = held_out[e];
    if (selecting_) return;
    auto measures = data.measure(session_, members, static_cast<uint32_t>(options_.test_seed));
    for (size_t e = 0; e < members; ++e) cells_[first + e].measures = std::move(measures[e]);
  }

  void add_answers(size_t first, const ArmAnswers& answers) {
    for (size_t e = 0; e < members_.size(); ++e) {
      size_t at = 0;
      for (size_t i = 0; i < answers.items.size(); ++i) {
        const tasks::Item& item = answers.items[i];
        const auto length = static_cast<size_t>(item.answer_length);
        const auto response = std::span(answers.responses[e]).subspan(at, length);
        at += length;
        samples_.push_back(
            sample_line(*experiment_.data, cells_[first + e].cell, item, i, response));
        samples_.back().nll = answers.nll[e][i];
        samples_.back().measures = experiment_.data->measures(item, response, answers.nll[e][i]);
      }
    }
  }

  void add_corrupted(size_t first, const ArmAnswers& answers, const CorruptedAnswers& moved) {
    for (size_t e = 0; e < members_.size(); ++e) {
      for (size_t i = 0; i < answers.items.size(); ++i) {
        samples_.push_back(corrupted_line(*experiment_.data, cells_[first + e].cell,
                                          answers.items[i], i, moved.corruptions[e][i],
                                          moved.final_tokens[e][i]));
      }
    }
  }

  const SweepOptions& options_;
  const Experiment& experiment_;
  bool selecting_ = false;
  std::vector<Member> members_;
  fs::path checkpoints_;
  Model model_;
  engine::Session session_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<Evaluator> evaluator_;  // of a task
  std::vector<Cell> cells_;
  std::vector<MetricLine> metrics_;
  std::vector<SampleLine> samples_;
  double seconds_before_ = 0;
};

}  // namespace

void add_sweep_fields(ConfigTable& table, SweepOptions& options, bool selection) {
  table.add("widths", &options.widths, "n_embd of each size").at_least(2);
  table.add("n_layer", &options.n_layer, "blocks").at_least(1);
  table.add("learning_rates", &options.learning_rates, "peak learning rates, times 1 / n_embd")
      .at_least(0);
  table.add("steps", &options.steps, "optimizer steps").at_least(1);
  table.add("batch_size", &options.batch_size, "sequences a step").at_least(1);
  add_run_fields(table, options, selection);
}

void add_run_fields(ConfigTable& table, SweepOptions& options, bool selection) {
  table.add("seeds", &options.seeds, "one model each: initialisation and data").at_least(0);
  table
      .add("selection_seed", &options.selection_seed,
           "seed of the held-out sequences, and of the models that choose a learning rate")
      .at_least(0);
  if (selection) {
    table
        .add("selection_steps", &options.selection_steps,
             "optimizer steps of the models that choose a learning rate; 0: as many as the others")
        .at_least(0);
  }
  table.add("test_items", &options.test_items, "questions of each arm and cell").at_least(1);
  table.add("test_seed", &options.test_seed, "seed of the questions").at_least(0);
  table.add("validation_items", &options.validation_items, "sequences of the held-out loss")
      .at_least(1);
  table.add("evaluation_rows", &options.evaluation_rows, "rows that are decoded at once")
      .at_least(1);
  table.add("log_interval", &options.log_interval, "steps between lines of metrics.jsonl")
      .at_least(1);
  table
      .add("checkpoint_interval", &options.checkpoint_interval,
           "steps between checkpoints; 0: only when interrupted")
      .at_least(0);
  table
      .add("ensemble_size", &options.ensemble_size,
           "most models trained at once; 0: as many as are fast")
      .at_least(0);
  add_dtype_field(table, options.dtype);
}

void check_sweep_options(const SweepOptions& options) {
  check(!options.widths.empty(), "widths is empty: there is nothing to train");
  check(!options.seeds.empty(), "seeds is empty: there is nothing to train");
  check(!options.learning_rates.empty(), "learning_rates is empty: there is nothing to train");
  const auto once = [](const auto& list, const char* name) {
    for (size_t i = 0; i < list.size(); ++i) {
      for (size_t j = 0; j < i; ++j)
        check(list[i] != list[j], "{}: {} is there twice", name, list[i]);
    }
  };
  once(options.widths, "widths");
  once(options.seeds, "seeds");
  once(options.learning_rates, "learning_rates");
  for (const int32_t seed : options.seeds) {
    check(seed != options.selection_seed,
          "seed {} is also selection_seed: a model that chooses the learning rate is never scored",
          seed);
  }
}

std::vector<double> learning_rates(const SweepOptions& options, int32_t width) {
  std::vector<double> rates;
  for (const double factor : options.learning_rates) rates.push_back(factor / width);
  return rates;
}

std::string cell_name(const Experiment& experiment, const Member& member) {
  std::string name = experiment.task.empty() ? "" : experiment.task + "-";
  name += fmt::format("{}-d{}-L{}-s{}-lr{:.4g}", experiment.variant, experiment.width,
                      experiment.n_layer, member.seed, member.learning_rate);
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

std::string rounded_variant(int32_t bits) { return fmt::format("int{}", bits); }

std::vector<std::vector<Member>> pack_members(const engine::DeviceInfo& device,
                                              const SweepOptions& options,
                                              const Experiment& experiment) {
  std::vector<Member> members;
  for (const int32_t seed : experiment.seeds) {
    for (const double rate : experiment.learning_rates) {
      members.push_back({static_cast<uint32_t>(seed), rate});
    }
  }
  const size_t size = ensemble_size(device, options, experiment, members.size());
  std::vector<std::vector<Member>> packs;
  for (size_t first = 0; first < members.size(); first += size) {
    const auto begin = members.begin() + static_cast<std::ptrdiff_t>(first);
    const size_t count = std::min(size, members.size() - first);
    packs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  return packs;
}

PackStep first_step(const Experiment& experiment, const std::vector<Member>& members) {
  PackStep step;
  step.name = cell_name(experiment, members.at(0));
  step.model = model_config(experiment);
  step.train = train_config(experiment, members);
  if (experiment.data == nullptr) return step;
  for (const uint32_t seed : distinct_seeds(members))
    step.batches.push_back(
        experiment.data->sample(tasks::Split::kTrain, seed, 0, experiment.batch_size));
  return step;
}

PackCost pack_cost(const graph::Target& target, const Experiment& experiment,
                   const std::vector<Member>& members) {
  const Model model(model_config(experiment));
  PackCost cost;
  cost.parameters = model.parameter_count();
  std::map<std::string, uint64_t> state;
  uint64_t transient = 0;
  const TrainConfig config = train_config(experiment, members);
  for (const auto& [name, program] : trainer_programs(model, config).programs) {
    const graph::Plan plan = graph::compile(program, target, compile_options(config, name));
    cost.flops += static_cast<double>(plan.flops) * experiment.steps;
    transient = std::max(transient, plan.transient_bytes);
    for (const graph::Buffer& buffer : plan.buffers) {
      if (buffer.kind != graph::BufferKind::transient) state[buffer.name] = buffer.bytes;
    }
  }
  cost.bytes = transient;
  for (const auto& [name, bytes] : state) cost.bytes += bytes;
  return cost;
}

double measure_step(engine::Device& device, const Experiment& experiment,
                    const std::vector<Member>& members, int64_t steps) {
  constexpr int64_t kWarmUp = 4;
  Experiment shortened = experiment;
  shortened.steps = static_cast<int32_t>(kWarmUp + steps);
  const Model model(model_config(shortened));
  engine::Session session(device, {.quiet = true});
  const std::unique_ptr<Trainer> trainer = make_trainer(session, model, shortened, members);
  session.allocate();
  trainer->initialise();
  trainer->run({.until = kWarmUp});
  const auto start = std::chrono::steady_clock::now();
  trainer->run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
         static_cast<double>(steps);
}

PackResult run_pack(engine::Device& device, const SweepOptions& options,
                    const Experiment& experiment, const std::vector<Member>& members,
                    bool selecting, const fs::path& checkpoints, bool resume) {
  return EnsembleRun(device, options, experiment, members, selecting, checkpoints).execute(resume);
}

}  // namespace surtsey::experiments
