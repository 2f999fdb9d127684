// The comparison with PyTorch (tests/golden/make.py), for any way of running a program.
#pragma once

#include "graph/interpret.h"

#include <functional>
#include <map>
#include <span>
#include <string>

namespace surtsey::tests {

// Runs a program once: reads parameters from the state (which may hold more than the program
// names), applies the assignments to it, returns the outputs. interpret() is one; a device is
// another.
using Runner = std::function<std::map<std::string, graph::HostTensor>(const graph::Program&, graph::State&)>;

struct GoldenTolerance {
  double tensor = 1e-4;    // Frobenius norm of the difference over that of the reference
  double loss = 1e-5;      // relative
  double absolute = 1e-7;  // for gradients that vanish: below 1e-7 of the global norm
};

std::span<const char* const> golden_names();

// Logits, loss, every gradient, the losses of ten AdamW steps and the parameters after them.
// Catch2 assertions; INFO names the tensor.
void check_golden(const std::string& name, const Runner& run, const GoldenTolerance& tolerance);

}  // namespace surtsey::tests
