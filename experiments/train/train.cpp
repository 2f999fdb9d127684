#include "experiments/train/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "experiments/base/computing_device.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "experiments/train/driver.h"
#include "experiments/train/train_session.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::State;

constexpr int64_t kMetricsColumns = 3;

DataRing::Shape ring_shape(const ModelConfig& model, const TrainConfig& config) {
  return {ring_slots(model, config), distinct_seeds(config.members), config.batch_size, config.block(model)};
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

// 16x16x16, or nothing where no kernel uses any. With the variant this is the verdict on the device's matrices that the
// run began with: a later one changes none of its kernels.
std::string matrices_in_use(const graph::Target& target) {
  const graph::CooperativeMatrix& c = target.cooperative;
  return target.matmul_variant() == graph::MatmulVariant::cooperative ? fmt::format("{}x{}x{}", c.m, c.n, c.k) : "";
}

}  // namespace

engine::DeviceError with_checkpoint(const engine::DeviceError& error, const std::string& root) {
  namespace fs = std::filesystem;
  // The saves of an ensemble are made together; the first member's stands for all.
  const std::string first = has_checkpoint(root) ? root : root + "/member-000";
  try {
    const int64_t step = load_checkpoint_step(first);
    const auto age = fs::file_time_type::clock::now() - fs::last_write_time(checkpoint_directory(first, step));
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
          {"matrices", matrices_in_use(target)},
          {"reduce", variant_name(kReduceVariants, target.reduce_variant())},
          {"attention", variant_name(kAttentionVariants, target.attention_variant())},
          {"fusion", target.fusion},
          {"tiles", target.tiles ? graph::print(*target.tiles) : ""},
          {"reduce_tiles", target.reduce_tiles ? graph::print(*target.reduce_tiles) : ""}};
}

graph::Target with_variants(graph::Target target, const nlohmann::json& variants) {
  target.matmul = variant_of(kMatmulVariants, variants, "matmul");
  (void)target.matmul_variant();  // a device that has not what was trained with says so here
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

Trainer::Trainer(engine::Session& session, const Model& model, TrainConfig config, const tasks::DataSource& source)
    : session_(session), model_(model), config_(std::move(config)) {
  ensure(config_.generated == nullptr, "[train] generated data and a source");
  check(config_.labels || model.config().architecture == Architecture::decoder,
        "[train] only decoders are trained on next tokens");
  ensure(source.labels() == (config_.labels ? model.config().n_labels : 0), "[train] a source of {} labels a text",
         source.labels());
  check(source.vocab_size() <= model.config().vocab_size, "[train] the data has {} symbols, the model {}",
        source.vocab_size(), model.config().vocab_size);
  ensure(source.numbers() == config_.numbers, "[train] a source of {} numbers a sequence", source.numbers());
  ensure(config_.packed == source.packs(), "[train] a source that packs and a run that does not, or the reverse");
  ensure(config_.soft.has_value() == source.soft_targets().has_value(),
         "[train] a source of soft targets and a run without, or the reverse");
  check(!config_.soft || source.vocab_size() == model.config().vocab_size,
        "[train] soft targets over {} symbols, the model has {}", source.vocab_size(), model.config().vocab_size);
  ring_.emplace(session, source, ring_shape(model.config(), config_));
  add_programs();
  begin_at(0);
}

Trainer::Trainer(engine::Session& session, const Model& model, TrainConfig config)
    : session_(session), model_(model), config_(std::move(config)) {
  ensure(config_.generated != nullptr, "[train] neither a source nor generated data");
  add_programs();
  begin_at(0);
}

void Trainer::add_programs() {
  add_train_programs(session_, model_, config_);
  if (config_.accumulates()) {
    accumulate_ = session_.program("accumulate");
    apply_ = session_.program("apply");
  } else {
    train_ = session_.program("train");
  }
}

void Trainer::begin_at(int64_t step) {
  step_ = metrics_step_ = measured_step_ = step;
  losses_.assign(config_.members.size(), {});
}

Trainer::~Trainer() = default;

double Trainer::flops_per_step() const {
  const auto members = static_cast<double>(config_.members.size());
  if (!config_.accumulates()) {
    return static_cast<double>(train_.plan().flops) / members;
  }
  return (static_cast<double>(accumulate_.plan().flops) * config_.accumulation() +
          static_cast<double>(apply_.plan().flops)) /
         members;
}

void Trainer::initialise() {
  write_state(session_, initial_train_state(model_, config_));
  begin_at(0);
}

void Trainer::initialise(const graph::State& weights) {
  const auto wanted = [&](const std::string& name, const graph::Type& type) -> const HostTensor& {
    const auto found = weights.find(name);
    check(found != weights.end(), "[train] the start has no {}", name);
    check(found->second.type == type, "[train] the start has {} {}, not {}", name, to_string(found->second.type),
          to_string(type));
    return found->second;
  };
  graph::State member = {{graph::kParameters, wanted(graph::kParameters, model_.store().flat_type())}};
  graph::State start = member;
  if (config_.members.size() > 1)
    start = ensemble_state(std::vector(config_.members.size(), member), member_state_names());
  if (!config_.base_elsewhere) {
    for (const auto& [name, type] : model_.store().frozen_state()) start[name] = wanted(name, type);
  }
  initialise();
  write_state(session_, start);
}

void Trainer::initialise_each(const std::vector<HostTensor>& parameters) {
  check(parameters.size() == config_.members.size(), "[train] {} starts for {} models", parameters.size(),
        config_.members.size());
  std::vector<State> members;
  for (const HostTensor& one : parameters) {
    check(one.type == model_.store().flat_type(), "[train] a start of {}, not {}", to_string(one.type),
          to_string(model_.store().flat_type()));
    members.push_back({{graph::kParameters, one}});
  }
  initialise();
  write_state(session_, members.size() == 1 ? members[0] : ensemble_state(members, member_state_names()));
}

void Trainer::run(const RunOptions& options) { Driver(*this, options).run(); }

void Trainer::start_data(int64_t until) {
  const int64_t micro = config_.accumulation();
  if (ring_) ring_->start(step_ * micro, until * micro);
}

void Trainer::stop_data() {
  if (ring_) ring_->stop();
}

int64_t Trainer::most_steps() const {
  constexpr int64_t kMost = 64;
  if (config_.accumulates()) return 1;
  // Half of the ring is written while the other half is read.
  return std::clamp<int64_t>(ring_slots(model_.config(), config_) / 2, 1, kMost);
}

std::optional<uint64_t> Trainer::submit(int64_t steps) {
  ensure(steps > 0 && steps <= most_steps(), "[train] {} steps in one go", steps);
  std::optional<uint64_t> ticket;
  if (config_.accumulates()) {
    ticket = accumulate();
    if (!ticket) return {};
  } else {
    if (ring_) ring_->wait_filled(step_ + steps);
    ticket = train_.submit(static_cast<uint32_t>(steps));
    if (ring_) ring_->submitted(step_ + steps, *ticket);
  }
  step_ += steps;
  return ticket;
}

// One step of many micro-batches, of which a few are in flight.
std::optional<uint64_t> Trainer::accumulate() {
  constexpr size_t kInFlight = 3;
  const int64_t micro = config_.accumulation();
  std::deque<uint64_t> tickets;
  for (int64_t batch = step_ * micro; batch < (step_ + 1) * micro; ++batch) {
    if (interrupted()) {
      for (const char* name : {"gradient_accumulator", "loss_accumulator"})
        session_.write(name, HostTensor::zeros(session_.state_type(name)));
      session_.write("micro_step", std::vector<uint32_t>{static_cast<uint32_t>(step_ * micro)});
      return {};
    }
    if (ring_) ring_->wait_filled(batch + 1);
    tickets.push_back(accumulate_.submit());
    if (ring_) ring_->submitted(batch + 1, tickets.back());
    if (tickets.size() < kInFlight) continue;
    session_.wait(tickets.front());
    tickets.pop_front();
  }
  if (config_.exchange) {
    if (!tickets.empty()) session_.wait(tickets.back());
    config_.exchange(session_);
  }
  return apply_.submit();
}

std::vector<std::vector<StepMetrics>> Trainer::read_metrics() {
  const std::vector<float> ring = session_.read_floats("metrics");
  check_counted(step_, session_.read_words("step").at(0));
  const int64_t rows = config_.optimizer.metrics_rows;
  ensure(step_ - metrics_step_ <= rows, "[train] metrics of {} steps in a ring of {}", step_ - metrics_step_, rows);
  std::vector<std::vector<StepMetrics>> metrics(config_.members.size());
  for (size_t i = 0; i < metrics.size(); ++i) {
    for (int64_t step = metrics_step_; step < step_; ++step) {
      const size_t at = (i * static_cast<size_t>(rows) + static_cast<size_t>(step % rows)) * kMetricsColumns;
      metrics[i].push_back({ring[at], ring[at + 1], ring[at + 2]});
      losses_[i].push_back(ring[at]);
    }
  }
  metrics_step_ = step_;
  return metrics;
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
}

void Trainer::save(const std::vector<std::string>& roots, const nlohmann::json& description) {
  ensure(roots.size() == config_.members.size(), "[train] {} places for {} models", roots.size(),
         config_.members.size());
  State state;
  for (const std::string& name : saved_state(model_, config_)) {
    if (session_.has_state(name)) state[name] = session_.read(name);
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
    save_checkpoint(roots[i], checkpoint, model_.store(), config_.base_elsewhere);
  }
}

int64_t Trainer::load(const std::string& root) {
  std::vector<State> members;
  int64_t step = -1;
  for (size_t i = 0; i < config_.members.size(); ++i) {
    const size_t count = config_.members.size();
    const std::string path = count == 1 ? root : newest_save(root, count, i);
    check(!path.empty(), "{}: there is no checkpoint of all {} models", root, count);
    Checkpoint checkpoint = load_checkpoint(path, model_.store(), config_.base_elsewhere);
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
    for (const char* later : {"tiles", "reduce_tiles", "matrices"}) saved.emplace(later, "");
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
  begin_at(step);
  return step;
}

std::vector<std::vector<double>> Trainer::measures() {
  const double batches = double(step_ - measured_step_) * config_.accumulation();
  const std::vector<float> sums = session_.read_floats(kMeasures);
  session_.write(kMeasures, HostTensor::zeros(session_.state_type(kMeasures)));
  measured_step_ = step_;
  std::vector<std::vector<double>> means(config_.members.size());
  const size_t count = config_.measures.size();
  for (size_t e = 0; e < means.size(); ++e)
    for (size_t i = 0; i < count; ++i) means[e].push_back(double(sums[e * count + i]) / batches);
  return means;
}

HostTensor Trainer::parameters(size_t member) {
  const std::vector<float> all = session_.read_floats(graph::kParameters);
  const auto size = static_cast<size_t>(model_.store().flat_size());
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(member * size);
  return HostTensor(model_.store().flat_type(), {first, first + static_cast<std::ptrdiff_t>(size)});
}

}  // namespace surtsey::experiments
