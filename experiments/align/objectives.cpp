#include "experiments/align/objectives.h"

#include "graph/error.h"
#include "graph/functions.h"

#include <cmath>

namespace surtsey::experiments::align {

using graph::element_count;
using graph::Shape;
using graph::stop_gradient;

namespace {

void same_shape(Value a, Value b, const char* what) {
  check(bool(a) && bool(b) && a.type() == b.type(), "[align] {}: {} and {} should be of one shape", what,
        a ? to_string(a.type()) : "nothing", b ? to_string(b.type()) : "nothing");
}

Value zero_like(Value x) { return constant_like(x, 0); }
Value clip(Value x, double low, double high) { return min(max(x, constant_like(x, low)), constant_like(x, high)); }
// Of [..]: over everything, f32 [].
Value total(Value x) {
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < x.rank(); ++axis) axes.push_back(axis);
  return sum(x, axes, false);
}
Value average(Value x) { return total(x) * (1 / double(element_count(x.shape()))); }
Value share(Value condition) { return average(cast(condition, graph::DType::f32)); }
Value at_least_one(Value count) { return max(count, constant_like(count, 1)); }

Preferences preferences(Value loss, Value chosen, Value rejected) {
  const Value high = stop_gradient(chosen), low = stop_gradient(rejected);
  return {loss, high, low, average(high - low), share(less(low, high))};
}

}  // namespace

Value token_log_probs(Value logits, Value tokens, double temperature) {
  check(temperature > 0 && std::isfinite(temperature), "[align] the temperature is {}", temperature);
  return -cross_entropy(temperature == 1 ? logits : logits * (1 / temperature), tokens).per_token;
}

Value token_entropy(Value logits, double temperature) {
  check(temperature > 0 && std::isfinite(temperature), "[align] the temperature is {}", temperature);
  const Value log_p = log_softmax(temperature == 1 ? logits : logits * (1 / temperature));
  return -sum(exp(log_p) * log_p, {-1}, false);
}

Value masked_sum(Value x, Value mask) {
  same_shape(x, mask, "what is masked and its mask");
  return sum(x * mask, {-1}, false);
}

Value masked_rows(Value x, Value mask) { return masked_sum(x, mask) / at_least_one(sum(mask, {-1}, false)); }

Value masked_mean(Value x, Value mask) {
  same_shape(x, mask, "what is masked and its mask");
  return total(x * mask) / at_least_one(total(mask));
}

Value kl_estimate(KlEstimator estimator, Value policy, Value reference) {
  same_shape(policy, reference, "log-probabilities of the policy and of the reference");
  const Value r = reference - policy;
  if (estimator == KlEstimator::k1) return -r;
  if (estimator == KlEstimator::k2) return 0.5 * (r * r);
  return exp(r) - 1.0 - r;
}

// ---- preferences ----

Preferences reward_loss(Value chosen, Value rejected, const RewardOptions& options, Value margin) {
  same_shape(chosen, rejected, "rewards of what is chosen and of what is rejected");
  const double centre = options.center_rewards_coefficient;
  check(centre >= 0 && std::isfinite(centre), "[align] center_rewards_coefficient is {}, not 0 or more", centre);
  Value ahead = chosen - rejected;
  if (margin) {
    same_shape(chosen, margin, "rewards and their margin");
    ahead = ahead - margin;
  }
  Value loss = -average(log_sigmoid(ahead));
  if (centre > 0) {
    const Value both = chosen + rejected;
    loss = loss + centre * average(both * both);
  }
  return preferences(loss, chosen, rejected);
}

Preferences dpo_loss(PairLogProbs policy, PairLogProbs reference, const DpoOptions& options) {
  const double beta = options.beta, wrong = options.label_smoothing;
  check(beta > 0 && std::isfinite(beta), "[align] beta is {}, not above 0", beta);
  check(wrong >= 0 && wrong < 0.5, "[align] label_smoothing is {}, not in [0, 0.5)", wrong);
  check(wrong == 0 || options.loss_type == DpoLoss::sigmoid, "[align] label_smoothing goes with the sigmoid loss");
  same_shape(policy.chosen, policy.rejected, "log-probabilities of what is chosen and of what is rejected");
  same_shape(policy.chosen, reference.chosen, "log-probabilities of the policy and of the reference");
  same_shape(policy.rejected, reference.rejected, "log-probabilities of the policy and of the reference");
  const Value chosen = policy.chosen - reference.chosen, rejected = policy.rejected - reference.rejected;
  const Value ahead = chosen - rejected;
  Value loss;
  if (options.loss_type == DpoLoss::ipo) {
    const Value error = ahead - 1 / (2 * beta);
    loss = average(error * error);
  } else {
    loss = -average(log_sigmoid(beta * ahead));
    if (wrong > 0) loss = (1 - wrong) * loss - wrong * average(log_sigmoid(-beta * ahead));
  }
  return preferences(loss, beta * chosen, beta * rejected);
}

Kto kto_loss(Value policy, Value reference, Value desirable, Value kl, const KtoOptions& options) {
  same_shape(policy, reference, "log-probabilities of the policy and of the reference");
  same_shape(policy, desirable, "log-probabilities and whether they are desirable");
  const double beta = options.beta;
  check(beta > 0 && std::isfinite(beta), "[align] beta is {}, not above 0", beta);
  check(options.desirable_weight >= 0 && options.undesirable_weight >= 0,
        "[align] weights of what is desirable and what is not are {} and {}, not 0 or more", options.desirable_weight,
        options.undesirable_weight);
  const Value between = average(stop_gradient(kl));
  const Value z = max(between, zero_like(between));
  const Value ratio = policy - reference;
  // 1 - sigmoid(x) is sigmoid(-x).
  const Value wanted = options.desirable_weight * sigmoid(beta * (z - ratio));
  const Value unwanted = options.undesirable_weight * sigmoid(beta * (ratio - z));
  return {average(desirable * wanted + (1.0 - desirable) * unwanted), stop_gradient(beta * ratio), z};
}

// ---- rewards ----

Advantages generalized_advantages(Value rewards, Value values, Value mask, double gamma, double lambda) {
  same_shape(rewards, mask, "rewards and their mask");
  same_shape(values, mask, "values and their mask");
  check(gamma >= 0 && gamma <= 1 && lambda >= 0 && lambda <= 1, "[align] gamma {} and lambda {} are in [0, 1]", gamma,
        lambda);
  check(values.rank() == 2, "[align] advantages are of f32 [B, T], not {}", to_string(values.type()));
  rewards = stop_gradient(rewards) * mask;
  const Value known = stop_gradient(values) * mask;
  const int64_t T = values.dim(1);
  const Value next =
      T == 1 ? zero_like(known) : graph::concat({slice(known, 1, 1, T), zero_like(slice(known, 1, 0, 1))}, 1);
  const Value delta = (rewards + gamma * next - known) * mask;
  // decay[s, t] = (gamma lambda)^(s - t): one product is the whole recursion, as nothing is to come behind the mask.
  const graph::Type square{graph::DType::f32, {T, T}};
  const Value ahead = iota(*values.graph, square, 0) - iota(*values.graph, square, 1);
  const double rate = gamma * lambda;
  const Value power = rate > 0 ? exp(ahead * std::log(rate)) : cast(equal(ahead, zero_like(ahead)), graph::DType::f32);
  const Value decay = select(less(ahead, zero_like(ahead)), zero_like(power), power);
  const Value advantages = matmul(delta, decay) * mask;
  return {advantages, (advantages + known) * mask};
}

Value whiten(Value x, Value mask) {
  x = stop_gradient(x);
  const Value count = total(mask), away = (x - masked_mean(x, mask)) * mask;
  return away * rsqrt(total(away * away) / at_least_one(count - 1.0) + 1e-8);
}

namespace {

Value grouped(Value rewards, int64_t answers) {
  check(rewards.rank() == 1 && answers >= 2 && rewards.dim(0) % answers == 0,
        "[align] rewards are {}, not one for each of {} answers to a prompt; there are two or more",
        to_string(rewards.type()), answers);
  return reshape(stop_gradient(rewards), {rewards.dim(0) / answers, answers});
}

// The unbiased deviation, of rows or of everything.
Value spread(Value away, int64_t count, std::vector<int64_t> axes) {
  return sqrt(sum(away * away, std::move(axes)) * (1 / double(count - 1)));
}

}  // namespace

Value group_advantages(Value rewards, int64_t answers, Baseline baseline) {
  const Value rows = grouped(rewards, answers);
  const Value away = rows - mean(rows, {1});
  Value advantages = away;
  if (baseline == Baseline::leave_one_out) {
    advantages = away * (double(answers) / double(answers - 1));
  } else if (baseline == Baseline::group) {
    advantages = away / (spread(away, answers, {1}) + 1e-4);
  } else if (baseline == Baseline::batch) {
    const Value apart = rows - mean(rows, {0, 1});
    advantages = away / (spread(apart, element_count(rows.shape()), {0, 1}) + 1e-4);
  }
  return reshape(advantages, rewards.shape());
}

Value flat_groups(Value rewards, int64_t answers) {
  const Value rows = grouped(rewards, answers);
  return share(equal(reduce_max(rows, {1}), -reduce_max(-rows, {1})));
}

namespace {

void check_options(const PolicyInputs& in, const PolicyOptions& options) {
  same_shape(in.policy, in.old, "log-probabilities now and as they were drawn");
  same_shape(in.policy, in.mask, "log-probabilities and their mask");
  check(in.policy.rank() == 2, "[align] log-probabilities are f32 [B, T], not {}", to_string(in.policy.type()));
  const Shape sequences = {in.policy.dim(0)};
  check(in.advantages.shape() == in.policy.shape() || in.advantages.shape() == sequences,
        "[align] advantages are {}, neither one a sequence nor one a token of {}", to_string(in.advantages.type()),
        to_string(in.policy.type()));
  check(options.epsilon > 0 && options.epsilon < 1 && options.epsilon_high > 0 && std::isfinite(options.epsilon_high),
        "[align] epsilon is {}, not in (0, 1), or epsilon_high {} not above 0", options.epsilon, options.epsilon_high);
  check(options.beta >= 0 && std::isfinite(options.beta), "[align] beta is {}, not 0 or more", options.beta);
  check(options.beta == 0 || bool(in.reference), "[align] beta {} wants log-probabilities of the reference",
        options.beta);
  check(options.loss_type != PolicyLossType::dr_grpo || options.max_completion_length > 0,
        "[align] dr_grpo wants max_completion_length, which is {}", options.max_completion_length);
}

// [B, 1]: one for all tokens of a sequence; [B, T] as it is.
Value over_tokens(Value x, int64_t sequences) { return x.rank() == 2 ? x : reshape(x, {sequences, 1}); }

Value aggregate(Value terms, const PolicyInputs& in, const PolicyOptions& options) {
  const double sequences = double(in.policy.dim(0));
  switch (options.loss_type) {
    case PolicyLossType::ppo:
    case PolicyLossType::bnpo:
      return masked_mean(terms, in.mask);
    case PolicyLossType::grpo:
      return average(masked_rows(terms, in.mask));
    case PolicyLossType::dapo:
      return in.tokens ? total(terms * in.mask) / at_least_one(in.tokens) : masked_mean(terms, in.mask);
    case PolicyLossType::dr_grpo:
      return total(terms * in.mask) * (1 / (sequences * double(options.max_completion_length)));
    case PolicyLossType::rloo:
      return average(masked_sum(terms, in.mask));
  }
  throw InternalError("[align] no such loss");
}

}  // namespace

PolicyLoss policy_loss(const PolicyInputs& in, const PolicyOptions& options) {
  check_options(in, options);
  const int64_t B = in.policy.dim(0);
  // Under the mask's zeros nothing is large: an exp of it would not be finite.
  const Value change = (in.policy - in.old) * in.mask;
  const bool tokens = options.level == RatioLevel::token;
  const Value of_sequence = options.level == RatioLevel::sequence ? masked_sum(change, in.mask)
                            : tokens                              ? Value{}
                                                                  : masked_rows(change, in.mask);
  const Value ratio = exp(tokens ? change : reshape(of_sequence, {B, 1}));
  const Value advantages = stop_gradient(over_tokens(in.advantages, B));
  const Value terms = -min(ratio * advantages, clip(ratio, 1 - options.epsilon, 1 + options.epsilon_high) * advantages);
  const bool once = options.loss_type == PolicyLossType::rloo && terms.dim(1) == 1;
  PolicyLoss result;
  result.loss = once ? average(terms) : aggregate(broadcast(terms, in.policy.shape()), in, options);
  result.kl = scalar(*in.policy.graph, 0);
  if (in.reference) {
    same_shape(in.policy, in.reference, "log-probabilities of the policy and of the reference");
    const Value kl = kl_estimate(KlEstimator::k3, in.policy * in.mask, in.reference * in.mask);
    if (options.beta > 0) result.loss = result.loss + options.beta * aggregate(kl, in, options);
    result.kl = masked_mean(stop_gradient(kl), in.mask);
  }
  const Value fixed = stop_gradient(ratio), zero = zero_like(advantages);
  const Value low = logical_and(less(fixed, constant_like(fixed, 1 - options.epsilon)), less(advantages, zero));
  const Value high = logical_and(less(constant_like(fixed, 1 + options.epsilon_high), fixed), less(zero, advantages));
  const Value out = cast(logical_or(low, high), graph::DType::f32);
  result.clipped = out.dim(1) == 1 ? average(out) : masked_mean(out, in.mask);
  result.approx_kl = masked_mean(kl_estimate(KlEstimator::k2, stop_gradient(change), zero_like(change)), in.mask);
  return result;
}

Value value_loss(Value values, Value old_values, Value returns, Value mask, double cliprange_value) {
  same_shape(values, old_values, "values now and as they were");
  same_shape(values, returns, "values and returns");
  check(cliprange_value > 0 && std::isfinite(cliprange_value), "[align] cliprange_value is {}, not above 0",
        cliprange_value);
  const Value near = old_values + clip(values - old_values, -cliprange_value, cliprange_value);
  const Value error = values - returns, clipped = near - returns;
  return 0.5 * masked_mean(max(error * error, clipped * clipped), mask);
}

}  // namespace surtsey::experiments::align
