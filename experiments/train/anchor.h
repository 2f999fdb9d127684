// A pull of every parameter towards where earlier training left it: the penalty of tuning that should not forget.
//
//   config.gradient = anchored_gradient;  // the gradient of the loss + sum_i w_i (theta_i - c_i)^2 / 2
//   .. trainer.initialise(..);
//   write_anchors(session, anchors);      // one a member; without it w is 0
//
// L2-SP (Li et al. 2018): w = lambda everywhere, c the start. EWC (Kirkpatrick et al. 2017): w = lambda F with F the
// diagonal of the Fisher information (evaluate/fisher.h), c the parameters after that task. The penalties of several
// tasks are one with w = sum w_k and c = sum w_k c_k / w, up to a constant. Clipping comes after it, as if the loss had
// it; the loss that is logged has it not.
//
// State tensors, of each member: anchor.weight f32 [P] (w), anchor.center f32 [P] (c).
#pragma once

#include "engine/session.h"
#include "graph/parameters.h"

#include <span>

namespace surtsey::experiments {

inline constexpr const char* kAnchorWeight = "anchor.weight";
inline constexpr const char* kAnchorCenter = "anchor.center";

// TrainConfig::gradient. Not with loss scaling, whose factor the penalty would lack.
graph::Value anchored_gradient(const graph::Parameters& parameters, graph::Value gradient);

struct Anchor {
  graph::HostTensor weight, center;  // f32 [P]
};
Anchor no_anchor(const graph::ParameterStore& store);
// The two penalties as one: w (theta - c)^2 / 2 with the weights `weight`, all of them not negative, beside `anchor`.
void add_penalty(Anchor& anchor, const graph::HostTensor& weight, const graph::HostTensor& center);

// One a member. UserError: not as many as the session has models.
void write_anchors(engine::Session& session, std::span<const Anchor> anchors);

}  // namespace surtsey::experiments
