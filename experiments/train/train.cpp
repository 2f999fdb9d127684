#include "experiments/train/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "experiments/base/interrupt.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::State;

constexpr int64_t kRingBytes = 64 << 20;
constexpr int64_t kRingSlots = 64;
constexpr int64_t kMetricsColumns = 3;

// Enough slots for several submissions, within a fixed amount of memory.
int64_t ring_slots(const TrainConfig& config, int32_t block) {
  const auto groups = static_cast<int64_t>(distinct_seeds(config.members).size());
  const int64_t slot_bytes = groups * config.batch_size * block * 12;
  return std::clamp<int64_t>(kRingBytes / std::max<int64_t>(slot_bytes, 1), 2, kRingSlots);
}

DataRing::Shape ring_shape(const TrainConfig& config, int32_t block) {
  return {ring_slots(config, block), distinct_seeds(config.members), config.batch_size, block};
}

TrainConfig with_metrics(TrainConfig config) {
  config.optimizer.metrics_rows = std::max<int64_t>(config.optimizer.metrics_rows, 64);
  return config;
}

constexpr std::pair<const char*, graph::MatmulVariant> kMatmulVariants[] = {
    {"lane_broadcast", graph::MatmulVariant::lane_broadcast},
    {"shared_tile", graph::MatmulVariant::shared_tile},
    {"cooperative", graph::MatmulVariant::cooperative}};
constexpr std::pair<const char*, graph::ReduceVariant> kReduceVariants[] = {
    {"lane_per_row", graph::ReduceVariant::lane_per_row},
    {"workgroup_per_row", graph::ReduceVariant::workgroup_per_row}};
constexpr std::pair<const char*, graph::AttentionVariant> kAttentionVariants[] = {
    {"expanded", graph::AttentionVariant::expanded},
    {"lane_broadcast", graph::AttentionVariant::lane_broadcast},
    {"shared_tile", graph::AttentionVariant::shared_tile}};

std::string variant_name(const auto& table, auto variant) {
  for (const auto& [name, value] : table) {
    if (value == variant) return name;
  }
  ensure(false, "[train] kernel variant {} has no name", static_cast<int>(variant));
  return "";
}

auto variant_of(const auto& table, const nlohmann::json& variants, const char* key) {
  const std::string wanted = variants.value(key, "");
  for (const auto& [name, value] : table) {
    if (wanted == name) return value;
  }
  check(false, "[train] the checkpoint's {} variant '{}' is not one of this version", key, wanted);
  return table[0].second;
}

}  // namespace

engine::DeviceError with_checkpoint(const engine::DeviceError& error, const std::string& root) {
  namespace fs = std::filesystem;
  // The saves of an ensemble are made together; the first member's stands for all.
  const std::string first = has_checkpoint(root) ? root : root + "/member-000";
  try {
    const int64_t step = load_checkpoint_step(first);
    const auto age = fs::file_time_type::clock::now() - fs::last_write_time(first + "/latest");
    return error.with(
        fmt::format("The newest checkpoint is of step {} and {:.0f} s old; the same command with --resume goes "
                    "on from '{}'",
                    step, std::max(0.0, std::chrono::duration<double>(age).count()), root));
  } catch (const std::runtime_error&) {
    if (!error.lost()) return error;
    return error.with("There is no checkpoint to go on from: the run begins anew");
  }
}

nlohmann::json kernel_variants(const graph::Target& target) {
  return {{"matmul", variant_name(kMatmulVariants, target.matmul_variant())},
          {"reduce", variant_name(kReduceVariants, target.reduce_variant())},
          {"attention", variant_name(kAttentionVariants, target.attention_variant())},
          {"fusion", target.fusion},
          {"tiles", target.tiles ? graph::print(*target.tiles) : ""},
          {"reduce_tiles", target.reduce_tiles ? graph::print(*target.reduce_tiles) : ""}};
}

graph::Target with_variants(graph::Target target, const nlohmann::json& variants) {
  target.matmul = variant_of(kMatmulVariants, variants, "matmul");
  target.reduce = variant_of(kReduceVariants, variants, "reduce");
  target.fusion = variants.value("fusion", true);
  // None is a choice too: what was measured since then is not used.
  target.tiles = std::make_shared<graph::MatmulTiles>(graph::parse_matmul_tiles(variants.value("tiles", "")));
  target.reduce_tiles =
      std::make_shared<graph::ReduceTiles>(graph::parse_reduce_tiles(variants.value("reduce_tiles", "")));
  // Left automatic where that comes to the same: it also decides for which shapes.
  const auto attention = variant_of(kAttentionVariants, variants, "attention");
  if (target.attention_variant() != attention) target.attention = attention;
  return target;
}

TrainPrograms trainer_programs(const Model& model, TrainConfig config) {
  config = with_metrics(std::move(config));
  return train_programs(model, config, ring_slots(config, config.block(model.config())));
}

graph::CompileOptions compile_options(const TrainConfig& config, const std::string& program) {
  graph::CompileOptions options{.name = program, .storage = config.dtype};
  // What applies accumulated gradients has nothing to compute again.
  if (program != "apply") options.memory = config.memory;
  return options;
}

Trainer::Trainer(engine::Session& session, const Model& model, TrainConfig config, const tasks::DataSource& source)
    : session_(session), model_(model), config_(with_metrics(std::move(config))) {
  ensure(config_.generated == nullptr, "[train] generated data and a source");
  ring_.emplace(session, source, ring_shape(config_, config_.block(model.config())));
  check(source.vocab_size() <= model.config().vocab_size, "[train] the data has {} symbols, the model {}",
        source.vocab_size(), model.config().vocab_size);
  add_programs();
  for (const char* name : {"data.tokens", "data.targets", "data.weights"}) {
    session_.share_with_host(name);
  }
}

Trainer::Trainer(engine::Session& session, const Model& model, TrainConfig config)
    : session_(session), model_(model), config_(with_metrics(std::move(config))) {
  ensure(config_.generated != nullptr, "[train] neither a source nor generated data");
  add_programs();
}

void Trainer::add_programs() {
  for (const auto& [name, program] : trainer_programs(model_, config_).programs) {
    session_.add_program(name, program, compile_options(config_, name));
  }
  losses_.resize(config_.members.size());
}

Trainer::~Trainer() = default;

double Trainer::flops_per_step() const {
  const auto members = static_cast<double>(config_.members.size());
  if (config_.accumulation() == 1) {
    return static_cast<double>(session_.plan("train").flops) / members;
  }
  return (static_cast<double>(session_.plan("accumulate").flops) * config_.accumulation() +
          static_cast<double>(session_.plan("apply").flops)) /
         members;
}

void Trainer::initialise() {
  for (const auto& [name, tensor] : initial_train_state(model_, config_)) {
    // A graph that does not need a tensor has none of that name.
    if (session_.has_state(name)) session_.write(name, tensor);
  }
  step_ = metrics_step_ = 0;
  saved_step_ = -1;
  for (auto& losses : losses_) losses.clear();
}

void Trainer::initialise(const graph::HostTensor& parameters) {
  check(parameters.type == model_.store().flat_type(), "[train] a start of {}, not {}", to_string(parameters.type),
        to_string(model_.store().flat_type()));
  initialise();
  std::vector<graph::State> members(config_.members.size());
  for (graph::State& member : members) member[graph::kParameters] = parameters;
  const graph::State start = members.size() == 1 ? members[0] : ensemble_state(members, member_state_names());
  session_.write(graph::kParameters, start.at(graph::kParameters));
}

uint64_t Trainer::submit(int64_t steps) {
  const int64_t micro = config_.accumulation();
  uint64_t ticket = 0;
  if (micro == 1) {
    if (ring_) ring_->wait_filled(step_ + steps);
    ticket = session_.submit("train", static_cast<uint32_t>(steps));
    if (ring_) ring_->submitted(step_ + steps, ticket);
  } else {
    ensure(steps == 1, "[train] {} steps with accumulation in one go", steps);
    for (int64_t batch = step_ * micro; batch < (step_ + 1) * micro; ++batch) {
      if (ring_) ring_->wait_filled(batch + 1);
      const uint64_t read = session_.submit("accumulate", 1);
      if (ring_) ring_->submitted(batch + 1, read);
    }
    ticket = session_.submit("apply", 1);
  }
  step_ += steps;
  return ticket;
}

void Trainer::read_metrics(std::vector<MemberMetrics>& sums) {
  const std::vector<float> ring = session_.read_floats("metrics");
  const std::vector<uint32_t> skipped = session_.read_words("skipped");
  const int64_t rows = config_.optimizer.metrics_rows;
  for (size_t i = 0; i < config_.members.size(); ++i) {
    for (int64_t step = metrics_step_; step < step_; ++step) {
      const size_t at = (i * static_cast<size_t>(rows) + static_cast<size_t>(step % rows)) * kMetricsColumns;
      losses_[i].push_back(ring[at]);
      sums[i].loss += ring[at];
      // A step that was skipped has none.
      if (std::isfinite(ring[at + 1])) {
        sums[i].gradient_norm += ring[at + 1];
        ++sums[i].norms;
      }
      sums[i].learning_rate = ring[at + 2];
    }
    sums[i].skipped = skipped[i];
  }
  metrics_step_ = step_;
}

void Trainer::save_if_asked(const RunOptions& options) {
  if (options.checkpoint_root.empty() || saved_step_ == step_) return;
  try {
    nlohmann::json description = *options.description;
    if (options.describe) description.update(options.describe());
    save(options.checkpoint_root, description);
    if (options.on_checkpoint) options.on_checkpoint(step_);
  } catch (const UserError& error) {
    // A full disk must not end a run that is hours old; the older save is whole.
    fmt::print(stderr, "warning: no checkpoint at step {}: {}\n", step_, error.what());
  }
}

void Trainer::run(const RunOptions& options) {
  const int64_t until = options.until > 0 ? std::min(options.until, config_.steps) : config_.steps;
  if (step_ >= until) return;
  const auto start = std::chrono::steady_clock::now();
  const int64_t micro = config_.accumulation();
  const int64_t slots = ring_slots(config_, config_.block(model_.config()));
  const int64_t most = micro > 1 ? 1 : std::clamp<int64_t>(std::min(options.submit_steps, slots / 2), 1, 64);
  const int64_t log_interval = std::max<int64_t>(options.log_interval, 1);
  std::vector<MemberMetrics> sums(config_.members.size());
  int64_t logged = step_;
  std::deque<uint64_t> tickets;
  if (ring_) ring_->start(step_ * micro, until * micro);
  while (step_ < until && !interrupted()) {
    int64_t next = std::min(until, step_ + most);
    const auto cut = [&](int64_t interval) {
      if (interval > 0) next = std::min(next, (step_ / interval + 1) * interval);
    };
    cut(log_interval);
    cut(options.checkpoint_interval);
    cut(config_.optimizer.metrics_rows);
    tickets.push_back(submit(next - step_));
    // Two submissions in flight keep the device busy; more would only delay an interrupt.
    if (tickets.size() > 2) {
      session_.wait(tickets.front());
      tickets.pop_front();
    }
    if (options.on_step) options.on_step(step_);
    const bool log = step_ % log_interval == 0 || step_ == until;
    if (log || step_ - metrics_step_ >= config_.optimizer.metrics_rows / 2) read_metrics(sums);
    if (log) {
      const auto count = static_cast<double>(std::max<int64_t>(step_ - logged, 1));
      TrainLog line{step_, step_ * config_.tokens_per_step(model_.config()), 0, sums};
      line.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      for (MemberMetrics& member : line.members) {
        member.loss /= count;
        member.gradient_norm /= static_cast<double>(std::max<int64_t>(member.norms, 1));
      }
      if (options.on_log) options.on_log(line);
      sums.assign(sums.size(), {});
      logged = step_;
    }
    if (options.checkpoint_interval > 0 && step_ % options.checkpoint_interval == 0) {
      save_if_asked(options);
    }
  }
  if (!tickets.empty()) session_.wait(tickets.back());
  if (ring_) ring_->stop();
  if (metrics_step_ < step_) read_metrics(sums);
  if (step_ < until) {
    save_if_asked(options);
    throw Interrupted(fmt::format("interrupted at step {} of {}{}", step_, config_.steps,
                                  saved_step_ == step_ ? ", which is saved" : ""));
  }
}

std::string Trainer::member_root(const std::string& root, size_t member) const {
  return config_.members.size() == 1 ? root : fmt::format("{}/member-{:03}", root, member);
}

bool Trainer::has_save(const std::string& root, size_t members) { return !newest_save(root, members, 0).empty(); }

std::string Trainer::newest_save(const std::string& root, size_t members, size_t member) {
  if (members == 1) return has_checkpoint(root) ? root : "";
  const auto of = [&](size_t i) { return fmt::format("{}/member-{:03}", root, i); };
  std::vector<int64_t> common = checkpoint_steps(of(0));
  for (size_t i = 1; i < members; ++i) {
    const std::vector<int64_t> steps = checkpoint_steps(of(i));
    std::erase_if(common, [&](int64_t step) { return !std::binary_search(steps.begin(), steps.end(), step); });
  }
  return common.empty() ? "" : checkpoint_directory(of(member), common.back());
}

void Trainer::save(const std::string& root, const nlohmann::json& description) {
  std::vector<std::string> roots;
  for (size_t i = 0; i < config_.members.size(); ++i) roots.push_back(member_root(root, i));
  save(roots, description);
  saved_step_ = step_;
}

void Trainer::save(const std::vector<std::string>& roots, const nlohmann::json& description) {
  ensure(roots.size() == config_.members.size(), "[train] {} places for {} models", roots.size(),
         config_.members.size());
  State state;
  for (const auto& [name, tensor] : initial_train_state(model_, config_)) {
    if (session_.has_state(name) && !name.starts_with("constants.") && name != "data.group") {
      state[name] = session_.read(name);
    }
  }
  for (size_t i = 0; i < config_.members.size(); ++i) {
    Checkpoint checkpoint;
    checkpoint.step = step_;
    checkpoint.config = description;
    (*checkpoint.config)["model"] = to_json(model_.config());
    (*checkpoint.config)["member"] = {{"seed", config_.members[i].seed},
                                      {"learning_rate", config_.members[i].learning_rate}};
    (*checkpoint.config)["training"] = {{"steps", config_.steps},
                                        {"dtype", graph::name(config_.dtype)},
                                        {"batch_size", config_.batch_size},
                                        {"block_size", config_.block(model_.config())},
                                        {"accumulation_steps", config_.accumulation()}};
    (*checkpoint.config)["kernels"] = kernel_variants(session_.target());
    checkpoint.state =
        config_.members.size() == 1 ? state : member_state(state, member_state_names(), static_cast<int64_t>(i));
    save_checkpoint(roots[i], checkpoint, model_.store());
  }
}

int64_t Trainer::load(const std::string& root) {
  std::vector<State> members;
  int64_t step = -1;
  for (size_t i = 0; i < config_.members.size(); ++i) {
    const size_t count = config_.members.size();
    const std::string path = count == 1 ? root : newest_save(root, count, i);
    check(!path.empty(), "{}: there is no checkpoint of all {} models", root, count);
    Checkpoint checkpoint = load_checkpoint(path, model_.store());
    const nlohmann::json member = checkpoint.config->value("member", nlohmann::json::object());
    check(member.value("seed", uint32_t{0}) == config_.members[i].seed &&
              member.value("learning_rate", 0.0) == config_.members[i].learning_rate,
          "{}: is of another seed or learning rate: {}", path, member.dump());
    const nlohmann::json training = checkpoint.config->value("training", nlohmann::json::object());
    check(training.value("steps", int64_t{0}) == config_.steps && training.value("batch_size", 0) == config_.batch_size,
          "{}: is of a run with other steps or another batch: {}", path, training.dump());
    check(training.value("dtype", "f32") == graph::name(config_.dtype), "{}: was trained with dtype {}, not {}", path,
          training.value("dtype", "f32"), graph::name(config_.dtype));
    const nlohmann::json kernels = kernel_variants(session_.target());
    nlohmann::json saved = checkpoint.config->value("kernels", kernels);
    for (const char* table : {"tiles", "reduce_tiles"}) saved.emplace(table, "");
    if (i == 0 && saved != kernels) {
      fmt::print(stderr,
                 "warning: {} was trained with other kernels: it goes on, perhaps not to the same "
                 "bits\n  {}\n  here {}\n",
                 path, saved.dump(), kernels.dump());
    }
    check(step < 0 || step == checkpoint.step, "{}: stands at step {}, another member at {}", path, checkpoint.step,
          step);
    step = checkpoint.step;
    members.push_back(std::move(checkpoint.state));
  }
  initialise();
  State state = members[0];
  if (members.size() > 1) {
    std::set<std::string> names = member_state_names();
    names.erase("data.group");
    state = ensemble_state(members, names);
  }
  for (const auto& [name, tensor] : state) {
    check(session_.has_state(name), "{}: the saved tensor '{}' is not of this run", root, name);
    session_.write(name, tensor);
  }
  step_ = metrics_step_ = saved_step_ = step;
  return step;
}

HostTensor Trainer::parameters(size_t member) {
  const std::vector<float> all = session_.read_floats(graph::kParameters);
  const auto size = static_cast<size_t>(model_.store().flat_size());
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(member * size);
  return HostTensor(model_.store().flat_type(), {first, first + static_cast<std::ptrdiff_t>(size)});
}

}  // namespace surtsey::experiments
