#include "graph/optimizer.h"

#include <cmath>
#include <numbers>

namespace surtsey::graph {
namespace {

constexpr int64_t kMetricsColumns = 3;

const Type kCounter = {DType::u32, {}};
const Type kScalar = {DType::f32, {}};
const Type kPair = {DType::f32, {2}};
constexpr const char* kLossScale = "loss_scale";
constexpr const char* kGoodSteps = "loss_scale.good_steps";

void check_schedule(const Schedule& schedule) {
  check(schedule.warmup_steps >= 0, "[schedule] warmup_steps is {}", schedule.warmup_steps);
  check(schedule.decay == Decay::none || schedule.total_steps > 0, "[schedule] a decay needs total_steps, which is {}",
        schedule.total_steps);
  check(std::isfinite(schedule.final_ratio) && schedule.final_ratio >= 0,
        "[schedule] final_ratio is {}, not a finite number from 0", schedule.final_ratio);
}

double decay_length(const Schedule& schedule) {
  return double(std::max<int64_t>(1, schedule.total_steps - schedule.warmup_steps));
}

void check_config(const OptimizerConfig& config) {
  check(config.beta1 >= 0 && config.beta1 < 1 && config.beta2 >= 0 && config.beta2 < 1,
        "[optimizer] beta1 {} and beta2 {} must be in [0, 1)", config.beta1, config.beta2);
  check(config.momentum >= 0 && config.momentum < 1, "[optimizer] momentum {} is not in [0, 1)", config.momentum);
  check(config.epsilon > 0, "[optimizer] epsilon {} is not positive", config.epsilon);
  check(config.weight_decay >= 0 && config.clip_norm >= 0,
        "[optimizer] weight_decay {} and clip_norm {} must not be negative", config.weight_decay, config.clip_norm);
  check(config.metrics_rows > 0, "[optimizer] metrics_rows is {}", config.metrics_rows);
  check(config.accumulation_steps > 0, "[optimizer] accumulation_steps is {}", config.accumulation_steps);
  check_schedule(config.schedule);
  const LossScaling& scaling = config.loss_scaling;
  check(std::exp2(std::round(std::log2(scaling.initial))) == scaling.initial && scaling.initial >= 1 &&
            scaling.initial <= scaling.largest,
        "[optimizer] the loss scale starts at {}, not at a power of two from 1 to {}", scaling.initial,
        scaling.largest);
  check(scaling.growth_interval > 0, "[optimizer] the loss scale grows after {} steps", scaling.growth_interval);
}

// Assigns `fresh` to a state tensor where the step is applied.
void update(Value applied, Value state, Value fresh) { state.graph->assign(state, select(applied, fresh, state)); }

void adamw(const Parameters& parameters, Value gradient, Value rate, Value applied, Value decay_multiplier,
           const OptimizerConfig& config) {
  Graph& graph = parameters.graph();
  ScopeGuard scope(graph, "adamw");
  const Type flat = parameters.store().flat_type();
  const Value p = parameters.flat();
  const Value m_old = graph.parameter("adam.m", flat);
  const Value v_old = graph.parameter("adam.v", flat);
  const Value ones_old = graph.parameter("adam.ones", kPair);
  const auto average = [](double beta, Value old, Value x) { return beta * old + (1 - beta) * x; };
  const Value m = average(config.beta1, m_old, gradient);
  const Value v = average(config.beta2, v_old, gradient * gradient);
  const Value is_v = equal(iota(graph, {DType::u32, {2}}, 0), scalar(graph, 1, DType::u32));
  const auto pair = [&](double of_m, double of_v) { return select(is_v, scalar(graph, of_v), scalar(graph, of_m)); };
  const Value ones = ones_old * pair(config.beta1, config.beta2) + pair(1 - config.beta1, 1 - config.beta2);
  const Value m_weight = slice(ones, 0, 0, 1);
  const Value v_weight = slice(ones, 0, 1, 2);
  Value change = (m / m_weight) / (sqrt(v / v_weight) + config.epsilon);
  if (config.weight_decay > 0) {
    Value decay = config.weight_decay * p;
    if (decay_multiplier) decay = decay * decay_multiplier;
    change = change + decay;
  }
  update(applied, p, p - rate * change);
  update(applied, m_old, m);
  update(applied, v_old, v);
  update(applied, ones_old, ones);
}

void sgd(const Parameters& parameters, Value gradient, Value rate, Value applied, Value decay_multiplier,
         const OptimizerConfig& config) {
  ScopeGuard scope(parameters.graph(), "sgd");
  const Value p = parameters.flat();
  if (config.weight_decay > 0) {
    Value decay = config.weight_decay * p;
    if (decay_multiplier) decay = decay * decay_multiplier;
    gradient = gradient + decay;
  }
  Value change = gradient;
  if (config.momentum > 0) {
    const Value old = parameters.graph().parameter("sgd.momentum", parameters.store().flat_type());
    const Value velocity = config.momentum * old + gradient;
    change = config.nesterov ? gradient + config.momentum * velocity : velocity;
    update(applied, old, velocity);
  }
  update(applied, p, p - rate * change);
}

void adapt_loss_scale(Graph& graph, Value applied, const LossScaling& scaling) {
  ScopeGuard scope(graph, "loss_scale");
  const Value scale = graph.parameter(kLossScale, kScalar);
  const Value good_steps = graph.parameter(kGoodSteps, kCounter);
  const auto count = [&](int64_t value) { return scalar(graph, double(value), DType::u32); };
  const Value more = good_steps + count(1);
  const Value grows = equal(more, count(scaling.growth_interval));
  const Value larger = min(scale * 2, scalar(graph, scaling.largest));
  const Value smaller = max(scale * 0.5, scalar(graph, 1));
  graph.assign(scale, select(applied, select(grows, larger, scale), smaller));
  graph.assign(good_steps, select(logical_and(applied, logical_not(grows)), more, count(0)));
}

void write_metrics(Graph& graph, Value step, Value loss, Value norm, Value rate, int64_t rows) {
  ScopeGuard scope(graph, "metrics");
  const Value metrics = graph.parameter("metrics", {DType::f32, {rows, kMetricsColumns}});
  const Value column = iota(graph, {DType::u32, {1, kMetricsColumns}}, 1);
  const auto is = [&](int index) { return equal(column, scalar(graph, index, DType::u32)); };
  const Value row = select(is(0), loss, select(is(1), norm, rate));
  const Value slot = mod(step, scalar(graph, double(rows), DType::u32));
  graph.assign(metrics, slice_update(metrics, row, slot, 0));
}

}  // namespace

Value schedule_factor(Value step, const Schedule& schedule) {
  check_schedule(schedule);
  Graph& graph = *step.graph;
  const Value s = cast(step, DType::f32);
  Value factor = scalar(graph, 1);
  if (schedule.decay != Decay::none) {
    const double warmup = double(schedule.warmup_steps);
    const Value u = min((s - warmup) * (1 / decay_length(schedule)), scalar(graph, 1));
    const Value d = schedule.decay == Decay::linear ? 1.0 - u : 0.5 + 0.5 * cos(u * std::numbers::pi);
    factor = schedule.final_ratio + (1 - schedule.final_ratio) * d;
  }
  if (schedule.warmup_steps > 0) {
    const double warmup = double(schedule.warmup_steps);
    factor = select(less(s, scalar(graph, warmup)), (s + 1.0) * (1 / warmup), factor);
  }
  return factor;
}

double schedule_factor(int64_t step, const Schedule& schedule) {
  check_schedule(schedule);
  if (step < schedule.warmup_steps) return double(step + 1) / double(schedule.warmup_steps);
  if (schedule.decay == Decay::none) return 1;
  const double u = std::min(1.0, double(step - schedule.warmup_steps) / decay_length(schedule));
  const double d = schedule.decay == Decay::linear ? 1 - u : (1 + std::cos(std::numbers::pi * u)) / 2;
  return schedule.final_ratio + (1 - schedule.final_ratio) * d;
}

Value gradient_coefficient(Graph& graph, const OptimizerConfig& config) {
  return config.loss_scaling.enabled ? graph.parameter(kLossScale, kScalar) : Value{};
}

OptimizerStep optimize(const Parameters& parameters, Value gradient, Value loss, const OptimizerConfig& config) {
  check_config(config);
  Graph& graph = parameters.graph();
  const ParameterStore& store = parameters.store();
  ScopeGuard scope(graph, "optimizer", Phase::optimizer);
  const Value step = graph.parameter("step", kCounter);
  const Value skipped = graph.parameter("skipped", kCounter);
  const Value one = scalar(graph, 1, DType::u32);

  OptimizerStep result;
  if (config.loss_scaling.enabled) {
    ScopeGuard inner(graph, "loss_scale");
    gradient = gradient * (1.0 / gradient_coefficient(graph, config));
  }
  {
    ScopeGuard inner(graph, "gradient_norm");
    const Value norm_squared = sum(gradient * gradient, {0}, false);
    result.gradient_norm = sqrt(norm_squared);
    result.applied = is_finite(norm_squared);
  }
  {
    ScopeGuard inner(graph, "schedule");
    result.learning_rate = graph.parameter("learning_rate", kScalar) * schedule_factor(step, config.schedule);
  }
  if (config.clip_norm > 0) {
    ScopeGuard inner(graph, "clip");
    const Value limit = scalar(graph, config.clip_norm) / (result.gradient_norm + 1e-6);
    gradient = gradient * min(limit, scalar(graph, 1));
  }
  Value rate = result.learning_rate;
  if (!store.uniform_learning_rate()) {
    rate = rate * graph.parameter("parameters.lr_multiplier", store.flat_type());
  }
  Value decay_multiplier;
  if (config.weight_decay > 0 && !store.uniform_decay()) {
    decay_multiplier = graph.parameter("parameters.decay_multiplier", store.flat_type());
  }
  const auto rule = config.kind == OptimizerKind::adamw ? adamw : sgd;
  rule(parameters, gradient, rate, result.applied, decay_multiplier, config);

  if (config.loss_scaling.enabled) adapt_loss_scale(graph, result.applied, config.loss_scaling);
  graph.assign(step, step + one);
  graph.assign(skipped, skipped + select(result.applied, scalar(graph, 0, DType::u32), one));
  write_metrics(graph, step, loss, result.gradient_norm, result.learning_rate, config.metrics_rows);
  return result;
}

void accumulate(const Parameters& parameters, Value gradient, Value loss) {
  Graph& graph = parameters.graph();
  ScopeGuard scope(graph, "accumulate", Phase::optimizer);
  const auto add_to = [&](const char* name, Value value) {
    const Value state = graph.parameter(name, value.type());
    graph.assign(state, state + value);
  };
  add_to("gradient_accumulator", gradient);
  add_to("loss_accumulator", loss);
  add_to("micro_step", scalar(graph, 1, DType::u32));
}

OptimizerStep optimize_accumulated(const Parameters& parameters, const OptimizerConfig& config,
                                   const std::function<Value(Value gradient)>& change) {
  Graph& graph = parameters.graph();
  ScopeGuard scope(graph, "accumulated", Phase::optimizer);
  const Value gradient = graph.parameter("gradient_accumulator", parameters.store().flat_type());
  const Value loss = graph.parameter("loss_accumulator", kScalar);
  const double share = 1 / double(config.accumulation_steps);
  const Value mean_loss = loss * share;
  const Value mean = change ? change(gradient * share) : gradient * share;
  const OptimizerStep result = optimize(parameters, mean, mean_loss, config);
  graph.assign(gradient, constant_like(gradient, 0));
  graph.assign(loss, constant_like(loss, 0));
  return result;
}

State initial_optimizer_state(const ParameterStore& store, const OptimizerConfig& config, double learning_rate) {
  check_config(config);
  State state;
  const auto zeros = [&](const char* name, Type type) { state[name] = HostTensor::zeros(type); };
  zeros("step", kCounter);
  zeros("skipped", kCounter);
  zeros("metrics", {DType::f32, {config.metrics_rows, kMetricsColumns}});
  state["learning_rate"] = HostTensor::scalar(DType::f32, learning_rate);
  if (config.loss_scaling.enabled) {
    state[kLossScale] = HostTensor::scalar(DType::f32, config.loss_scaling.initial);
    zeros(kGoodSteps, kCounter);
  }
  if (config.kind == OptimizerKind::adamw) {
    zeros("adam.m", store.flat_type());
    zeros("adam.v", store.flat_type());
    zeros("adam.ones", kPair);
  } else if (config.momentum > 0) {
    zeros("sgd.momentum", store.flat_type());
  }
  if (!store.uniform_learning_rate()) {
    state["parameters.lr_multiplier"] = store.learning_rate_multipliers();
  }
  if (config.weight_decay > 0 && !store.uniform_decay()) {
    state["parameters.decay_multiplier"] = store.decay_multipliers();
  }
  if (config.accumulates()) {
    zeros("gradient_accumulator", store.flat_type());
    zeros("loss_accumulator", kScalar);
    zeros("micro_step", kCounter);
  }
  return state;
}

std::set<std::string> per_member_state() {
  return {kParameters,       "adam.*",   "sgd.*",    "learning_rate", "seed",
          "skipped",         kLossScale, kGoodSteps, "metrics",       "gradient_accumulator",
          "loss_accumulator"};
}

}  // namespace surtsey::graph
