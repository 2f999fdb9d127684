// Scaled dot-product attention in all its forms, as one region.
//
// The body of the region is its meaning and its default lowering. It carries its own gradient,
// because the one derived from primitives keeps three [B,H,T,S] values for the backward pass
// (exponentials, probabilities and scores) where the formula below keeps one:
//
//     p = softmax(mask(scale q k^T)),  out = p v
//     dv = p^T dout,  dp = dout v^T,  ds = p (dp - sum_s(p dp) + dlse),
//     dq = scale ds k,  dk = scale ds^T q
//
// The gradient writes p with the same nodes as the body, so hash-consing shares the forward's p
// when the region is decomposed, and computes it again when a kernel claimed the region.
#pragma once

#include "graph/graph.h"

#include <string>

namespace surtsey::graph {

inline constexpr const char* kAttentionRegion = "attention";

// Which keys a query sees, all conditions together. Query i stands at position `position` + i, key
// j at position j.
struct AttentionOptions {
  bool causal = false;  // j <= position
  int64_t window =
      0;  // > 0: position - j < window, and for a bidirectional one j - position < window
  Value position = {};  // u32 []: of the first query (a key/value cache); 0 when empty
  Value key_mask = {};  // boolean [B, S]: keys that exist (padding is false); all when empty
  double scale = 0;     // 0: 1 / sqrt(D)
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
Attention scaled_dot_product_attention(Value q, Value k, Value v,
                                       const AttentionOptions& options = {});

// The same without the softmax: out [B, H, T, D] = mask(scale q k^T) v, where a masked score is 0. No
// region: it is two products. One layer of it can be a step of gradient descent on a linear
// regression in its context (von Oswald et al. 2023). UserError with dropout: there are no
// probabilities.
Value linear_attention(Value q, Value k, Value v, const AttentionOptions& options = {});

}  // namespace surtsey::graph
