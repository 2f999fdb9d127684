// Measures which tile a product gets on a device: what `surtsey tune` does for each product of a
// model.
#pragma once

#include "engine/session.h"
#include "graph/plan.h"

#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments {

// One product with its operands stored as `shape` says: parameters "a" and "b", output "c".
graph::Program product_program(const graph::MatmulShape& shape);

// Compares elements spread over the product of `a` and `b` with sums in double: empty, or the first
// one that is wrong.
std::string wrong_element(const graph::MatmulShape& shape, const graph::HostTensor& a,
                          const graph::HostTensor& b, const std::vector<float>& result);

// The products of a plan whose tile can be chosen, each shape once, the most arithmetic first.
struct PlannedProduct {
  graph::MatmulShape shape;
  int64_t kernels = 0;  // of the plan
};
std::vector<PlannedProduct> planned_products(const graph::Plan& plan, const graph::Target& target);

struct TileTrial {
  graph::MatmulTile tile;
  double median_ns = 0;
  double ratio = 0;      // of its time to the default's; 0 when it was given up early or rejected
  std::string rejected;  // why it cannot be chosen, empty when it can
};

struct TunedProduct {
  graph::MatmulShape shape;
  std::vector<TileTrial> trials;  // the default first
  size_t best = 0;
};

struct TuneOptions {
  int64_t rounds = 9;  // samples of each candidate, which take turns
  double sample_ns = 2e6;
  double margin = 0.03;  // a candidate must be this much faster than the default to replace it
  // Changes the shader of a candidate before it is compiled (tests).
  std::function<void(size_t candidate, shaders::Shader&)> alter;
};

// Every candidate must agree with sums in double and, bit for bit, with the default tile: a choice
// changes how long a run takes and nothing else. InternalError when the default itself is wrong.
TunedProduct tune_product(engine::Device& device, const graph::Target& target,
                          const graph::MatmulShape& shape, const TuneOptions& options = {});

}  // namespace surtsey::experiments
