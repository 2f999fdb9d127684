#include "experiments/train/driver.h"
#include "experiments/train/options.h"

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/folder_lock.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/utf8.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/evaluate/evaluate.h"
#include "experiments/results/environment.h"
#include "experiments/results/metrics_export.h"
#include "experiments/tasks/text.h"
#include "experiments/text/tokenizer_json.h"
#include "shaders/cache_file.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// Keys that may differ when a run is resumed: they change what is shown and saved, not a bit of
// what is trained. The data and the tokenizer may lie elsewhere: their content is compared.
const std::set<std::string> kFreeKeys = {"data",         "divergence_patience", "eval_interval", "eval_iters",
                                         "log_interval", "memory_budget",       "tokenizer"};
constexpr double kMostEvaluationTokens = 1 << 28;
constexpr int32_t kEvaluationRows = 32;
constexpr size_t kFinalWindows = 2000;
constexpr const char* kValidationLoss = "val_loss";
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
    table.add("tokenizer", &tokenizer, "tokenizer.json, or its folder, whose tokens to train on; none: characters");
    table.add("from", &from, "run or checkpoint whose weights to start with; its optimizer is not");
    add_training_fields(table, training);
  }
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  void read(const std::string& file, const std::vector<std::string>& keys);
  std::string to_toml() const;

  ModelConfig model;
  TrainingKeys training;
  std::string data;
  std::string tokenizer;
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
  check(double(training.eval_iters) * training.batch_size * double(model.block_size) <= kMostEvaluationTokens,
        "eval_iters {} times batch_size {} times block_size {} is more than {:.0f} tokens an evaluation: fewer will do",
        training.eval_iters, training.batch_size, model.block_size, kMostEvaluationTokens);
  // A run may be resumed from another folder.
  for (std::string* path : {&data, &tokenizer}) {
    if (!path->empty()) *path = fs::absolute(*path).lexically_normal().string();
  }
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

// A text's content, whatever its file is called.
std::string fingerprint(const std::string& text) { return fmt::format("{:016x}", shaders::hash64(text)); }

std::string read_data(const std::string& path) {
  check(!path.empty(), "--data FILE is needed: the text to train on");
  try {
    return read_file(path);
  } catch (const UserError& error) {
    throw UserError(
        fmt::format("--data: {}; where it lies elsewhere now, say so: a run goes on with any file of the same content",
                    error.what()));
  }
}

// One run, from its configuration to its last line.
class Run {
 public:
  Run(const TrainOptions& options, Settings& settings)
      : options_(options),
        settings_(settings),
        root_((fs::path(options.out) / "checkpoint").string()),
        saved_(has_checkpoint(root_)),
        source_(open_data()),
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
    const bool existed = fs::exists(fs::path(options_.out) / "config.toml");
    const TrainConfig config = train_config(settings_.training);
    engine::Device device = engine::Device::open({.select = options_.device, .f16 = config.dtype == graph::DType::f16});
    engine::SessionOptions session_options;
    if (saved_) session_options.target = resumed_target(device.target(), root_, 1);
    engine::Session session(device, session_options);
    Trainer trainer(session, model_, config, source_);
    Evaluator evaluator(session, model_, 1, kEvaluationRows, source_.block_size());
    session.allocate();

    std::optional<RunDirectory> directory;
    int64_t asked = 0;
    Driver driver(trainer, run_options(trainer, evaluator, directory, asked));
    if (!driver.resume()) {
      if (settings_.from.empty()) {
        trainer.initialise();
      } else {
        trainer.initialise(forked_weights());
      }
    }
    directory.emplace(options_.out, existed ? RunDirectory::Mode::kResume : RunDirectory::Mode::kFresh);
    directory->write_config(settings_.to_toml());
    directory->write_environment(describe_environment(device.info(), options_.command));
    forget_metrics_after(options_.out, trainer.step(), asked, kValidationLoss);
    announce(trainer);
    logged_step_ = trainer.step();
    driver.run();
    print_line(fmt::format("done: {}", root_));
  }

  // The data, and what follows from it for the model.
  tasks::TextSource open_data() {
    check(settings_.model.architecture == Architecture::decoder, "text is trained with architecture decoder");
    const std::string text = read_data(settings_.data);
    fingerprint_ = fingerprint(text);
    const auto tokenizer = open_tokenizer();
    const std::string_view learned = without_mark(text);
    auto source = [&] {
      try {
        return tasks::TextSource(learned, int32_t(settings_.model.block_size), tokenizer);
      } catch (const UserError& error) {
        throw UserError(fmt::format("{}: {}", settings_.data, error.what()));
      }
    }();
    if (saved_) check_same_data(source);
    const int64_t wanted = settings_.model.vocab_size;
    check(wanted == kUnknown || wanted == source.vocab_size(),
          "vocab_size is {}, but {} has {} different {}; leave the key out", wanted, settings_.data,
          source.vocab_size(), unit());
    settings_.model.vocab_size = source.vocab_size();
    check_config(settings_.model);
    return source;
  }

  // Its text goes into every checkpoint, so that one is read without the file.
  std::shared_ptr<const text::Tokenizer> open_tokenizer() {
    if (settings_.tokenizer.empty()) return nullptr;
    const fs::path given = settings_.tokenizer;
    const fs::path path = fs::is_directory(given) ? given / "tokenizer.json" : given;
    tokenizer_ = read_file(path);
    return std::make_shared<const text::Tokenizer>(text::parse_tokenizer_json(tokenizer_, path.string()));
  }
  const char* unit() const { return tokenizer_.empty() ? "characters" : "tokens"; }

  // A byte order mark is no letter of a text. A run that learned it as one goes on with it.
  std::string_view without_mark(std::string_view text) const {
    const bool learned =
        saved_ && load_checkpoint_config(root_).value("vocabulary", "").find(kByteOrderMark) != std::string::npos;
    const std::string_view letters = without_byte_order_mark(text);
    if (learned || letters.size() == text.size()) return text;
    fmt::print(stderr, "{} begins with a byte order mark (U+FEFF), which is left out\n", settings_.data);
    return letters;
  }

  // Another text is another run, even one of the same letters: what it trains on and is judged by differs.
  void check_same_data(const tasks::TextSource& source) const {
    const nlohmann::json saved = load_checkpoint_config(root_);
    check(saved.value("tokenizer", "") == tokenizer_,
          "--resume: the run in {} was trained with {}, not with {}: give that tokenizer, or choose another --out",
          options_.out, saved.contains("tokenizer") ? "another tokenizer" : "characters",
          tokenizer_.empty() ? "characters" : settings_.tokenizer);
    const bool same = saved.contains("data_hash") ? saved["data_hash"] == fingerprint_
                                                  : saved.value("vocabulary", "") == source.vocabulary();
    check(same,
          "--resume: {} is not the text that the run in {} was trained on (hash {} instead of {}): give that one with "
          "--data, or begin another run with another --out",
          settings_.data, options_.out, fingerprint_, saved.value("data_hash", "unknown"));
  }

  graph::State forked_weights() const {
    const std::string root = checkpoint_folder(settings_.from);
    const nlohmann::json saved = load_checkpoint_config(root);
    check(saved.value("vocabulary", "") == source_.vocabulary() && saved.value("tokenizer", "") == tokenizer_,
          "--from: {} has another vocabulary than {}", settings_.data, settings_.from);
    return load_checkpoint(root, model_.store()).state;
  }

  void announce(const Trainer& trainer) const {
    print_line(fmt::format("data {}: {} {}, {} different; {} for training", settings_.data,
                           source_.train_size() + source_.validation_size(), unit(), source_.vocab_size(),
                           source_.train_size()));
    print_line(fmt::format("model: {} parameters, {:.1f} MFLOP a step; {} steps of {} tokens", model_.parameter_count(),
                           trainer.flops_per_step() / 1e6, settings_.training.max_iters,
                           trainer.config().tokens_per_step(model_.config())));
    if (saved_) {
      print_line(fmt::format("resumed at step {} from {}", trainer.step(), root_));
    } else if (!settings_.from.empty()) {
      print_line(fmt::format("starting with the weights of {}", settings_.from));
    } else if (options_.resume) {
      print_line(fmt::format("{} has no checkpoint yet: starting at step 0", options_.out));
    }
  }

  void log(const Trainer& trainer, const TrainLog& line, RunDirectory& directory) {
    const MemberMetrics& m = line.members[0];
    const auto steps = double(line.step - logged_step_);
    const double seconds = std::max(1e-9, line.seconds - logged_seconds_);
    const double rate = steps * double(trainer.config().tokens_per_step(model_.config())) / seconds;
    print_line(fmt::format(
        "step {:5}/{} | loss {:.4f} | norm {:.4f} | lr {:.2e} | {:.2f} ms | {:.0f} tok/s | {:.1f} GFLOP/s{}", line.step,
        settings_.training.max_iters, m.loss, m.gradient_norm, m.learning_rate, seconds / steps * 1e3, rate,
        trainer.flops_per_step() * steps / seconds / 1e9,
        m.skipped > 0 ? fmt::format(" | {} skipped", m.skipped) : ""));
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

  RunOptions run_options(Trainer& trainer, Evaluator& evaluator, std::optional<RunDirectory>& directory,
                         int64_t& asked) {
    const TrainingKeys& training = settings_.training;
    RunOptions run;
    run.log_interval = training.log_interval;
    run.divergence_patience = training.divergence_patience;
    run.checkpoint_root = root_;
    run.checkpoint_interval = training.eval_interval;
    run.save_end = true;
    run.describe = [this] {
      nlohmann::json description{{"vocabulary", source_.vocabulary()}, {"data_hash", fingerprint_}};
      if (!tokenizer_.empty()) description["tokenizer"] = tokenizer_;
      return description;
    };
    run.restore = [&](const nlohmann::json& saved) { asked = saved.value("asked", trainer.step() - 1); };
    run.next_question = [&training](int64_t step) {
      const int64_t next = (step / training.eval_interval + 1) * training.eval_interval;
      return step < training.max_iters ? std::min<int64_t>(next, training.max_iters) : next;
    };
    run.ask = [&](int64_t step) {
      if (step == training.max_iters) {
        const tasks::Batch windows = final_windows();
        validate(trainer, evaluator.loss(windows).mean[0], size_t(windows.batch_size), *directory);
        return;
      }
      const int32_t rows = training.eval_iters * training.batch_size;
      validate(trainer, evaluator.validation_loss(source_, training.seed, rows)[0], size_t(rows), *directory);
    };
    run.on_log = [&](const TrainLog& line) { log(trainer, line, *directory); };
    return run;
  }

  void validate(const Trainer& trainer, double loss, size_t windows, RunDirectory& directory) const {
    const int64_t tokens = trainer.step() * trainer.config().tokens_per_step(model_.config());
    const double bits = source_.bits_per_byte(loss);
    print_line(fmt::format("step {:5}/{} | val loss {:.4f} ({} windows) | {:.4f} bits per byte", trainer.step(),
                           settings_.training.max_iters, loss, windows, bits));
    directory.append(MetricLine{"train", trainer.step(), tokens, {{kValidationLoss, loss}, {"bits_per_byte", bits}}});
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
  bool saved_;
  std::string fingerprint_;  // of the data
  std::string tokenizer_;    // tokenizer.json's text; empty: characters
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
  std::optional<FolderLock> lock;
  if (options.resume) {
    check(fs::exists(config), "--resume: there is no run in {} ({} is missing)", options.out, config);
    // Before anything of the run is read: who holds it is writing.
    lock = FolderLock::take(options.out);
    Settings saved;
    saved.read(config, {});
    settings.read(config, {});
    settings.read(options.config, options.keys);
    check_same_keys(saved.to_toml(), settings.to_toml(), kFreeKeys, options.out);
  } else {
    check(!fs::exists(config) && !has_checkpoint((fs::path(options.out) / "checkpoint").string()),
          "{} holds a run: go on with it by --resume, or choose another --out", options.out);
    settings.read(options.config, options.keys);
  }
  Run(options, settings).go();
}

}  // namespace surtsey::experiments::commands
