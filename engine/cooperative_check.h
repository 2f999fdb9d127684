// Cooperative matrices are believed only where they are right and pay: some drivers offer them with
// wrong sums, others compute them a thousand times slower than plain arithmetic.
#pragma once

#include "engine/device.h"
#include "shaders/shader.h"

#include <functional>
#include <string>

namespace surtsey::engine {

struct CooperativeCheckOptions {
  bool compare_speed = true;                    // 1024^3 against the shared_tile variant
  std::function<void(shaders::Shader&)> alter;  // changes a cooperative kernel first (tests)
};

// Why the device had better do without this target's cooperative matrices, in words, or empty.
// Products of f16 operands in every layout, with edges that fill no matrix, loaded in runs and one by
// one, are held against the double interpreter: f32 sums of 104 terms in [-1, 1] may differ by 5e-4,
// sums in f16 differ by ten times that. A driver or a compiler that fails on the way counts as wrong,
// matrices that fit no tile as of no use.
std::string cooperative_fault(Device& device, const graph::Target& target, const CooperativeCheckOptions& options = {});

}  // namespace surtsey::engine
