#include "experiments/train/driver.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"

namespace surtsey::experiments {
namespace {

constexpr int64_t kNoStep = std::numeric_limits<int64_t>::max();
// Two submissions in flight keep the device busy; more would only delay an interrupt.
constexpr size_t kInFlight = 2;
// So many steps in a row are not the search for a loss scale.
constexpr int64_t kTellingSteps = 10;

}  // namespace

Driver::Driver(Trainer& trainer, RunOptions options) : trainer_(trainer), options_(std::move(options)) {
  const int64_t steps = trainer_.config().steps;
  until_ = options_.until > 0 ? std::min(options_.until, steps) : steps;
  options_.log_interval = std::max<int64_t>(options_.log_interval, 1);
  const size_t members = trainer_.config().members.size();
  sums_.resize(members);
  applied_.resize(members);
  told_of_divergence_.resize(members);
}

bool Driver::resume() {
  const size_t members = trainer_.config().members.size();
  const std::string& root = options_.checkpoint_root;
  if (root.empty() || !Trainer::has_save(root, members)) return false;
  const nlohmann::json saved = load_checkpoint_config(Trainer::newest_save(root, members, 0));
  saved_ = trainer_.load(root);
  earlier_seconds_ = saved.value("seconds", 0.0);
  asked_ = saved.value("asked", int64_t{0});
  if (options_.restore) options_.restore(saved);
  return true;
}

double Driver::seconds() const {
  const auto now = std::chrono::steady_clock::now();
  return earlier_seconds_ + run_seconds_ + (since_ ? std::chrono::duration<double>(now - *since_).count() : 0);
}

int64_t Driver::question() const {
  if (!options_.next_question) return kNoStep;
  // One that lies behind cannot be asked any more: a run may be resumed with other questions.
  const int64_t before = std::max(asked_, trainer_.step() - 1), step = options_.next_question(before);
  return step > before && step <= trainer_.config().steps ? step : kNoStep;
}

void Driver::run() {
  // No batch is made beyond the end of this call, whatever ends it.
  const struct StopData {
    Trainer& trainer;
    ~StopData() { trainer.stop_data(); }
  } stop_data{trainer_};
  logged_ = trainer_.step();
  if (trainer_.step() < until_) trainer_.start_data(until_);
  while (true) {
    const int64_t next = question();
    advance(std::min(until_, next));
    if (trainer_.step() < next) break;
    if (interrupted()) stop_interrupted();
    try {
      options_.ask(next);
    } catch (const Interrupted&) {
      stop_interrupted();
    }
    asked_ = next;
  }
  // A run that is shorter than the patience, or its end.
  if (lost_steps() >= kTellingSteps) {
    fmt::print(stderr,
               "warning: none of the last {} steps up to {} had a finite gradient, so nothing was learned in them: "
               "choose a smaller learning_rate or clip gradients (grad_clip)\n",
               lost_steps(), trainer_.step());
  }
  if (!options_.save_end || until_ < trainer_.config().steps) return;
  try {
    save();
  } catch (const UserError& error) {
    throw UserError(fmt::format(
        "all {} steps are done, but the last is not saved: {}. When '{}' can be written the same command with "
        "--resume does the steps after the newest save again",
        until_, error.what(), options_.checkpoint_root));
  }
}

// Trains to `stop`, where everything is done and its metrics are read.
void Driver::advance(int64_t stop) {
  if (trainer_.step() >= stop) return;
  since_ = std::chrono::steady_clock::now();
  const int64_t rows = trainer_.config().optimizer.metrics_rows;
  const int64_t most = std::clamp<int64_t>(options_.submit_steps, 1, trainer_.most_steps());
  const int64_t saves = options_.checkpoint_root.empty() ? 0 : options_.checkpoint_interval;
  while (trainer_.step() < stop && !interrupted()) {
    int64_t next = std::min(stop, trainer_.step() + most);
    const auto cut = [&](int64_t interval) {
      if (interval > 0) next = std::min(next, (trainer_.step() / interval + 1) * interval);
    };
    cut(options_.log_interval);
    cut(saves);
    cut(rows);
    const std::optional<uint64_t> ticket = trainer_.submit(next - trainer_.step());
    if (!ticket) break;
    tickets_.push_back(*ticket);
    if (tickets_.size() > kInFlight) {
      trainer_.wait(tickets_.front());
      tickets_.pop_front();
    }
    const int64_t step = trainer_.step();
    if (options_.on_step) options_.on_step(step);
    const bool logs = step % options_.log_interval == 0 || step == stop;
    const bool is_save = (saves > 0 && step % saves == 0) || (options_.save_end && step == trainer_.config().steps);
    if (logs || is_save || step - trainer_.metrics_step() >= rows / 2) read_metrics();
    if (logs) log();
    check_divergence();
    if (is_save) save_or_warn();
  }
  if (!tickets_.empty()) trainer_.wait(tickets_.back());
  tickets_.clear();
  if (trainer_.metrics_step() < trainer_.step()) read_metrics();
  run_seconds_ = seconds() - earlier_seconds_;
  since_.reset();
  if (trainer_.step() < stop) stop_interrupted();
}

void Driver::read_metrics() {
  const std::vector<std::vector<StepMetrics>> metrics = trainer_.read_metrics();
  const std::vector<uint32_t> skipped = trainer_.skipped();
  for (size_t i = 0; i < sums_.size(); ++i) {
    for (const StepMetrics& step : metrics[i]) {
      sums_[i].loss += static_cast<double>(step.loss);
      sums_[i].learning_rate = static_cast<double>(step.learning_rate);
      if (std::isfinite(step.gradient_norm)) {
        sums_[i].gradient_norm += static_cast<double>(step.gradient_norm);
        ++applied_[i];
        sums_[i].skipped_in_row = 0;
      } else {
        ++sums_[i].skipped_in_row;
      }
    }
    sums_[i].skipped = skipped[i];
  }
}

void Driver::log() {
  const int64_t step = trainer_.step();
  const auto count = static_cast<double>(std::max<int64_t>(step - logged_, 1));
  TrainLog line{step, step * trainer_.config().tokens_per_step(trainer_.model().config()), seconds() - earlier_seconds_,
                sums_};
  for (size_t i = 0; i < line.members.size(); ++i) {
    line.members[i].loss /= count;
    double& norm = line.members[i].gradient_norm;
    norm = applied_[i] > 0 ? norm / static_cast<double>(applied_[i]) : std::numeric_limits<double>::quiet_NaN();
    sums_[i] = {.skipped_in_row = sums_[i].skipped_in_row};
    applied_[i] = 0;
  }
  logged_ = step;
  if (options_.on_log) options_.on_log(line);
}

void Driver::check_divergence() {
  if (options_.divergence_patience <= 0) return;
  size_t diverged = 0;
  for (size_t i = 0; i < sums_.size(); ++i) {
    if (sums_[i].skipped_in_row < options_.divergence_patience) continue;
    ++diverged;
    if (sums_.size() == 1 || told_of_divergence_[i]) continue;
    told_of_divergence_[i] = true;
    const Member& member = trainer_.config().members[i];
    fmt::print(stderr,
               "warning: the model of seed {} and learning rate {:g} diverged: none of its last {} steps up to {} had "
               "a finite gradient\n",
               member.seed, member.learning_rate, sums_[i].skipped_in_row, trainer_.step());
  }
  if (diverged < sums_.size()) return;
  throw Diverged(fmt::format(
      "{} diverged: none of the last {} steps up to {} had a finite gradient, so nothing was learned in them. Choose a "
      "smaller learning_rate or clip gradients (grad_clip); divergence_patience says after how many such steps a run "
      "ends",
      sums_.size() == 1 ? "the model" : fmt::format("all {} models", sums_.size()), lost_steps(), trainer_.step()));
}

int64_t Driver::lost_steps() const {
  int64_t fewest = std::numeric_limits<int64_t>::max();
  for (const MemberMetrics& member : sums_) fewest = std::min(fewest, member.skipped_in_row);
  return fewest;
}

void Driver::save() {
  if (options_.checkpoint_root.empty() || saved_ == trainer_.step()) return;
  nlohmann::json description = options_.describe ? options_.describe() : nlohmann::json::object();
  description["seconds"] = seconds();
  description["asked"] = asked_;
  trainer_.save(options_.checkpoint_root, description);
  saved_ = trainer_.step();
}

void Driver::save_or_warn() {
  try {
    save();
  } catch (const UserError& error) {
    fmt::print(stderr, "warning: no checkpoint at step {}: {}\n", trainer_.step(), error.what());
  }
}

void Driver::stop_interrupted() {
  save_or_warn();
  std::string state;
  if (saved_ == trainer_.step())
    state = ", which is saved";
  else if (!options_.checkpoint_root.empty())
    state = ", which could not be saved";
  throw Interrupted(fmt::format("interrupted at step {} of {}{}", trainer_.step(), trainer_.config().steps, state));
}

graph::Target resumed_target(const graph::Target& target, const std::string& checkpoint_root, size_t members) {
  if (!Trainer::has_save(checkpoint_root, members)) return target;
  const nlohmann::json saved = load_checkpoint_config(Trainer::newest_save(checkpoint_root, members, 0));
  return saved.contains("kernels") ? with_variants(target, saved.at("kernels")) : target;
}

}  // namespace surtsey::experiments
