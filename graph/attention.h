// Scaled dot-product attention in all its forms: regions for the forward pass and for its gradient.
//
// The body of a region is its meaning and its default lowering; a kernel that claims it stores no
// [B,H,T,S] value. The gradient is two regions of its own, because the one derived from primitives
// keeps three such values (exponentials, probabilities and scores) where the formula below keeps
// one, and a kernel none:
//
//     p = softmax(mask(scale q k^T)),  out = p v
//     dp = dout v^T,  delta = sum_s(p dp) - dlse,  ds = p (dp - delta)
//     dq = scale ds k,  dk = scale ds^T q,  dv = p^T dout
//
// A kernel has p = exp(scale q k^T - lse) and sum_s(p dp) = sum_d(dout out) (Dao et al. 2022,
// FlashAttention). Bodies write p with the same nodes, so hash-consing shares it between forward
// and backward where the regions are expanded.
#pragma once

#include "graph/graph.h"

#include <string>

namespace surtsey::graph {

// Which keys a query sees, all conditions together. Query i stands at position `position` + i, key
// j at position j.
struct AttentionOptions {
  bool causal = false;  // j <= position
  int64_t window = 0;   // > 0: position - j < window, and for a bidirectional one j - position < window
  Value position = {};  // u32 []: of the first query (a key/value cache); 0 when empty
  Value key_mask = {};  // boolean [B, S]: keys that exist (padding is false); all when empty
  // u32 [B, T], causal and without a position: the first key that each query sees, where texts stand behind each other
  // in a row and do not see one another. Never past the query itself, and never less than that of the query before it.
  Value first_key = {};
  // Added to the scaled scores, f32 [1 or B, 1 or H, T, S] (Raffel et al. 2020). Such an attention is no region: its
  // scores are written out.
  Value bias = {};
  double scale = 0;  // 0: 1 / sqrt(D)
  // Dropout on the probabilities; seed and step are u32 [].
  double dropout = 0;
  Value seed = {};
  Value step = {};
  std::string stream = {};
};

struct Attention {
  Value out;  // [B, H, T, D]
  Value lse;  // f32 [B, H, T, 1]: log-sum-exp of the scaled and masked scores
};

// q [B, H, T, D], k [B, K, S, D], v [B, K, S, D], where K divides H: query head h reads key/value
// head h / (H/K) (grouped heads, Ainslie et al. 2023). A query that sees no key gets the mean of v.
Attention scaled_dot_product_attention(Value q, Value k, Value v, const AttentionOptions& options = {});

// The same without the softmax: out [B, H, T, D] = mask(scale q k^T) v, where a masked score is 0. No
// region: it is two products. One layer of it can be a step of gradient descent on a linear
// regression in its context (von Oswald et al. 2023). UserError with dropout: there are no
// probabilities.
Value linear_attention(Value q, Value k, Value v, const AttentionOptions& options = {});

// ---- for kernels that claim the regions ----

// The score of a key that is not seen. Far below any score, far above the overflow of f32:
// exp(kMaskedScore - shift) is 0 unless the whole row is masked.
inline constexpr double kMaskedScore = -1e30;

enum class AttentionPart : uint8_t { forward, query_gradient, key_gradient };

// What a region computes, beside the shapes of its operands. Operands and results of each part:
//   all             q, k, v, [position], [key_mask], [first_key], [seed, step], and then
//   forward                                     -> out, lse
//   query_gradient  out, lse, dout, [dlse]      -> dq, delta [B, H, T, 1]
//   key_gradient    lse, delta, dout            -> dk, dv
// Ensembles give operands leading axes: all the same, or none (shared by the members).
struct AttentionForm {
  AttentionPart part = AttentionPart::forward;
  bool causal = false;
  int64_t window = 0;
  double scale = 1;
  double dropout = 0;
  std::string stream = {};
  bool has_position = false;
  bool has_key_mask = false;
  bool has_first_key = false;
  bool has_lse_gradient = false;
  int result = -1;         // a claimed region has one result, this one of the whole region's
  bool one_query = false;  // claimed by the kernel for one query a head

  // May a query see no key at all? Then p is 1 / S throughout, and lse is kMaskedScore.
  bool has_empty_rows() const { return has_key_mask || window > 0; }
};

// The operands of a region, by name; empty where the form has none.
struct AttentionOperands {
  Value q, k, v, position, key_mask, first_key, seed, step, out, lse, delta, dout, dlse;
};
AttentionOperands attention_operands(const AttentionForm& form, std::span<const Value> inputs);

}  // namespace surtsey::graph
