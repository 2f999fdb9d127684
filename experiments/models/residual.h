// Reading and patching the residual stream of a model's main stack.
//
// The stream at depth d is what d blocks have made of the embeddings: 0 are the embeddings, L is
// what the last norm reads.
//
//   Residuals residuals(model);
//   residuals.read(3);              // an output "residual.3", f32 [B, T, C]
//   residuals.read(5, position);    // f32 [B, C]: at one position, u32 []
//   residuals.patch();
//   options.residual = residuals.hook();
//   Value logits = model.logits(parameters, tokens, options);
//   program.outputs = residuals.outputs(); ..
//
// A patch replaces the stream of every row at one depth and one position, which are device scalars:
// one recording sweeps them all. State tensors, all shared by the members of an ensemble but the
// last:
//   patch.depth     u32 []             kNoPatch, or any depth above L: nothing is replaced
//   patch.position  u32 []
//   patch.value     f32 [B, C] a member
// For whole forward passes: with a cache, positions would count from the first token at hand.
#pragma once

#include "experiments/models/model.h"

#include <map>
#include <set>

namespace surtsey::experiments {

inline constexpr uint32_t kNoPatch = ~0u;

class Residuals {
 public:
  explicit Residuals(const Model& model);

  // UserError: there is no such depth, or it is read already. A depth that is patched is read
  // after.
  void read(int64_t depth, graph::Value position = {});
  void patch() { patched_ = true; }

  // For ForwardOptions::residual, of one forward pass; this must outlive the building of it.
  std::function<graph::Value(const std::string&, graph::Value)> hook();
  // "residual.{depth}" of every depth that is read, after the forward pass is built.
  std::vector<std::pair<std::string, graph::Value>> outputs() const;

 private:
  graph::Value visit(const std::string& point, graph::Value x);

  const Model& model_;
  bool patched_ = false;
  std::map<int64_t, graph::Value> reads_;  // depth -> position
  std::map<int64_t, graph::Value> found_;
};

// The state that members of an ensemble own, for vectorize().
std::set<std::string> residual_member_state();

}  // namespace surtsey::experiments
