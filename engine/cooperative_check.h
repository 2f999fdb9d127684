// Cooperative matrices are believed only where they are right and pay: some drivers offer them with
// wrong sums, others compute them a thousand times slower than plain arithmetic.
#pragma once

#include "engine/device.h"
#include "shaders/shader.h"

#include <functional>
#include <optional>
#include <string>

namespace surtsey::engine {

struct CooperativeCheckOptions {
  bool compare_speed = true;                    // 1024^3 in three layouts against the shared_tile variant
  std::function<void(shaders::Shader&)> alter;  // changes a cooperative kernel first (tests)
};

// What a device's matrices are good for.
struct MatrixVerdict {
  bool right = true;    // else no kernel uses them, asked for or not
  std::string against;  // why kernels do without them unless they are asked for, in words; empty: they use them
  bool operator==(const MatrixVerdict&) const = default;
};

// The verdict on this target's cooperative matrices.
// Products of f16 operands in every layout, with edges that fill no matrix, loaded in runs and one by
// one, are held against the double interpreter: f32 sums of 104 terms in [-1, 1] may differ by 5e-4,
// sums in f16 differ by ten times that. A driver or a compiler that fails on the way counts as wrong,
// matrices that fit no tile as of no use. Those that are right and slow are left to whoever asks for them.
MatrixVerdict judge_matrices(Device& device, const graph::Target& target, const CooperativeCheckOptions& options = {});

// Products that take so many times as long with matrices as without: why not to use them, or empty where the gain is
// clear.
std::string slow_products(double ratio);

// The same, decided once for a device and its driver's version and kept in that folder (empty: nothing is), as a timing
// near the limit would give other kernels, and other bits, from one run to the next.
MatrixVerdict kept_or_judged(Device& device, const graph::Target& target, const std::string& directory);

// The target as that verdict has it.
graph::Target with_verdict(graph::Target target, const MatrixVerdict& verdict);

// What is kept there, for the device and driver that tile_identity() names.
std::optional<MatrixVerdict> kept_verdict(const std::string& directory, const std::string& who,
                                          const graph::Target& target);
void keep_verdict(const std::string& directory, const std::string& who, const graph::Target& target,
                  const MatrixVerdict& verdict);

}  // namespace surtsey::engine
