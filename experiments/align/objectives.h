// What a language model is trained with beside the next token: preferences, rewards, and how far it may go from where
// it began. Functions of graphs; everything that is not said to be constant has a gradient.
//
// Letters: B sequences, T positions, V vocabulary, P pairs, G prompts with N answers each (B = G N, a prompt's answers
// beside each other). A mask f32 [B, T] has 1 where a token was generated and 0 elsewhere; what stands under a 0 may be
// anything finite. Rewards, advantages and log-probabilities are in nats or the user's unit; losses are f32 [].
// Names of options are TRL's, and so are defaults.
#pragma once

#include "graph/graph.h"

#include <cstdint>

namespace surtsey::experiments::align {

using graph::Value;

// ---- of tokens ----

// f32 [B, T]: log p(token) under softmax(logits / temperature); logits f32 [B, T, V], tokens u32 [B, T].
Value token_log_probs(Value logits, Value tokens, double temperature = 1);
// f32 [B, T]: -sum p log p of softmax(logits / temperature).
Value token_entropy(Value logits, double temperature = 1);

Value masked_sum(Value x, Value mask);   // f32 [B]: over the generated tokens of a sequence
Value masked_rows(Value x, Value mask);  // f32 [B]: their mean; 0 of a sequence without any
Value masked_mean(Value x, Value mask);  // f32 []: over all generated tokens; 0 where there is none

// Estimates of KL(policy || reference) from a token that the policy drew, by r = log reference - log policy
// (Schulman 2020, "Approximating KL divergence"): k1 = -r, k2 = r^2 / 2, k3 = exp(r) - 1 - r. k1 and k3 are unbiased,
// k3 is never negative.
enum class KlEstimator : uint8_t { k1, k2, k3 };
Value kl_estimate(KlEstimator estimator, Value policy, Value reference);

// ---- preferences: what is preferred, and what it is preferred to ----

struct Preferences {
  Value loss;      // f32 []
  Value chosen;    // f32 [P]: rewards, for the log; constant
  Value rejected;  // f32 [P]
  Value margin;    // f32 []: mean of chosen - rejected
  Value accuracy;  // f32 []: share of pairs whose chosen reward is the larger
};

// Bradley and Terry 1952, as in Ouyang et al. 2022 (2203.02155), equation 1, with a margin a pair where one is given
// (Touvron et al. 2023, 2307.09288, equation 2), and centred (Eisenstein et al. 2023, 2312.09244, equation 2):
//   mean(-log sigmoid(chosen - rejected - margin)) + coefficient mean((chosen + rejected)^2)
// The reward of a text is a scalar head's score at its last token; chosen, rejected f32 [P].
struct RewardOptions {
  double center_rewards_coefficient = 0;
};
Preferences reward_loss(Value chosen, Value rejected, const RewardOptions& options, Value margin = {});

// Direct preference optimization of f32 [P] log-probabilities of answers, with
//   h = (policy_chosen - policy_rejected) - (reference_chosen - reference_rejected)
// sigmoid: Rafailov et al. 2023 (2305.18290), equation 7; labels that are wrong with probability label_smoothing
//   (Mitchell 2023, "conservative DPO"): -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)
// ipo: Azar et al. 2023 (2310.12036), equation 17: (h - 1 / (2 beta))^2, where log-probabilities are means over an
//   answer's tokens (as TRL and the authors do it) in place of sums.
// Rewards are beta (policy - reference).
enum class DpoLoss : uint8_t { sigmoid, ipo };
struct DpoOptions {
  DpoLoss loss_type = DpoLoss::sigmoid;
  double beta = 0.1;           // > 0
  double label_smoothing = 0;  // in [0, 1/2); 0 with ipo
};
struct PairLogProbs {
  Value chosen, rejected;
};
Preferences dpo_loss(PairLogProbs policy, PairLogProbs reference, const DpoOptions& options);

// Kahneman-Tversky optimization (Ethayarajh et al. 2024, 2402.01306, equations 7 and 8) of f32 [B] log-probabilities of
// answers that are desirable (1) or not (0), with r = policy - reference:
//   desirable:   w_d (1 - sigmoid(beta (r - z)))        otherwise:   w_u (1 - sigmoid(beta (z - r)))
// z = max(0, mean(kl)), constant: `kl` f32 [K] is policy - reference of answers put behind other prompts. The mean
// over B.
struct KtoOptions {
  double beta = 0.1;
  double desirable_weight = 1, undesirable_weight = 1;
};
struct Kto {
  Value loss;
  Value rewards;  // f32 [B]: beta r; constant
  Value kl;       // f32 []: z
};
Kto kto_loss(Value policy, Value reference, Value desirable, Value kl, const KtoOptions& options);

// ---- rewards ----

// Generalized advantage estimation (Schulman et al. 2015, 1506.02438, equations 11 and 16) along the last axis of
// f32 [B, T]; the generated tokens of a sequence are without a gap, and behind the last one there is nothing to come:
//   delta_t = reward_t + gamma value_{t+1} - value_t,   advantage_t = delta_t + gamma lambda advantage_{t+1}
// Both are constant, and 0 outside of the mask; returns = advantages + values.
struct Advantages {
  Value advantages, returns;
};
Advantages generalized_advantages(Value rewards, Value values, Value mask, double gamma = 1, double lambda = 0.95);

// (x - mean) / sqrt(variance + 1e-8) of the generated tokens, with the unbiased variance; 0 elsewhere. Constant.
Value whiten(Value x, Value mask);

// What a sequence's reward is compared with: advantages f32 [B] of rewards f32 [B], constant.
// leave_one_out: the mean of the other answers to its prompt (Ahmadian et al. 2024, 2402.14740, section 3.3).
// group, batch:  (r - m) / (s + 1e-4), m the mean of its prompt's answers, s their deviation (Shao et al. 2024,
//   2402.03300, section 4.1.2) or that of the batch (Hu et al. 2025, 2501.03262), unbiased as in TRL.
// none:          r - m (Liu et al. 2025, 2503.20783): divided by the deviation, the optimum is another one.
enum class Baseline : uint8_t { leave_one_out, group, batch, none };
Value group_advantages(Value rewards, int64_t answers, Baseline baseline);  // `answers` is N >= 2
// f32 []: the share of prompts whose answers all have one reward, which teach nothing (TRL: frac_reward_zero_std).
Value flat_groups(Value rewards, int64_t answers);

// The clipped surrogate (Schulman et al. 2017, 1707.06347, equation 7), with
//   rho = exp(policy - old)    term = -min(rho advantage, clip(rho, 1 - epsilon, 1 + epsilon_high) advantage) + beta k3
// `old` f32 [B, T] are log-probabilities as they were drawn; advantages f32 [B] or [B, T]; k3 is the estimate above of
// the reference, of a token; left out with beta 0.
// Level: a ratio for each token, or one for a sequence: exp of the sum (`sequence`: RLOO) or of the mean over its
// tokens (`sequence_mean`: GSPO, Zheng et al. 2025, 2507.18071) of policy - old.
// Aggregation of the terms, by TRL's names:
//   ppo, bnpo  over all generated tokens of the batch        grpo     over a sequence's, then over sequences
//   dapo       the sum divided by `tokens`, which a step of several batches has (Yu et al. 2025, 2503.14476)
//   dr_grpo    the sum divided by B max_completion_length (2503.20783)
//   rloo       the mean over sequences of their sums: with one ratio a sequence its term once, and beta times the sum
//              of k3
enum class PolicyLossType : uint8_t { ppo, grpo, bnpo, dapo, dr_grpo, rloo };
enum class RatioLevel : uint8_t { token, sequence, sequence_mean };
struct PolicyOptions {
  PolicyLossType loss_type = PolicyLossType::dapo;
  RatioLevel level = RatioLevel::token;
  double epsilon = 0.2, epsilon_high = 0.2;  // > 0; epsilon < 1
  double beta = 0;                           // of the reference's KL, >= 0
  int64_t max_completion_length = 0;         // of dr_grpo
};
struct PolicyInputs {
  Value policy, old, advantages, mask;
  Value reference = {};  // with beta > 0
  Value tokens = {};     // f32 [], of dapo; empty: those of this batch
};
struct PolicyLoss {
  Value loss;
  Value clipped;    // f32 []: share of ratios that were clipped; constant, as are:
  Value kl;         // f32 []: k3 of the reference, a token; 0 without one
  Value approx_kl;  // f32 []: k2 of what was drawn, a token
};
PolicyLoss policy_loss(const PolicyInputs& inputs, const PolicyOptions& options);

// The critic's (1707.06347 and its code): mean over generated tokens of
//   max((value - return)^2, (clip(value, old - range, old + range) - return)^2) / 2
Value value_loss(Value values, Value old_values, Value returns, Value mask, double cliprange_value = 0.2);

}  // namespace surtsey::experiments::align
