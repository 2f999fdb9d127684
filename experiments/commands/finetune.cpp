// `surtsey finetune`: a model that others trained learns rows of a file, beside its frozen weights or with them.
#include "experiments/commands/finetune.h"

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/folder_lock.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/join.h"
#include "experiments/commands/adapted_source.h"
#include "experiments/commands/finetune_held_out.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/labels_file.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/export.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/hub/label_head.h"
#include "experiments/results/environment.h"
#include "experiments/results/metrics_export.h"
#include "experiments/train/driver.h"
#include "experiments/train/train_session.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// Keys that change what is shown and saved, and no bit of what is trained. Where files lie does not count: their
// contents are compared.
const std::set<std::string> kFreeFinetuneKeys = {"data",          "model",      "divergence_patience", "eval_steps",
                                                 "logging_steps", "samples",    "max_eval_samples",    "memory_budget",
                                                 "sample_tokens", "save_steps", "chat_template"};
constexpr const char* kEvaluation = "eval_loss";
constexpr const char* kOneCell = "train";
constexpr int64_t kShownWords = 400;  // bytes of a text on a page
constexpr int64_t kTextPrompt = 16;   // tokens of a text that is all learned, to begin an answer with

std::string shortened(std::string text) {
  if (int64_t(text.size()) <= kShownWords) return text;
  size_t end = kShownWords;
  while (end > 0 && (uint8_t(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + " ..";
}

int64_t virtual_tokens(const AdaptConfig& config) {
  const bool has = config.method == AdaptMethod::prefix || config.method == AdaptMethod::prompt;
  return has ? config.num_virtual_tokens : 0;
}

// Does the run end with a model of the base's form, whose weights hold what was learned?
bool makes_model(const AdaptConfig& config) {
  return config.method == AdaptMethod::full || config.method == AdaptMethod::partial;
}

// The model with room for the texts, and what stands before them.
ModelConfig model_of(const hub::Source& source, const FinetuneKeys& keys) {
  const int64_t before = virtual_tokens(keys.adaptation);
  const ModelConfig usual = hub::model_config(source);
  const bool texts = usual.architecture == Architecture::decoder && usual.head == HeadKind::language;
  check(texts || keys.adaptation.num_labels > 0,
        "{}: is no decoder with a language model's head, which is what learns texts; a head of labels (num_labels) "
        "learns on encoders too",
        source.path().string());
  const int64_t wanted = keys.max_length + before;
  if (keys.max_length == 0 || wanted <= usual.block_size) return usual;
  const auto* llama = std::get_if<hub::LlamaConfig>(&source.config().model);
  const int64_t most = llama != nullptr ? llama->positions : usual.block_size;
  check(wanted <= most, "max_length {}{} is more than the {} positions that {} was made for", keys.max_length,
        before > 0 ? fmt::format(" behind {} virtual tokens", before) : "", most, source.path().string());
  return hub::model_config(source, {wanted, 0});
}

const FinetuneKeys& checked(const FinetuneKeys& keys) {
  const AdaptConfig& adapt = keys.adaptation;
  check(!keys.packing || virtual_tokens(adapt) == 0,
        "packing with method {}: virtual tokens stand before a row and not before each of its texts; leave packing out",
        name(adapt.method));
  check(!keys.packing || adapt.num_labels == 0, "packing with num_labels: a row has one text with labels");
  check(adapt.num_labels > 0 || adapt.problem_type.empty(), "problem_type {} wants num_labels", adapt.problem_type);
  return keys;
}

// Whether labels of these names are others than those of a head that has names.
bool renamed(const std::vector<std::string>& head, const std::vector<std::string>& labels) {
  return !head.empty() && !has_default_names(head) && head != labels;
}

constexpr std::pair<tasks::Split, const char*> kReferences[] = {{tasks::Split::kTrain, "train"},
                                                                {tasks::Split::kValidation, "valid"}};

struct Question {
  std::vector<int32_t> prompt;
  std::string asked, wanted;
};

class FinetuneRun {
 public:
  FinetuneRun(const FinetuneOptions& options, const FinetuneKeys& keys)
      : options_(options),
        keys_(checked(keys)),
        out_(options.out),
        root_((out_ / "checkpoint").string()),
        base_(open_base(keys, out_)),
        base_hash_(hash_of(*base_)),
        model_(model_of(with_label_head(*base_, keys.adaptation), keys)),
        adaptation_(keys.adaptation, *base_, model_),
        data_(keys, *base_, out_, model_.config().block_size - virtual_tokens(keys.adaptation)),
        config_(keys.train_config(data_.source->train_rows() / (keys.pairs() ? 2 : 1))),
        saved_(Trainer::has_save(root_, config_.members.size())) {
    config_.block_size = data_.source->block_size();
    if (labelled()) set_labels();
    for (const Member& member : config_.members) cells_.push_back(cell_of(member));
    if (saved_) check_same_inputs();
    find_questions();
  }

  void go() {
    try {
      train();
    } catch (const engine::DeviceError& error) {
      throw with_checkpoint(error, root_);
    }
  }

 private:
  size_t members() const { return config_.members.size(); }
  bool labelled() const { return keys_.adaptation.num_labels > 0; }

  // ---- what a run is compared by ----

  static const hub::Source& with_label_head(hub::Source& source, const AdaptConfig& config) {
    if (config.num_labels > 0) hub::give_label_head(source, config.num_labels);
    return source;
  }

  // The base's head is kept for its own labels.
  void set_labels() {
    config_.labels = data_.labels->problem;
    if (keys_.objective == FinetuneObjective::reward) {
      hub::name_labels(*base_, data_.labels->names, name(data_.labels->problem));
      return;
    }
    const std::vector<std::string> names = base_->config().label_names;
    if (!base_->is_new("head.weight")) {
      const bool others = renamed(names, data_.labels->names);
      if (others) hub::give_label_head(*base_, data_.labels->count(), true);
      data_.notes.push_back(fmt::format(
          "{}: its head of {} labels is {}", base_->path().string(), data_.labels->count(),
          others ? "begun anew, as it is of others (" + join(names, ", ") + ")" : "what this one begins with"));
    }
    hub::name_labels(*base_, data_.labels->names, name(data_.labels->problem));
  }

  // A model that is written whole takes the place of what lies in OUT/model.
  static std::unique_ptr<hub::Source> open_base(const FinetuneKeys& keys, const fs::path& out) {
    const fs::path place = out / "model", base = fs::absolute(keys.model);
    std::error_code error;
    const bool there = fs::equivalent(base, place, error) || fs::equivalent(base.parent_path(), place, error);
    check(!there || keys.adaptation.method != AdaptMethod::full,
          "--out={}: the model is written to '{}', where the base lies: choose another folder", out.string(),
          place.string());
    return open_source(keys.model);
  }

  static std::string hash_of(const hub::Source& source) { return base_fingerprint(source); }

  void check_same_inputs() const {
    const nlohmann::json saved = load_checkpoint_config(Trainer::newest_save(root_, members(), 0));
    const std::string base = saved.value("base_hash", ""), rows = saved.value("data_hash", "");
    check(base == base_hash_,
          "--resume: {} is not the model that the run in {} began with (hash {} instead of {}): what was learned "
          "belongs to that one. Give it with --model, or begin another run with another --out",
          keys_.model, options_.out, base_hash_, base);
    check(rows == data_.hash,
          "--resume: {} is not what the run in {} learned, or is read in another way (hash {} instead of {}): give "
          "that data, or begin another run with another --out",
          keys_.data, options_.out, data_.hash, rows);
  }

  std::string cell_of(const Member& member) const {
    return members() == 1 ? std::string(kOneCell) : fmt::format("seed-{}_lr-{:g}", member.seed, member.learning_rate);
  }

  // ---- the run ----

  void train() {
    engine::Device device =
        engine::Device::open({.select = options_.device, .f16 = config_.dtype == graph::DType::f16});
    adaptation_.install(model_, device.target());
    decay_matrices_only(model_.store());
    engine::SessionOptions session_options;
    if (saved_) session_options.target = resumed_target(device.target(), root_, members());
    engine::Session session(device, session_options);
    Trainer trainer(session, model_, config_, *data_.source);
    const int64_t rows = std::max<int64_t>(1, std::min<int64_t>(config_.batch_size, evaluated_rows()));
    std::optional<Evaluator> evaluator;
    std::optional<LabelProgram> scorer;
    if (labelled()) {
      scorer_ = &scorer.emplace(session, model_, members(), rows, data_.source->block_size());
    } else {
      evaluator_ = &evaluator.emplace(session, model_, members(), int32_t(rows), data_.source->block_size(),
                                      keys_.packing, int32_t(answer_columns()));
    }
    session.allocate();
    adaptation_.write_base(model_, [&](const std::string& state, std::span<const std::byte> bytes) {
      if (session.has_state(state)) session.write_bytes(state, bytes);
    });
    trainer_ = &trainer;
    if (evaluated_rows() > 0) held_out_rows_ = make_held_out();
    if (keys_.objective == FinetuneObjective::dpo) set_reference();
    int64_t asked = -1;
    Driver driver(trainer, run_options(asked));
    const bool resumed = driver.resume();
    if (!resumed) trainer.initialise_each(starts());
    const bool existed = fs::exists(out_ / "config.toml");
    directory_.emplace(out_, existed ? RunDirectory::Mode::kResume : RunDirectory::Mode::kFresh);
    directory_->write_config(keys_.to_toml());
    directory_->write_environment(describe_environment(device.info(), options_.command));
    forget_metrics_after(out_, trainer.step(), asked, kEvaluation);
    announce(session);
    logged_step_ = trainer.step();
    if (!resumed) ask(0);
    driver.run();
    if (evaluated_step_ != trainer.step()) ask(trainer.step());
    finish();
  }

  std::unique_ptr<HeldOut> make_held_out() const {
    const tasks::TuningSource& source = *data_.source;
    if (keys_.objective == FinetuneObjective::reward) return held_out_pairs(*scorer_, source, keys_.preference());
    if (keys_.pairs()) return held_out_pairs(*evaluator_, source, keys_.preference());
    return labelled() ? held_out_labels(*scorer_, source, data_.labels->problem) : held_out_texts(*evaluator_, source);
  }

  // The reference is the model as it begins, whatever it becomes: what it makes of every row is computed once and kept,
  // so that no second model stands beside the one that is trained.
  void set_reference() {
    const fs::path file = out_ / "data" / "reference.safetensors";
    const std::string made_from = base_hash_ + " " + data_.hash;
    std::error_code error;
    Safetensors kept;
    if (fs::exists(file, error)) kept = read_safetensors(file.string());
    if (kept.metadata["made_from"] != made_from) {
      trainer_->initialise_each(starts());
      kept = {{}, {{"made_from", made_from}}};
      for (const auto& [split, name] : kReferences) {
        if (split == tasks::Split::kValidation && data_.held_out == 0) continue;
        const std::vector<float> log_probs = log_probs_of(*evaluator_, *data_.source, split);
        kept.tensors[name] = {{graph::DType::f32, {int64_t(log_probs.size())}}, {log_probs.begin(), log_probs.end()}};
      }
      const std::vector<std::byte> bytes = format_safetensors(kept);
      write_file_atomic(file, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    }
    for (const auto& [split, name] : kReferences) {
      if (!kept.tensors.contains(name)) continue;
      const std::vector<double>& values = kept.tensors.at(name).values;
      data_.source->set_reference(split, {values.begin(), values.end()});
    }
  }

  // What each member begins with.
  std::vector<graph::HostTensor> starts() const {
    std::vector<graph::HostTensor> result;
    for (const Member& member : config_.members) {
      AdaptStart start{.seed = member.seed};
      const std::string& text = keys_.adaptation.prompt_tuning_init_text;
      if (!text.empty()) start.prompt_tokens = data_.tokenizer.encode(text, {.special_tokens = false});
      result.push_back(adaptation_.start(model_, start));
    }
    return result;
  }

  RunOptions run_options(int64_t& asked) {
    RunOptions run;
    run.log_interval = keys_.training.log_interval;
    run.divergence_patience = keys_.training.divergence_patience;
    run.checkpoint_root = root_;
    run.checkpoint_interval = keys_.save_steps;
    run.save_end = true;
    run.describe = [this] { return nlohmann::json{{"base_hash", base_hash_}, {"data_hash", data_.hash}}; };
    run.restore = [this, &asked](const nlohmann::json& saved) { asked = saved.value("asked", trainer_->step() - 1); };
    run.next_question = [this](int64_t step) {
      const int64_t next = (step / keys_.eval_steps + 1) * keys_.eval_steps;
      return step < config_.steps ? std::min(next, config_.steps) : next;
    };
    run.ask = [this](int64_t step) { ask(step); };
    run.on_log = [this](const TrainLog& line) { log(line); };
    return run;
  }

  void announce(engine::Session& session) const {
    for (const std::string& note : data_.notes) fmt::print(stderr, "note: {}\n", note);
    std::string learned = fmt::format("{} of them learned", data_.learned);
    if (labelled()) learned = fmt::format("with {} labels ({})", data_.labels->count(), name(data_.labels->problem));
    if (keys_.objective == FinetuneObjective::reward) learned = "a score each";
    print_line(fmt::format("data {}: {} texts{} of {} tokens, {}; {} held out; {:.1f} MB in memory, tokens in {}",
                           keys_.data, data_.documents, keys_.pairs() ? ", in pairs," : "", data_.tokens, learned,
                           data_.held_out, double(data_.memory) / 1e6, (out_ / "data").string()));
    print_line(shown(trained_parts(model_.store())));
    const engine::MemoryBudget budget = session.budget();
    print_line(fmt::format(
        "{}, {}: {} rows of {} positions, {:.0f} % of them text; {} steps of {} tokens, {:.1f} GFLOP each{}; {:.1f} MB "
        "of the device's memory",
        objective_name(keys_.objective), name(keys_.adaptation.method), data_.source->train_rows(), config_.block_size,
        100 * data_.source->filled(), config_.steps, config_.tokens_per_step(model_.config()),
        trainer_->flops_per_step() / 1e9, members() == 1 ? "" : fmt::format(" for each of {} models", members()),
        double(budget.state + budget.transient) / 1e6));
    if (saved_) print_line(fmt::format("resumed at step {} from {}", trainer_->step(), root_));
    if (!saved_ && options_.resume)
      print_line(fmt::format("{} has no checkpoint yet: starting at step 0", options_.out));
  }

  double epoch(int64_t step) const {
    return double(step) * config_.batch_size * config_.accumulation() / double(data_.source->train_rows());
  }

  void log(const TrainLog& line) {
    const auto steps = double(line.step - logged_step_);
    const double seconds = std::max(1e-9, line.seconds - logged_seconds_);
    const double rate = steps * double(config_.tokens_per_step(model_.config())) / seconds;
    const bool counts = !keys_.pairs() && (!labelled() || data_.labels->problem == tasks::ProblemType::single_label);
    const std::vector<std::vector<double>> measures =
        keys_.pairs() ? trainer_->measures() : std::vector<std::vector<double>>();
    const std::vector<float> accuracy = counts ? trainer_->token_accuracy() : std::vector<float>();
    for (size_t e = 0; e < members(); ++e) {
      const MemberMetrics& m = line.members[e];
      train_loss_[e] = m.loss;
      print_line(fmt::format(
          "step {:5}/{} | {}loss {:.4f} | {}norm {:.4f} | lr {:.2e} | epoch {:.2f}{}{}", line.step, config_.steps,
          members() == 1 ? "" : cells_[e] + " | ", m.loss, measures.empty() ? "" : shown_measures(measures[e]),
          m.gradient_norm, m.learning_rate, epoch(line.step),
          e == 0 ? fmt::format(" | {:.2f} ms | {:.0f} tok/s", seconds / steps * 1e3, rate * double(members())) : "",
          m.skipped > 0 ? fmt::format(" | {} skipped", m.skipped) : ""));
      MetricLine metrics{cells_[e],
                         line.step,
                         line.tokens,
                         {{"loss", m.loss},
                          {"grad_norm", m.gradient_norm},
                          {"learning_rate", m.learning_rate},
                          {"epoch", epoch(line.step)},
                          {"tokens_per_second", rate}}};
      if (counts) metrics.values.emplace_back("mean_token_accuracy", accuracy[e]);
      for (size_t i = 0; keys_.pairs() && i < config_.measures.size(); ++i)
        metrics.values.emplace_back(config_.measures[i], measures[e][i]);
      directory_->append(metrics);
    }
    directory_->flush();
    logged_step_ = line.step;
    logged_seconds_ = line.seconds;
  }

  // The two that are looked at, of all that metrics.jsonl has.
  std::string shown_measures(const std::vector<double>& values) const {
    std::string text;
    for (size_t i = 0; i < values.size(); ++i) {
      if (config_.measures[i] == align::kPreferenceMargin) text += fmt::format("margin {:.4f} | ", values[i]);
      if (config_.measures[i] == align::kPreferenceAccuracy) text += fmt::format("right {:.3f} | ", values[i]);
    }
    return text;
  }

  // ---- questions on the way ----

  int64_t evaluated_rows() const {
    const int64_t asked = int64_t(keys_.max_eval_samples) * (keys_.pairs() ? 2 : 1);
    return std::min<int64_t>(asked, data_.source->held_out_rows());
  }

  void ask(int64_t step) {
    evaluated_step_ = step;
    if (held_out_rows_) evaluate(step);
    if (!questions_.empty()) answer(step);
    directory_->flush();
    export_metrics(out_);
  }

  void evaluate(int64_t step) {
    const std::vector<HeldOutResult> results = held_out_rows_->of(evaluated_rows());
    for (size_t e = 0; e < members(); ++e) {
      const HeldOutResult& one = results[e];
      held_out_[e] = one.loss;
      accuracy_[e] = one.measure;
      print_line(fmt::format("step {:5}/{} | {}held-out loss {:.4f} | {}", step, config_.steps,
                             members() == 1 ? "" : cells_[e] + " | ", one.loss, one.sentence));
      MetricLine line{cells_[e],
                      step,
                      step * config_.tokens_per_step(model_.config()),
                      {{kEvaluation, one.loss}, {"epoch", epoch(step)}}};
      line.values.insert(line.values.end(), one.metrics.begin(), one.metrics.end());
      directory_->append(line);
    }
  }

  // Prompts of held-out texts that leave room for an answer.
  void find_questions() {
    // The programs of a decoder know no virtual tokens, and a head of labels writes nothing.
    if (virtual_tokens(keys_.adaptation) > 0 || labelled()) return;
    const int64_t room = model_.config().block_size;
    const int64_t each = keys_.pairs() ? 2 : 1;  // of a pair what is chosen is wanted
    for (int64_t i = 0; i < data_.source->questions() && int64_t(questions_.size()) < keys_.samples; i += each) {
      const tasks::TuningDocument text = data_.source->question(i);
      auto first = std::find(text.learned.begin(), text.learned.end(), uint8_t(1)) - text.learned.begin();
      if (first <= 1) first = std::min<std::ptrdiff_t>(kTextPrompt, std::ptrdiff_t(text.tokens.size()) / 2);
      auto end = std::find(text.learned.begin() + first, text.learned.end(), uint8_t(0)) - text.learned.begin();
      if (first < 1 || first + 1 >= room) continue;
      const auto part = [&](std::ptrdiff_t from, std::ptrdiff_t to) {
        return data_.tokenizer.decode(std::span(text.tokens).subspan(size_t(from), size_t(to - from)));
      };
      questions_.push_back({{text.tokens.begin(), text.tokens.begin() + first}, part(0, first), part(first, end)});
    }
  }

  // Of a row that is decoded: the longest prompt and its answer.
  int64_t answer_columns() const {
    int64_t longest = data_.source->block_size() - keys_.sample_tokens;
    for (const Question& question : questions_) longest = std::max(longest, int64_t(question.prompt.size()));
    return std::clamp<int64_t>(longest + keys_.sample_tokens, 2, model_.config().block_size);
  }

  void answer(int64_t step) {
    const auto columns = size_t(answer_columns());
    std::vector<DecodeRow> rows;
    size_t start = columns, stop = 0;
    for (const Question& question : questions_) {
      DecodeRow& row = rows.emplace_back();
      row.tokens.assign(columns, 0);
      std::copy(question.prompt.begin(), question.prompt.end(), row.tokens.begin());
      row.length = int32_t(question.prompt.size());
      start = std::min(start, question.prompt.size());
      stop = std::max(stop, question.prompt.size() + size_t(keys_.sample_tokens));
    }
    const auto written =
        evaluator_->decoder().decode(std::vector(members(), rows), int32_t(start), int32_t(std::min(stop, columns)), 0);
    const size_t best = best_of(described());
    for (size_t i = 0; i < questions_.size(); ++i) {
      const Question& question = questions_[i];
      const auto row = std::span(written[best]).subspan(i * columns, columns).first(std::min(stop, columns));
      std::vector<int32_t> answer(row.begin() + std::ptrdiff_t(question.prompt.size()), row.end());
      answer.resize(std::min(answer.size(), size_t(keys_.sample_tokens)));
      const auto ends = [&](int32_t token) {
        return token < 0 ||
               std::find(data_.end_tokens.begin(), data_.end_tokens.end(), token) != data_.end_tokens.end();
      };
      const auto end = std::find_if(answer.begin(), answer.end(), ends);
      std::string text = data_.tokenizer.decode(std::span(answer.begin(), end));
      text += end == answer.end() ? " .." : "";
      answers_.push_back({step, shortened(question.asked), shortened(question.wanted), shortened(text)});
      print_line(fmt::format("  {} -> {}", nlohmann::json(answers_.back().question).dump(),
                             nlohmann::json(answers_.back().answer).dump()));
    }
  }

  // ---- what is left of it ----

  FinetunePageWords words() const {
    if (keys_.pairs())
      return {"loss a pair",
              "right pairs",
              true,
              {{align::kPreferenceAccuracy, "Pairs whose chosen answer has the larger reward", true},
               {align::kPreferenceMargin, "Reward of what is chosen over what is rejected", false}}};
    if (!labelled()) return {};
    constexpr const char* kMeasures[] = {"mean squared error", "right texts", "micro F1"};
    const bool share = data_.labels->problem == tasks::ProblemType::single_label;
    return {"loss a text", kMeasures[size_t(data_.labels->problem)], share, {}};
  }

  std::vector<FinetuneMember> described() const {
    std::vector<FinetuneMember> list;
    for (size_t e = 0; e < members(); ++e)
      list.push_back(
          {config_.members[e], cells_[e], members() == 1 ? "" : cells_[e], held_out_[e], accuracy_[e], train_loss_[e]});
    return list;
  }

  void finish() {
    const std::vector<FinetuneMember> list = described();
    const size_t best = best_of(list);
    if (members() > 1) {
      fmt::print("{}", finetune_table(list));
      print_line(fmt::format("best: {}", cells_[best]));
    }
    const bool whole = keys_.adaptation.method == AdaptMethod::full;
    if (labelled() && !whole) write_labels(out_, *data_.labels);
    for (size_t e = 0; e < members(); ++e) {
      const graph::State trained = model_.store().unpack(trainer_->parameters(e));
      if (!whole && members() > 1) {
        adaptation_.save(out_ / "members" / cells_[e], trained, keys_.model);
        if (labelled()) write_labels(out_ / "members" / cells_[e], *data_.labels);
      }
      if (e != best) continue;
      if (!whole) adaptation_.save(out_, trained, keys_.model);
      if (makes_model(keys_.adaptation)) write_model(trained);
    }
    write_finetune_page(out_,
                        fmt::format("{} learned {}", fs::path(keys_.model).filename().string(),
                                    fs::path(keys_.data).filename().string()),
                        shown(trained_parts(model_.store())), list, answers_, keys_.to_toml(), words());
    const std::string made = (out_ / "model").string(), command = labelled() ? "classify" : "generate";
    print_line(makes_model(keys_.adaptation)
                   ? fmt::format("done: {}", labelled() ? fmt::format("surtsey classify {}", made) : made)
                   : fmt::format("done: surtsey {} {} --adapter {}", command, keys_.model, options_.out));
  }

  // The whole model, in the folder OUT/model.
  void write_model(const graph::State& trained) {
    const fs::path made = out_ / (std::string(kUnfinished) + "model"), folder = out_ / "model";
    std::error_code error;
    fs::remove_all(made, error);
    adapt_source(*base_, adaptation_, model_, trained);
    hub::export_folder(*base_, made);
    fs::remove_all(folder, error);
    fs::rename(made, folder, error);
    check(!error, "{}: cannot be renamed to {}: {}", made.string(), folder.string(), error.message());
  }

  const FinetuneOptions& options_;
  const FinetuneKeys& keys_;
  const fs::path out_;
  const std::string root_;
  const std::unique_ptr<hub::Source> base_;
  const std::string base_hash_;
  Model model_;
  Adaptation adaptation_;
  FinetuneData data_;
  TrainConfig config_;
  const bool saved_;
  std::vector<std::string> cells_;
  std::vector<Question> questions_;
  Trainer* trainer_ = nullptr;
  Evaluator* evaluator_ = nullptr;  // of texts ..
  LabelProgram* scorer_ = nullptr;  // .. and of their labels
  std::unique_ptr<HeldOut> held_out_rows_;
  std::optional<RunDirectory> directory_;
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> held_out_ = std::vector<double>(members(), kNone), accuracy_ = held_out_, train_loss_ = held_out_;
  std::vector<FinetuneAnswer> answers_;
  int64_t evaluated_step_ = -1;
  int64_t logged_step_ = 0;
  double logged_seconds_ = 0;
};

}  // namespace

std::string finetune_help(FinetuneObjective objective) {
  return "Keys, as --key=value:\n" + FinetuneKeys(objective).help();
}

void finetune(const FinetuneOptions& options) {
  handle_interrupts();
  const fs::path config = fs::path(options.out) / "config.toml";
  std::vector<std::string> arguments = options.keys;
  if (!options.model.empty()) arguments.push_back("--model=" + options.model);
  FinetuneKeys keys(options.objective);
  std::optional<FolderLock> lock;
  if (options.resume) {
    check(fs::exists(config), "--resume: there is no run in {} ({} is missing)", options.out, config.string());
    lock = FolderLock::take(options.out);
    FinetuneKeys saved(options.objective);
    saved.read(config.string(), {});
    keys.read(config.string(), {});
    keys.read(options.config, arguments);
    check_same_keys(saved.to_toml(), keys.to_toml(), kFreeFinetuneKeys, options.out);
  } else {
    check(!fs::exists(config) && !fs::exists(fs::path(options.out) / "checkpoint"),
          "{} holds a run: go on with it by --resume, or choose another --out", options.out);
    keys.read(options.config, arguments);
  }
  FinetuneRun(options, keys).go();
}

}  // namespace surtsey::experiments::commands
