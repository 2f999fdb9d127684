// What each way of adapting a matrix computes, as graphs at the door of projection.h. Formulas: adaptation.h.
#pragma once

#include "experiments/adapt/modules.h"
#include "experiments/models/model.h"

#include <map>
#include <string>

namespace surtsey::experiments {

// State of a member that varies its rank (Adaptation::vary_rank()): f32 [r], its scale where it has the rank, 0 behind.
inline constexpr const char* kRankScale = "lora.scale";

struct LowRank {
  std::string module;  // "adapter.transformer.h.0.attn.c_attn": its tensors' names begin so
  ModulePart part;
  int64_t out = 0;  // rows of the module
  double scale = 1;
  double dropout = 0;
  bool normed = false;  // DoRA
  bool varies = false;  // by kRankScale
};
// Over matrices by name.
ProjectionHook low_rank_hook(std::map<std::string, LowRank> matrices);

struct ScaledModule {
  std::string module;
  ModulePart part;
  bool input = false;  // a feed-forward module
};
ProjectionHook scaled_hook(std::map<std::string, ScaledModule> matrices);

// Behind matrices: x + up(f(down(x))); non_linearity: as AdaptConfig has it.
ProjectionHook bottleneck_hook(std::map<std::string, std::string> modules, const std::string& non_linearity);

struct Biased {
  std::string module;
  ModulePart part;
};
ProjectionHook bias_hook(std::map<std::string, Biased> matrices);

// x without its gradient.
graph::Value detached(graph::Value x);

}  // namespace surtsey::experiments
