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
  // Called after each graph pass with its name, the program before and after it.
  std::function<void(const char* pass, const Program& before, const Program& after)> observe = {};
};

// simplify, claim_regions, decompose, join_pads, fuse, lower_precision, place_stores, order, plan_memory,
// place_barriers. UserError when a kernel cannot be made to fit the target.
Plan compile(const Program& program, const Target& target, const CompileOptions& options = {});

}  // namespace surtsey::graph
