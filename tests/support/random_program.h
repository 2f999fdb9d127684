// Random small programs: views, elementwise work, reductions, matmuls, concats, gathers, gradients and state, from a
// seed.
#pragma once

#include "graph/autodiff.h"
#include "graph/functions.h"
#include "graph/interpret.h"
#include "tests/support/draw.h"

#include <optional>
#include <string>
#include <vector>

namespace surtsey::tests {

// A view of x other than x, of at most a few hundred elements.
graph::Value random_view(Draw& draw, graph::Value x, double padding);

struct RandomProgram {
  graph::Program program;
  graph::State state;
};

// Values stay small, and no value jumps where rounding could decide.
RandomProgram random_program(uint32_t seed);

}  // namespace surtsey::tests
