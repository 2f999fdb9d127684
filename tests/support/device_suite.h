// Programs on the device against the double interpreter.
#pragma once

#include "experiments/kernels/device_check.h"
#include "graph/interpret.h"

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::tests {

// The device of the suite, opened once: SURTSEY_DEVICE and the other variables decide. Null when there is none.
engine::Device* suite_device();

// The test at hand needs a device: skips, loudly, when there is none.
#define SURTSEY_NEED_DEVICE()                                                                                   \
  surtsey::engine::Device* const device_pointer = surtsey::tests::suite_device();                               \
  if (device_pointer == nullptr) SKIP("no Vulkan device: install a driver (mesa-vulkan-drivers has lavapipe)"); \
  surtsey::engine::Device& device = *device_pointer

using experiments::run_on_device;
using experiments::Tolerance;
using experiments::Variant;
using experiments::variants;

// Where the device's values leave the reference: empty when they do not.
std::string compare(const graph::HostTensor& device, const graph::HostTensor& reference, Tolerance tolerance);

// One run with other compiler options than the defaults; outputs only.
std::map<std::string, graph::HostTensor> run_compiled(engine::Device& device, const graph::Target& target,
                                                      const graph::Program& program, const graph::State& state,
                                                      const graph::CompileOptions& compile);

// The program that a plan computes, for the interpreter: what the plan stores in 16 bits is rounded by casts, and so
// are weights where matmuls read their copies. (A kernel that goes on with a value that it also stores has it
// unrounded.)
graph::Program as_stored(const graph::Plan& plan);

// ||a - b|| / ||b||, Frobenius.
double relative_error(const graph::HostTensor& a, const graph::HostTensor& b);

}  // namespace surtsey::tests
