#include "experiments/train/train.h"
#include "experiments/train/options.h"

#include "experiments/base/interrupt.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/evaluate/evaluate.h"
#include "experiments/results/environment.h"
#include "experiments/results/metrics_export.h"
#include "experiments/tasks/text.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// Keys that may differ when a run is resumed: they change what is shown and saved, not a bit of
// what is trained.
const std::set<std::string> kFreeKeys = {"eval_interval", "eval_iters", "log_interval", "memory_budget"};
constexpr int32_t kEvaluationRows = 32;
constexpr size_t kFinalWindows = 2000;
constexpr int64_t kUnknown = 1;  // a vocabulary that no text has

// The defaults are nanoGPT's character-level model in the size it gives for a CPU.
struct Settings {
  Settings() {
    model.n_layer = 4;
    model.n_head = 4;
    model.n_embd = 128;
    model.block_size = 64;
    model.bias = false;
    model.tied = true;
    model.vocab_size = kUnknown;  // the data's
    training.beta2 = 0.99;
    table.add("data", &data, "text file to train on");
    table.add("from", &from, "run or checkpoint whose weights to start with; its optimizer is not");
    add_training_fields(table, training);
  }
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  void read(const std::string& file, const std::vector<std::string>& keys);
  std::string to_toml() const;

  ModelConfig model;
  TrainingOptions training;
  std::string data;
  std::string from;
  ConfigTable table;
};

void Settings::read(const std::string& file, const std::vector<std::string>& keys) {
  read_keys(model, table, file, keys);
  // What follows from other keys unless it is given.
  if (!table.was_set("lr_decay_iters")) training.lr_decay_iters = training.max_iters;
  if (!table.was_set("warmup_iters")) training.warmup_iters = std::min(100, training.max_iters / 10);
  if (!table.was_set("min_lr")) training.min_lr = training.learning_rate / 10;
  training.dtype = graph::name(parse_dtype(training.dtype));  // one name each, to compare runs
}

std::string Settings::to_toml() const {
  std::string text;
  const nlohmann::json keys = to_json(model);
  for (const auto& [key, value] : keys.items()) {
    if (!value.is_null()) text += fmt::format("{} = {}\n", key, value.dump());
  }
  const std::vector<std::string> model_keys = model_config_keys();
  ConfigTable rest;  // keys that the model has as well are the model's
  for (const ConfigField& field : table.fields()) {
    const bool both = std::find(model_keys.begin(), model_keys.end(), field.name) != model_keys.end();
    if (!both) rest.add(field.name, field.target, field.help);
  }
  return text + rest.to_toml();
}

// Refuses keys that would make the resumed run another one.
void check_same_run(const Settings& saved, const Settings& wanted, const std::string& out) {
  const auto values = [](const Settings& settings) {
    std::map<std::string, std::string> result;
    std::istringstream lines(settings.to_toml());
    for (std::string line; std::getline(lines, line);) {
      const size_t equals = line.find(" = ");
      if (!line.starts_with('#') && equals != std::string::npos) {
        result[line.substr(0, equals)] = line.substr(equals + 3);
      }
    }
    return result;
  };
  const std::map<std::string, std::string> before = values(saved);
  for (const auto& [key, value] : values(wanted)) {
    const auto old = before.find(key);
    if (kFreeKeys.contains(key) || old == before.end() || old->second == value) continue;
    throw UserError(
        fmt::format("--resume: the run in {} has {} = {}, not {}; leave the key out, or choose another --out", out, key,
                    old->second, value));
  }
}

TrainConfig train_config(const TrainingOptions& options) {
  TrainConfig config;
  graph::OptimizerConfig& optimizer = config.optimizer;
  optimizer.beta1 = options.beta1;
  optimizer.beta2 = options.beta2;
  optimizer.weight_decay = options.weight_decay;
  optimizer.clip_norm = options.grad_clip;
  optimizer.accumulation_steps = options.gradient_accumulation_steps;
  if (options.decay_lr) {
    const double ratio = options.learning_rate > 0 ? options.min_lr / options.learning_rate : 0;
    optimizer.schedule = {graph::Decay::cosine, options.warmup_iters, options.lr_decay_iters, ratio};
  }
  config.members = {{options.seed, options.learning_rate}};
  config.batch_size = options.batch_size;
  config.steps = options.max_iters;
  config.dtype = parse_dtype(options.dtype);
  config.memory = parse_memory_budget(options.memory_budget);
  return config;
}

// One run, from its configuration to its last line.
class Run {
 public:
  Run(const TrainOptions& options, Settings& settings)
      : options_(options),
        settings_(settings),
        root_((fs::path(options.out) / "checkpoint").string()),
        source_(open_data(settings)),
        model_(settings.model) {
    decay_matrices_only(model_.store());
  }

  void go() {
    try {
      train();
    } catch (const engine::DeviceError& error) {
      throw with_checkpoint(error, root_);
    }
  }

 private:
  void train() {
    const bool saved = has_checkpoint(root_);
    const bool existed = fs::exists(fs::path(options_.out) / "config.toml");
    engine::Device device = engine::Device::open({.select = options_.device});
    engine::SessionOptions session_options;
    if (saved) {
      const nlohmann::json config = load_checkpoint_config(root_);
      check(config.value("vocabulary", "") == source_.vocabulary(),
            "--resume: {} has another vocabulary than the run in {}", settings_.data, options_.out);
      session_options.target = with_variants(device.target(), config.at("kernels"));
    }
    engine::Session session(device, session_options);
    Trainer trainer(session, model_, train_config(settings_.training), source_);
    Evaluator evaluator(session, model_, 1, kEvaluationRows, source_.block_size());
    session.allocate();

    if (saved) {
      trainer.load(root_);
    } else if (!settings_.from.empty()) {
      trainer.initialise(forked_parameters());
    } else {
      trainer.initialise();
    }
    RunDirectory directory(options_.out, existed ? RunDirectory::Mode::kResume : RunDirectory::Mode::kFresh);
    directory.write_config(settings_.to_toml());
    directory.write_environment(describe_environment(device.info(), options_.command));
    forget_after(trainer.step());
    announce(trainer, saved);
    steps(trainer, evaluator, directory);
  }

  static tasks::TextSource open_data(Settings& settings) {
    check(!settings.data.empty(), "--data FILE is needed: the text to train on");
    check(settings.model.architecture == Architecture::decoder, "text is trained with architecture decoder");
    auto source = tasks::TextSource::from_file(settings.data, int32_t(settings.model.block_size));
    const int64_t wanted = settings.model.vocab_size;
    check(wanted == kUnknown || wanted == source.vocab_size(),
          "vocab_size is {}, but {} has {} different characters; leave the key out", wanted, settings.data,
          source.vocab_size());
    settings.model.vocab_size = source.vocab_size();
    check_config(settings.model);
    return source;
  }

  graph::HostTensor forked_parameters() const {
    const std::string root = checkpoint_folder(settings_.from);
    check(load_checkpoint_config(root).value("vocabulary", "") == source_.vocabulary(),
          "--from: {} has another vocabulary than {}", settings_.data, settings_.from);
    return load_checkpoint(root, model_.store()).state.at(graph::kParameters);
  }

  // Lines of steps that the resumed run does again.
  void forget_after(int64_t step) const {
    const fs::path path = fs::path(options_.out) / "metrics.jsonl";
    if (!fs::exists(path)) return;
    std::string kept;
    for (const MetricLine& line : load_metrics(path)) {
      if (line.step <= step) kept += to_json_line(line) + "\n";
    }
    write_file_atomic(path, kept);
  }

  void announce(const Trainer& trainer, bool resumed) const {
    fmt::print("data {}: {} characters, {} different; {} for training\n", settings_.data,
               source_.train_size() + source_.validation_size(), source_.vocab_size(), source_.train_size());
    fmt::print("model: {} parameters, {:.1f} MFLOP a step; {} steps of {} tokens\n", model_.parameter_count(),
               trainer.flops_per_step() / 1e6, settings_.training.max_iters,
               trainer.config().tokens_per_step(model_.config()));
    if (resumed) {
      fmt::print("resumed at step {} from {}\n", trainer.step(), root_);
    } else if (!settings_.from.empty()) {
      fmt::print("starting with the weights of {}\n", settings_.from);
    } else if (options_.resume) {
      fmt::print("{} has no checkpoint yet: starting at step 0\n", options_.out);
    }
    std::fflush(stdout);
  }

  void log(const Trainer& trainer, const TrainLog& line, RunDirectory& directory) {
    const MemberMetrics& m = line.members[0];
    const auto steps = double(line.step - logged_step_);
    const double seconds = std::max(1e-9, line.seconds - logged_seconds_);
    const double rate = steps * double(trainer.config().tokens_per_step(model_.config())) / seconds;
    fmt::print(
        "step {:5}/{} | loss {:.4f} | norm {:.4f} | lr {:.2e} | {:.2f} ms | {:.0f} tok/s | "
        "{:.1f} GFLOP/s{}\n",
        line.step, settings_.training.max_iters, m.loss, m.gradient_norm, m.learning_rate, seconds / steps * 1e3, rate,
        trainer.flops_per_step() * steps / seconds / 1e9, m.skipped > 0 ? fmt::format(" | {} skipped", m.skipped) : "");
    std::fflush(stdout);
    directory.append(MetricLine{"train",
                                line.step,
                                line.tokens,
                                {{"loss", m.loss},
                                 {"grad_norm", m.gradient_norm},
                                 {"learning_rate", m.learning_rate},
                                 {"tokens_per_second", rate}}});
    directory.flush();
    logged_step_ = line.step;
    logged_seconds_ = line.seconds;
  }

  void steps(Trainer& trainer, Evaluator& evaluator, RunDirectory& directory) {
    const TrainingOptions& training = settings_.training;
    const int64_t interval = std::max(1, training.eval_interval);
    RunOptions run;
    run.log_interval = training.log_interval;
    run.checkpoint_interval = interval;
    run.checkpoint_root = root_;
    *run.description = {{"vocabulary", source_.vocabulary()}, {"data", settings_.data}};
    run.on_log = [&](const TrainLog& line) { log(trainer, line, directory); };
    while (trainer.step() < training.max_iters) {
      run.until = std::min<int64_t>(training.max_iters, (trainer.step() / interval + 1) * interval);
      logged_step_ = trainer.step();
      logged_seconds_ = 0;
      trainer.run(run);
      // The last save, where it is no multiple of the interval.
      if (trainer.step() % interval != 0) trainer.save(root_, *run.description);
      if (trainer.step() < training.max_iters) {
        const int32_t rows = std::max(1, training.eval_iters) * training.batch_size;
        validate(trainer, evaluator.validation_loss(source_, training.seed, rows)[0], size_t(rows), directory);
      }
    }
    const tasks::Batch windows = final_windows();
    validate(trainer, evaluator.loss(windows).mean[0], size_t(windows.batch_size), directory);
    fmt::print("done: {}\n", root_);
  }

  void validate(const Trainer& trainer, double loss, size_t windows, RunDirectory& directory) const {
    const int64_t tokens = trainer.step() * trainer.config().tokens_per_step(model_.config());
    fmt::print("step {:5}/{} | val loss {:.4f} ({} windows)\n", trainer.step(), settings_.training.max_iters, loss,
               windows);
    std::fflush(stdout);
    directory.append(MetricLine{"train", trainer.step(), tokens, {{"val_loss", loss}}});
    directory.flush();
    export_metrics(directory.path());
  }

  // The validation text in consecutive windows, or evenly spread ones where there are very many.
  tasks::Batch final_windows() const {
    const size_t all = source_.validation_windows();
    const size_t count = std::min(all, kFinalWindows);
    const auto block = size_t(source_.block_size());
    tasks::Batch batch{int32_t(count), source_.block_size()};
    for (size_t i = 0; i < count; ++i) {
      const auto part = [&](auto& values) { return std::span(values).subspan(i * block, block); };
      source_.write_validation_window(i * all / count, part(batch.tokens), part(batch.targets), part(batch.weights));
    }
    return batch;
  }

  const TrainOptions& options_;
  Settings& settings_;
  std::string root_;
  tasks::TextSource source_;
  Model model_;
  int64_t logged_step_ = 0;
  double logged_seconds_ = 0;
};

}  // namespace

std::string train_help() { return "Keys, as --key=value:\n" + Settings().to_toml(); }

void train(const TrainOptions& options) {
  handle_interrupts();
  const std::string config = (fs::path(options.out) / "config.toml").string();
  Settings settings;
  if (options.resume) {
    check(fs::exists(config), "--resume: there is no run in {} ({} is missing)", options.out, config);
    Settings saved;
    saved.read(config, {});
    settings.read(config, {});
    settings.read(options.config, options.keys);
    check_same_run(saved, settings, options.out);
  } else {
    check(!fs::exists(config) && !has_checkpoint((fs::path(options.out) / "checkpoint").string()),
          "{} holds a run: go on with it by --resume, or choose another --out", options.out);
    settings.read(options.config, options.keys);
  }
  Run(options, settings).go();
}

}  // namespace surtsey::experiments::commands
