// The compiler's recipe: a program becomes a plan.
#pragma once

#include "graph/passes/passes.h"
#include "graph/plan.h"

#include <functional>

namespace surtsey::graph {

struct CompileOptions {
  std::string name = "program";
  DType storage = DType::f32;  // of activations: f32, f16 or bf16; see lower_precision()
  MemoryLimit memory = {};     // see fit_memory()
  // Called after each pass with its name and the text of what it left behind: a program, kernels in the making, or the
  // plan. The text is empty where the pass changed nothing.
  std::function<void(const char* pass, const std::string& text)> observe = {};
};

// The passes, in this order:
//   on the program   simplify, claim_regions, decompose, simplify, join_pads       (passes.h)
//   on kernels       fuse, lower_precision, place_state, place_concats, place_transients, order       (lowering.h)
//   on the plan      build_plan, fit_memory, place_barriers       (plan.h, lowering.h)
// What each leaves behind is verified: InternalError, which is a fault of the pass before it. UserError when a tensor
// or a kernel cannot be made to fit the target.
Plan compile(const Program& program, const Target& target, const CompileOptions& options = {});

}  // namespace surtsey::graph
