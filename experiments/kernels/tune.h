// Measures how the kernels of a model are best cut on a device: what `surtsey tune` does for each
// product and each reduction of a plan, as the plan has them, with all that is fused into them.
#pragma once

#include "engine/session.h"
#include "graph/plan.h"

#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace surtsey::experiments {

// One product with its operands stored as `shape` says: parameters "a" and "b", output "c".
graph::Program product_program(const graph::MatmulShape& shape, graph::DType storage = graph::DType::f32);

// What is chosen, and for what.
using Choice = std::variant<graph::MatmulTile, graph::ReduceTile>;
using ChoiceShape = std::variant<graph::MatmulShape, graph::ReduceShape>;

// All there is to choose from, the default first; and the target with this choice and no other.
std::vector<Choice> candidates(const ChoiceShape& shape, const graph::Target& target);
graph::Target with_choice(graph::Target target, const ChoiceShape& shape, const Choice& choice);

// The kernels of a plan that can be cut in several ways, equal ones once, the most work first.
struct PlannedKernel {
  uint32_t kernel = 0;     // into Plan::kernels: the first of them
  ChoiceShape shape;       // of this kernel alone (shaders::kernel_hash)
  int64_t dispatches = 0;  // of the plan
};
std::vector<PlannedKernel> planned_kernels(const graph::Plan& plan, const graph::Target& target);

struct Trial {
  Choice choice;
  double median_ns = 0;
  double ratio = 0;      // of its time to the default's; 0 when it was given up early or rejected
  std::string rejected;  // why it cannot be chosen, empty when it can
};

struct TunedKernel {
  std::string name;  // of the kernel
  ChoiceShape shape;
  std::vector<Trial> trials;  // the default first
  size_t best = 0;
};

struct TuneOptions {
  int64_t rounds = 9;  // samples of each candidate, which take turns
  double sample_ns = 2e6;
  double margin = 0.03;  // a candidate must be this much faster than the default to replace it
  // Kernels of more operations are held against the default alone: the interpreter would take
  // minutes.
  double most_interpreted = 4e9;
  // Changes the shader of a candidate before it is compiled (tests).
  std::function<void(size_t candidate, shaders::Shader&)> alter;
};

// Every candidate must agree with the double interpreter, and with the default bit for bit unless
// it adds up in another order (shaders::same_order), as reductions may: a tile of a product changes
// how long a run takes and nothing else. InternalError when the default itself is wrong.
TunedKernel tune_kernel(engine::Device& device, const graph::Target& target, const graph::Plan& plan,
                        const PlannedKernel& kernel, const TuneOptions& options = {});

}  // namespace surtsey::experiments
