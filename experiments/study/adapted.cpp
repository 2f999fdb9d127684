#include "experiments/study/adapted.h"

#include "experiments/adapt/adapter_graph.h"
#include "experiments/base/exit_status.h"
#include "experiments/train/driver.h"
#include "experiments/train/train_session.h"

#include <chrono>

namespace surtsey::experiments {
namespace {

BaseTensor tensors_of(const TrainedBase& base) {
  return [&base](const std::string& parameter) {
    const auto found = base.parameters.find(parameter);
    ensure(found != base.parameters.end(), "[adapted] the base has no parameter {}", parameter);
    return found->second;
  };
}

// The scale of each member's ranks, with a leading member axis where there are several.
graph::HostTensor rank_scales(const Adaptation& adaptation, const std::vector<int64_t>& ranks) {
  graph::HostTensor all = adaptation.rank_scale(ranks.front());
  if (ranks.size() == 1) return all;
  all.type.shape.insert(all.type.shape.begin(), int64_t(ranks.size()));
  for (size_t e = 1; e < ranks.size(); ++e) {
    const std::vector<double> own = adaptation.rank_scale(ranks[e]).values;
    all.values.insert(all.values.end(), own.begin(), own.end());
  }
  return all;
}

double passed_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void go_through(Trainer& trainer, const RunOptions& options) {
  try {
    trainer.run(options);
  } catch (const Diverged& error) {
    fmt::print(stderr, "warning: {}\n", error.what());
  }
}

}  // namespace

int64_t TrainedBase::parameter_count() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : parameters) count += graph::element_count(tensor.type.shape);
  return count;
}

TrainedBase train_base(engine::Device& device, const ModelConfig& config, const tasks::DataSource& source,
                       TrainConfig train) {
  const Model model(config);
  engine::Session session(device, {.quiet = true});
  train.block_size = source.block_size();
  Trainer trainer(session, model, train, source);
  session.allocate();
  trainer.initialise();
  const auto start = std::chrono::steady_clock::now();
  go_through(trainer, {});
  return {config, model.store().unpack(trainer.parameters(0)), passed_since(start),
          trainer.flops_per_step() * double(train.steps), train.steps * train.tokens_per_step(config)};
}

BaseRun::BaseRun(engine::Device& device, const TrainedBase& base, int32_t rows, int32_t block)
    : model_(base.model), session_(device, {.quiet = true}) {
  evaluator_.emplace(session_, model_, 1, rows, block);
  session_.allocate();
  write_state(session_, model_.constants());
  session_.write(graph::kParameters, model_.store().pack(base.parameters));
}

AdaptedRun::AdaptedRun(engine::Device& device, const TrainedBase& base, const tasks::DataSource& learned,
                       AdaptRequest request)
    : request_(std::move(request)),
      model_(base.model),
      adaptation_(request_.config, model_, tensors_of(base)),
      session_(device, {.quiet = true}) {
  const size_t count = members().size();
  check(request_.ranks.empty() || request_.ranks.size() == count, "[adapted] {} ranks for {} members",
        request_.ranks.size(), count);
  check(request_.starts.empty() || request_.starts.size() == count, "[adapted] {} starts for {} members",
        request_.starts.size(), count);
  const int64_t before = adaptation_.virtual_tokens();
  check(learned.block_size() + before <= base.model.block_size,
        "[adapted] {} virtual tokens before {} tokens are more than the {} of the base", before, learned.block_size(),
        base.model.block_size);
  if (!request_.ranks.empty()) adaptation_.vary_rank();
  adaptation_.install(model_, device.target());
  request_.train.block_size = learned.block_size();
  request_.train.base_elsewhere = true;
  trainer_.emplace(session_, model_, request_.train, learned);
  evaluator_.emplace(session_, model_, count, request_.rows, learned.block_size());
  if (request_.programs) request_.programs(session_, model_);
  session_.allocate();
  adaptation_.write_base(model_, [&](const std::string& state, std::span<const std::byte> bytes) {
    if (session_.has_state(state)) session_.write_bytes(state, bytes);
  });
  if (request_.starts.empty())
    for (const Member& member : members()) request_.starts.push_back(adaptation_.start(model_, {.seed = member.seed}));
  start_again();
}

void AdaptedRun::start_again() {
  trainer_->initialise_each(request_.starts);
  if (!request_.ranks.empty()) session_.write(kRankScale, rank_scales(adaptation_, request_.ranks));
}

void AdaptedRun::train(const RunOptions& options) {
  RunOptions timed = options;
  if (options.ask) {
    timed.ask = [&](int64_t step) {
      const auto asked = std::chrono::steady_clock::now();
      options.ask(step);
      seconds_ -= passed_since(asked);
    };
  }
  const auto start = std::chrono::steady_clock::now();
  go_through(*trainer_, timed);
  seconds_ += passed_since(start);
}

void AdaptedRun::start_from(std::vector<graph::HostTensor> parameters) {
  request_.starts = std::move(parameters);
  start_again();
}

int64_t AdaptedRun::trained_count() const { return model_.store().trained_count(); }

int64_t AdaptedRun::task_bytes(size_t member) const {
  const int64_t bytes = int64_t(sizeof(float)) * trained_count();
  // Every tensor of LoRA grows with the rank.
  return request_.ranks.empty() ? bytes : bytes * request_.ranks[member] / request_.config.r;
}

std::vector<graph::HostTensor> AdaptedRun::parameters() {
  std::vector<graph::HostTensor> all;
  for (size_t e = 0; e < members().size(); ++e) all.push_back(trainer_->parameters(e));
  return all;
}

std::vector<Cell> AdaptedRun::cells(const Experiment& experiment) const {
  std::vector<Cell> cells;
  for (size_t e = 0; e < members().size(); ++e) {
    Cell& cell = cells.emplace_back(empty_cell(experiment, members()[e]));
    cell.parameters = task_bytes(e) / int64_t(sizeof(float));
    cell.steps = request_.train.steps;
    cell.tokens = cell.steps * request_.train.tokens_per_step(model_.config());
    cell.flops = trainer_->flops_per_step() * double(cell.steps);
    cell.train_seconds = seconds_ / double(members().size());
  }
  return cells;
}

std::vector<graph::HostTensor> untrained_starts(const ModelConfig& config, const std::vector<Member>& members) {
  const Model model(config);
  std::vector<graph::HostTensor> starts;
  for (const Member& member : members) starts.push_back(model.store().initialise(member.seed));
  return starts;
}

}  // namespace surtsey::experiments
